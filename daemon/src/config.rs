//! The configuration: defaults, then `freshline.toml`, then `FRESHLINE__SECTION__FIELD`, then flags.
//!
//! [`Layers`] holds what was written, with the place of every value. A binary takes each section that it uses with
//! [`Layers::section`], checks it, and collects everything that is wrong in one [`Problems`]; it starts only if that
//! stays empty. Tables of the catalog (`[[group]]`, `[[rule]]`, `[catalog]`) are known by name and left to the catalog.

mod effective;
mod environment;
mod layers;
mod mysql_url;
mod place;
mod problems;
mod sections;
mod suggest;
mod url;
mod values;

pub use effective::Effective;
pub use layers::Layers;
pub use problems::Problems;
pub use sections::{
    BinlogSource, ClientSection, Cluster, Database, FixedMember, KafkaFormat, KafkaFormats, KafkaSource,
    LogFormat, Properties, ReadFrom, Telemetry, is_host_port,
};
pub use suggest::suggest;
pub use url::{DatabaseUrl, mask_url};
pub use values::{ByteSize, Secret, duration};
