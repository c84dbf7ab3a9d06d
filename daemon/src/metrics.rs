//! The registry that modules register their metrics in, and what every process says about itself.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
pub use prometheus_client;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};

mod process;

/// The content type of [`encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A registry shared by what registers and what serves it. The lock is held only to register and to encode.
pub type SharedRegistry = Arc<Mutex<Registry>>;

/// A registry with the prefix `freshline_`, the build's version and the process's own figures.
///
/// Make one per process: parts that live in it register side by side.
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix("freshline");
    registry.register("build", "The running build", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    registry.register_collector(Box::new(Process { started: SystemTime::now() }));
    registry
}

/// The same, ready to be shared.
pub fn shared() -> SharedRegistry {
    Arc::new(Mutex::new(registry()))
}

/// All metrics as `OpenMetrics` text.
pub fn encode(registry: &SharedRegistry) -> Result<String, fmt::Error> {
    let mut body = String::new();
    text::encode(&mut body, &registry.lock())?;
    Ok(body)
}

#[derive(Debug)]
struct Process {
    started: SystemTime,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let started =
            ConstGauge::new(self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        started.encode(encoder.encode_descriptor(
            "process_start_time",
            "When the process started, in seconds since 1970",
            Some(&Unit::Seconds),
            started.metric_type(),
        )?)?;
        if let Some(resident) = process::resident_bytes() {
            let resident = ConstGauge::new(i64::try_from(resident).unwrap_or(i64::MAX));
            resident.encode(encoder.encode_descriptor(
                "process_resident_memory",
                "Memory that the process holds",
                Some(&Unit::Bytes),
                resident.metric_type(),
            )?)?;
        }
        if let Some(cpu) = process::cpu_seconds() {
            let cpu = ConstCounter::new(cpu);
            cpu.encode(encoder.encode_descriptor(
                "process_cpu",
                "Processor time used, user and system",
                Some(&Unit::Seconds),
                cpu.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_the_build_and_ends_as_openmetrics_does() {
        let text = encode(&shared()).unwrap();
        assert!(
            text.contains(&format!("freshline_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))),
            "{text}"
        );
        assert!(text.contains("freshline_process_start_time_seconds "), "{text}");
        #[cfg(target_os = "linux")]
        assert!(text.contains("freshline_process_resident_memory_bytes "), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
