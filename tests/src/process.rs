//! Freshline's own binaries as real processes: started, asked for readiness, stopped, killed, paused.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use crate::wait;

/// A running binary; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Mutex<Child>,
    log: PathBuf,
    /// `host:port` of its admin port.
    http: String,
}

impl Process {
    /// Starts `binary` with `config`; its output goes to `<dir>/<name>.log`. `http` is its admin port.
    pub fn start(binary: &str, name: &str, dir: &Path, config: &Path, http: u16) -> Process {
        let command = Command::new(binaries().join(binary));
        Process::run(command, name, dir, config, format!("127.0.0.1:{http}"))
    }

    /// Starts `command`, which runs one of the binaries in whatever surroundings it needs; `http` is where its admin port will be reached.
    pub fn run(mut command: Command, name: &str, dir: &Path, config: &Path, http: String) -> Process {
        let log = dir.join(format!("{name}.log"));
        let output =
            File::options().create(true).append(true).open(&log).expect("the test's folder can be written");
        let child = command
            .arg("--config")
            .arg(config)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file handle can be cloned"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("start {name}: {error}"));
        Process { name: name.to_owned(), child: Mutex::new(child), log, http }
    }

    /// Waits until `/readyz` says yes; not for one that has ended.
    pub async fn ready(&self) {
        wait::until(&format!("{} to be ready", self.name), Duration::from_mins(1), async || {
            let ended = self.ended();
            assert!(ended.is_none(), "{} ended before it was ready: {ended:?}", self.name);
            self.probe("/readyz").await
        })
        .await;
    }

    /// With what it ended, if it has.
    fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("the child can be asked")
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// GETs a path of the admin port; `Err` holds what was wrong.
    pub async fn probe(&self, path: &str) -> Result<String, String> {
        let url = format!("http://{}{path}", self.http);
        tokio::task::spawn_blocking(move || {
            let mut reply = ureq::get(&url)
                .config()
                .timeout_global(Some(Duration::from_secs(5)))
                .build()
                .call()
                .map_err(|e| e.to_string())?;
            reply.body_mut().read_to_string().map_err(|e| e.to_string())
        })
        .await
        .expect("the probe does not panic")
    }

    /// What `/readyz` says, ready or not.
    pub async fn readiness(&self) -> serde_json::Value {
        let url = format!("http://{}/readyz", self.http);
        let read = move || {
            let config = ureq::get(&url).config().http_status_as_error(false);
            let mut reply = config.timeout_global(Some(Duration::from_secs(5))).build().call().ok()?;
            serde_json::from_str(&reply.body_mut().read_to_string().ok()?).ok()
        };
        tokio::task::spawn_blocking(read).await.expect("the probe does not panic").unwrap_or_default()
    }

    /// The value of a metric, summed over its labels; 0 if it is not there.
    pub async fn metric(&self, name: &str) -> f64 {
        let text =
            self.probe("/metrics").await.unwrap_or_else(|error| panic!("metrics of {}: {error}", self.name));
        text.lines()
            .filter(|line| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// `host:port` of its HTTP service.
    pub fn http(&self) -> &str {
        &self.http
    }

    /// Sends a signal by its name, such as `TERM`, `KILL`, `STOP` or `CONT`.
    pub fn signal(&self, signal: &str) {
        let done = Command::new("kill").arg(format!("-{signal}")).arg(self.child().id().to_string()).status();
        assert!(done.is_ok_and(|status| status.success()), "kill -{signal} {}", self.name);
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(self) {
        drop(self);
    }

    /// Asks the process to stop and waits for it. Returns whether it left with exit code 0.
    pub async fn stop(self) -> bool {
        self.signal("TERM");
        let (status, _) =
            wait::until(&format!("{} to stop", self.name), Duration::from_secs(30), async || {
                self.ended().ok_or("still running")
            })
            .await;
        status.success()
    }

    /// All that the process has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
        drop(child);
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- last lines of {}:\n{}",
                self.name,
                lines[lines.len().saturating_sub(25)..].join("\n")
            );
        }
    }
}

/// The folder of our binaries: `FRESHLINE_BIN_DIR`, where `./test.sh` has just built them; else the profile's folder that this test lies
/// in, after a build of the binaries into it.
pub fn binaries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("FRESHLINE_BIN_DIR") {
            return folder.into();
        }
        let test = std::env::current_exe().expect("the test's own path is known");
        let folder = test.ancestors().nth(2).expect("a test lies in <profile>/deps").to_owned();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "--locked",
            "--bins",
            "-p",
            "cache-node",
            "-p",
            "sync-service",
            "-p",
            "freshline",
        ]);
        cargo.arg("--target-dir").arg(folder.parent().expect("a profile's folder lies in the target folder"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let done = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
        assert!(done.success(), "cargo build of the binaries failed");
        folder
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic(expected = "false ended before it was ready: Some(ExitStatus(unix_wait_status(256)))")]
    async fn nobody_waits_for_a_process_that_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let address = "127.0.0.1:1".to_owned();
        Process::run(Command::new("false"), "false", dir.path(), dir.path(), address).ready().await;
    }
}
