//! File descriptors: each connection is one, and a process that has none left answers nobody, `/readyz` included.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is kept for everything but callers: the database, other nodes, etcd, Kafka, logs, the runtime itself.
pub const RESERVE: u64 = 256;

/// How many files this process may have open, after the soft limit was raised to the hard one.
///
/// Systems give a process 1024 by default, for the sake of programs that use `select`, and let it have many more.
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "could not raise the limit of open files to what the system allows");
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many connections each port may have, so that all together fit into `limit` with [`RESERVE`] left: as wanted, or each its share.
pub fn fit<const N: usize>(limit: u64, wanted: [usize; N]) -> [usize; N] {
    let all = wanted.iter().map(|wanted| *wanted as u128).sum::<u128>();
    let left = u128::from(limit.saturating_sub(RESERVE).max(limit / 2));
    if all <= left {
        return wanted;
    }
    wanted.map(|wanted| usize::try_from(wanted as u128 * left / all).unwrap_or(wanted).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_share_what_the_reserve_leaves() {
        assert_eq!(fit(1 << 20, [10_000, 10_000, 1_000]), [10_000, 10_000, 1_000]);
        assert_eq!(fit(1_256, [10_000, 10_000, 0]), [500, 500, 1]);
        assert_eq!(fit(300, [usize::MAX, 1]), [149, 1], "half of few");
        assert_eq!(fit(u64::MAX, [1 << 40]), [1 << 40]);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        assert_eq!(Some(raise()), getrlimit(Resource::Nofile).maximum.or(Some(u64::MAX)));
    }
}
