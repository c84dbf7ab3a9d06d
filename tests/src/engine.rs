//! Whether a container engine is there, and whether the tests may do without one.

use std::process::{Command, Stdio};

/// What the run was told about containers, by the environment variable `FRESHLINE_CONTAINERS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// `off`: leave container tests out and say so.
    Off,
    /// `required`: a missing engine is a failure. `./test.sh` sets this.
    Required,
    /// Not set: run them if an engine answers, else say that they are skipped.
    IfPresent,
}

/// Why container tests can run or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// An engine answers.
    Present,
    /// There is none, or it is switched off; the text says so to whoever runs the tests.
    Skip(String),
    /// There is none, and this run must have one.
    Missing(String),
}

/// Reads `FRESHLINE_CONTAINERS`.
///
/// # Panics
///
/// If the variable holds another word than the ones above: a typing mistake must not switch tests off.
pub fn policy() -> Policy {
    match std::env::var("FRESHLINE_CONTAINERS").as_deref() {
        Err(_) | Ok("") => Policy::IfPresent,
        Ok("off") => Policy::Off,
        Ok("required") => Policy::Required,
        Ok(other) => panic!("FRESHLINE_CONTAINERS is `{other}`; write `off` or `required`, or leave it out"),
    }
}

/// Asks the engine for its version.
pub fn find() -> Engine {
    let policy = policy();
    if policy == Policy::Off {
        return Engine::Skip("container tests are switched off (FRESHLINE_CONTAINERS=off)".to_owned());
    }
    let answer = Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .stdin(Stdio::null())
        .output();
    let why = match answer {
        Ok(output) if output.status.success() => return Engine::Present,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let text = format!(
        "no container engine answers ({why}); run `deploy/images/engine.sh && deploy/images/build.sh` first"
    );
    if policy == Policy::Required { Engine::Missing(text) } else { Engine::Skip(text) }
}
