//! The images of the servers: an environment variable each, else the names in `deploy/images/versions.env`.

use testcontainers::GenericImage;

/// MySQL.
pub const MYSQL: &str = "FRESHLINE_MYSQL_IMAGE";
/// Kafka.
pub const KAFKA: &str = "FRESHLINE_KAFKA_IMAGE";
/// Canal.
pub const CANAL: &str = "FRESHLINE_CANAL_IMAGE";
/// etcd.
pub const ETCD: &str = "FRESHLINE_ETCD_IMAGE";

/// `MariaDB`.
pub const MARIADB: &str = "FRESHLINE_MARIADB_IMAGE";
/// Kafka Connect with Debezium's connectors.
pub const DEBEZIUM: &str = "FRESHLINE_DEBEZIUM_IMAGE";
/// Maxwell.
pub const MAXWELL: &str = "FRESHLINE_MAXWELL_IMAGE";

const VERSIONS: &str = include_str!("../../deploy/images/versions.env");

/// The image of one of the servers above.
pub fn image(variable: &str) -> GenericImage {
    let local = || {
        let line = VERSIONS.lines().find_map(|line| line.strip_prefix(variable)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("deploy/images/versions.env does not name {variable}")).to_owned()
    };
    let name = std::env::var(variable).unwrap_or_else(|_| local());
    let (name, tag) = name.rsplit_once(':').unwrap_or((&name, "latest"));
    GenericImage::new(name, tag)
}
