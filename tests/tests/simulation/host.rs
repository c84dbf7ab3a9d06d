//! A machine: a tokio runtime with a clock of its own, which goes on only when it is stepped.
//!
//! The runtime's clock is paused, and each step lets it run one millisecond: all that is ready runs, timers fire in their order. A host
//! that is not stepped is frozen, as a process under SIGSTOP is: its tasks don't run, its timers don't fire, what is sent to it waits in
//! its sockets. When it goes on its clock jumps over what it missed, and every timer that ended meanwhile fires late, all at once.

use std::time::Duration;

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::{Instant, advance, sleep, sleep_until},
};

use crate::clock::{self, Millis, Party};

/// The length of a step.
pub(crate) const STEP: Duration = Duration::from_millis(1);

/// One machine, from its start to its end.
pub(crate) struct Host {
    pub(crate) party: Party,
    runtime: Runtime,
    main: JoinHandle<()>,
    /// Where the clock stands.
    at: Instant,
    /// Until when it is frozen.
    frozen: Option<Millis>,
    missed: Duration,
}

impl Host {
    /// Starts `main` on a new machine.
    pub(crate) fn start(party: Party, main: impl Future<Output = ()> + Send + 'static) -> Self {
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        // To a full millisecond, to which timers are rounded.
        let at = runtime.block_on(async {
            sleep(STEP).await;
            Instant::now()
        });
        let main = runtime.spawn(main);
        Self { party, runtime, main, at, frozen: None, missed: Duration::ZERO }
    }

    /// Lets one millisecond pass; says whether the machine's main task goes on.
    pub(crate) fn step(&mut self) -> bool {
        if let Some(until) = self.frozen {
            self.missed += STEP;
            if clock::now() < until {
                return true;
            }
            self.frozen = None;
            let missed = std::mem::take(&mut self.missed);
            self.at += missed.saturating_sub(STEP);
            clock::run_as(Some(self.party));
            // What was ready when it was frozen runs first, by the clock of now; then the timers.
            self.runtime.block_on(advance(missed.saturating_sub(STEP)));
        }
        self.at += STEP;
        clock::run_as(Some(self.party));
        let until = self.at;
        self.runtime.block_on(async move { sleep_until(until).await });
        clock::run_as(None);
        !self.main.is_finished()
    }

    /// Freezes it until a time; one that is frozen already stays so at least as long.
    pub(crate) fn freeze(&mut self, until: Millis) {
        self.frozen = self.frozen.max(Some(until));
    }

    /// Ends a freeze.
    pub(crate) fn thaw(&mut self) {
        self.frozen = self.frozen.map(|_| clock::now());
    }
}
