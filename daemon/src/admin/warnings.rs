//! What keeps no process from its work and a person should know all the same: shown by `/readyz`, logged when it begins.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

/// Warnings by what they are about. Clones share one state. Bounded by the names that the code uses.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<BTreeMap<&'static str, Warning>>>);

#[derive(Debug)]
struct Warning {
    text: String,
    /// When it goes by itself, unless it comes again.
    until: Option<Instant>,
}

impl Warnings {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what is to be said about `what`, or that there is nothing any more. Each change is logged once.
    pub fn set(&self, what: &'static str, text: Option<String>) {
        let mut all = self.0.lock();
        match text {
            Some(text) => Self::say(&mut all, what, text, None),
            None => {
                if all.remove(what).is_some() {
                    info!(what, "the warning is over");
                }
            }
        }
    }

    /// Says something about an event: it stands for `lasting` after the last time, and is logged once while it stands.
    pub fn note(&self, what: &'static str, text: String, lasting: Duration) {
        let mut all = self.0.lock();
        let now = Instant::now();
        if all.get(what).is_some_and(|warning| warning.until.is_some_and(|until| until < now)) {
            all.remove(what);
        }
        if let Some(standing) = all.get_mut(what).filter(|warning| warning.until.is_some()) {
            // The words of the first stand: each caller of many has its own.
            standing.until = Some(now + lasting);
            return;
        }
        Self::say(&mut all, what, text, Some(now + lasting));
    }

    /// What there is to say now.
    pub fn all(&self) -> BTreeMap<String, String> {
        let now = Instant::now();
        let all = self.0.lock();
        let standing = all.iter().filter(|(_, warning)| warning.until.is_none_or(|until| now <= until));
        standing.map(|(what, warning)| ((*what).to_owned(), warning.text.clone())).collect()
    }

    fn say(
        all: &mut BTreeMap<&'static str, Warning>,
        what: &'static str,
        text: String,
        until: Option<Instant>,
    ) {
        if all.get(what).is_none_or(|standing| standing.text != text) {
            warn!(what, "{text}");
        }
        all.insert(what, Warning { text, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_note_goes_by_itself_and_a_warning_stands_until_it_is_taken_back() {
        let warnings = Warnings::new();
        warnings.set("replicas", Some("1 here, 2 there".to_owned()));
        warnings.note("members", "another list".to_owned(), Duration::from_mins(1));
        warnings.note("members", "another list, of another caller".to_owned(), Duration::from_mins(1));
        let all = warnings.all();
        assert_eq!(all.len(), 2);
        assert_eq!(all["members"], "another list", "the first words stand");
        tokio::time::advance(Duration::from_mins(2)).await;
        assert_eq!(warnings.all().keys().collect::<Vec<_>>(), ["replicas"]);
        warnings.note("members", "again".to_owned(), Duration::from_mins(1));
        assert_eq!(warnings.all()["members"], "again");
        warnings.set("replicas", None);
        assert_eq!(warnings.all().len(), 1);
    }
}
