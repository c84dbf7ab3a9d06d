//! Logging: one subscriber per process, to standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{LogFormat, Telemetry};

/// Starts logging to standard error; a second call changes nothing.
///
/// Text is coloured only on a terminal, and not if `NO_COLOR` is set to anything.
///
/// # Errors
///
/// A filter that can't be read, with its reason.
pub fn init(config: &Telemetry) -> anyhow::Result<()> {
    let filter = filter(&config.log).map_err(|error| anyhow::anyhow!("telemetry.log: {error}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    // The only error is that a subscriber is set: by an earlier call, or by the application that embeds us.
    let _ = match config.format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry.with(layer.compact().with_ansi(colours())).try_init(),
    };
    Ok(())
}

/// Reads a filter such as `info` or `info,ring=debug`.
pub(crate) fn filter(log: &str) -> Result<EnvFilter, String> {
    let remedy = "write a level (error, warn, info, debug, trace) or levels per module: \"info,ring=debug\"";
    let mut filter = EnvFilter::new("");
    for directive in log.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        // A word that is no level would be taken for a module whose every event is wanted.
        let level = directive.rsplit('=').next().unwrap_or(directive);
        if level.is_empty() || level.parse::<tracing_subscriber::filter::LevelFilter>().is_err() {
            return Err(format!("`{directive}` is not a filter, {remedy}"));
        }
        filter = filter.add_directive(
            directive
                .parse()
                .map_err(|error| format!("`{directive}` is not a filter ({error}), {remedy}"))?,
        );
    }
    Ok(filter)
}

fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_mean_nothing_are_refused() {
        for good in ["info", "warn,ring=debug", "off", "info, client::peers=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["infoo", "ring=loud", "info,ring=", "info;debug"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn starting_twice_is_harmless() {
        init(&Telemetry::default()).unwrap();
        init(&Telemetry { format: LogFormat::Json, ..Telemetry::default() }).unwrap();
    }
}
