//! The machine's cores: how many, who may use which, how busy threads kept one.

use std::{fs, process::Command, process::Stdio, time::Duration};

/// Ticks per second of the times in `/proc`, on every Linux that runs containers.
const TICKS: u64 = 100;

/// How many cores there are.
pub(crate) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The core of what is measured.
pub(crate) const MEASURED: usize = 0;

/// The core of everything else.
pub(crate) const OTHERS: usize = 1;

/// Keeps the calling thread, and what it spawns from now on, on one core. `false` where that can't be: one core alone, or no `taskset`.
pub(crate) fn keep_to(core: usize) -> bool {
    if count() < 2 {
        return false;
    }
    // `/proc/thread-self` is `<process>/task/<thread>`.
    let Ok(link) = fs::read_link("/proc/thread-self") else { return false };
    let Some(thread) = link.file_name().and_then(|name| name.to_str()) else { return false };
    let done = Command::new("taskset")
        .args(["-pc", &core.to_string(), thread])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    done.is_ok_and(|status| status.success())
}

/// Keeps a container on one core; `false` where that can't be.
pub(crate) fn keep_container_to(core: usize, container: &str) -> bool {
    if count() < 2 {
        return false;
    }
    let done = Command::new("docker")
        .args(["update", "--cpuset-cpus", &core.to_string(), container])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    done.is_ok_and(|status| status.success())
}

/// The processor time so far of this process's living threads that are kept to `core`.
pub(crate) fn used(core: usize) -> Duration {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let ticks: u64 = threads
        .filter_map(|thread| {
            let folder = thread.ok()?.path();
            let status = fs::read_to_string(folder.join("status")).ok()?;
            let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
            (allowed.trim() == core.to_string()).then_some(())?;
            let stat = fs::read_to_string(folder.join("stat")).ok()?;
            // After the name, which may hold anything in parentheses: user time is the 12th field, system time the 13th.
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
            Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
        })
        .sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// The load of the last minute.
pub(crate) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// What the figures were taken on.
pub(crate) fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        info.lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| line.split(": ").nth(1))
            .map(str::trim)
    };
    let model = field("model name").unwrap_or("unknown processor");
    let megahertz = field("cpu MHz")
        .map(|mhz| format!(" at {:.0} MHz", mhz.parse().unwrap_or(0.0_f64)))
        .unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let kib: f64 = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?
            .split_whitespace()
            .next()?
            .parse()
            .ok()?;
        Some(format!(", {:.0} GiB", kib / 1024.0 / 1024.0))
    });
    format!("{} cores ({model}{megahertz}){}", count(), memory.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_kept_to_a_core_is_counted_there() {
        std::thread::spawn(|| {
            if !keep_to(OTHERS) {
                return; // one core, or no taskset
            }
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_millis(60) {
                std::hint::spin_loop();
            }
            assert!(used(OTHERS) > Duration::ZERO);
        })
        .join()
        .unwrap();
    }
}
