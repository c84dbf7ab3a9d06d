//! The images of the servers, each by an environment variable, else the one that `deploy/images/build.sh` makes.

use testcontainers::GenericImage;

/// MySQL 9.7, `FRESHLINE_IMAGE_MYSQL`.
pub const MYSQL: (&str, &str) = ("FRESHLINE_IMAGE_MYSQL", "freshline/mysql:9.7");
/// Kafka 4.1, `FRESHLINE_IMAGE_KAFKA`.
pub const KAFKA: (&str, &str) = ("FRESHLINE_IMAGE_KAFKA", "freshline/kafka:4.1");
/// Canal 1.1.8, `FRESHLINE_IMAGE_CANAL`.
pub const CANAL: (&str, &str) = ("FRESHLINE_IMAGE_CANAL", "freshline/canal:1.1.8");
/// etcd 3.5, `FRESHLINE_IMAGE_ETCD`.
pub const ETCD: (&str, &str) = ("FRESHLINE_IMAGE_ETCD", "freshline/etcd:3.5");

/// The image to run for one of the servers above.
pub fn image((variable, default): (&str, &str)) -> GenericImage {
    let name = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    let (name, tag) = name.rsplit_once(':').unwrap_or((&name, "latest"));
    GenericImage::new(name, tag)
}
