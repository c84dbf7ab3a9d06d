//! Verify all the time, a few entries in a second, as a task of the sync service.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use catalog::Catalog;
use client::{Client, History};
use daemon::config::{Database, Layers, Problems};
use futures_util::StreamExt as _;
use loader::{Limits, Loader, RowSource};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{AGES, Checker, Followed, Plan, Sampler, Stale, followed};

/// Most database reads that run at one time, whatever `[database]` allows the nodes.
const READS: usize = 2;
/// Events of a stale key's story that its log line tells.
const TOLD: usize = 12;

/// `[sync.verify]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Entries that each instance compares with the database in a second; 0 is off. Default 0.
    pub rate: f64,
    /// Groups to take them from; empty for all. Default `[]`.
    pub groups: Vec<String>,
    /// Whether stale keys are removed from all nodes. Default false.
    pub repair: bool,
}

impl Settings {
    /// Whether anything is to be compared.
    pub fn is_on(&self) -> bool {
        self.rate > 0.0
    }

    /// Pushes what is wrong beyond single fields.
    pub fn check(&self, layers: &Layers, problems: &mut Problems) {
        if !(0.0..=100_000.0).contains(&self.rate) {
            problems.push(format!(
                "{}: is {}, write how many entries to compare in a second, like 1.0; 0 for none",
                layers.place("sync.verify.rate"),
                self.rate
            ));
        }
    }

    /// Pushes groups that the catalog does not have.
    pub fn check_groups(&self, catalog: &Catalog, layers: &Layers, problems: &mut Problems) {
        for name in self.groups.iter().filter(|name| catalog.group(name).is_none()) {
            problems.push(format!(
                "{}: no [[group]] is called `{name}`, correct the name or leave it out",
                layers.place("sync.verify.groups")
            ));
        }
    }
}

/// The steady task. [`run`](Self::run) it.
pub struct Watch {
    checker: Checker,
    source: Arc<dyn RowSource>,
    settings: Settings,
    ages: Vec<Duration>,
    metrics: Metrics,
}

impl Watch {
    /// Puts the task together; its metrics are registered under `verify`. The database is opened, not connected to.
    ///
    /// # Errors
    ///
    /// A database URL that can't be used.
    pub fn new(
        settings: Settings,
        client: Client,
        database: &Database,
        catalog: &Arc<Catalog>,
        registry: &mut Registry,
    ) -> anyhow::Result<Self> {
        let database = Database { pool: database.pool.min(READS as u32), ..database.clone() };
        let source = loader::open(&database, catalog).context("open the database for [sync.verify]")?;
        let limits = Limits { max_fills: READS, ..Limits::from(&database) };
        let loader = Loader::new(source.clone(), limits, loader::Metrics::default());
        let checker = Checker::new(client, loader, catalog.clone());
        Ok(Self::over(checker, source, settings, AGES.to_vec(), registry))
    }

    /// The task over a checker at hand; `source` is waited for before it begins.
    pub fn over(
        checker: Checker,
        source: Arc<dyn RowSource>,
        settings: Settings,
        ages: Vec<Duration>,
        registry: &mut Registry,
    ) -> Self {
        let metrics = Metrics::register(registry.sub_registry_with_prefix("verify"), &ages);
        Self { checker, source, settings, ages, metrics }
    }

    /// Compares until `stop`. Waits for a database that is down; logs each stale key with its story.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! { biased;
            () = stop.cancelled() => {}
            () = self.compare() => {}
        }
    }

    async fn compare(&self) {
        if let Err(report) = self.source.ready().await {
            warn!(%report, "[sync.verify] does nothing: the database refuses the catalog's queries");
            return;
        }
        let Settings { rate, groups, repair } = self.settings.clone();
        info!(rate, repair, "comparing what is cached with the database");
        let plan = Plan { sample: None, groups: groups.clone(), rate, ages: self.ages.clone(), repair };
        let mut sampler = Sampler::endless(self.checker.client().clone(), groups);
        let done = followed(&self.checker, &mut sampler, &plan);
        let mut done = std::pin::pin!(done);
        while let Some((followed, stale)) = done.next().await {
            self.metrics.count(&followed, &self.ages);
            if let Followed::Failed { error, .. } = &followed {
                debug!(%error, "an entry could not be compared");
            }
            if let Some(stale) = stale {
                self.metrics.repaired.inc_by(u64::from(stale.repaired == Some(true)));
                tell(&stale);
            }
        }
    }
}

fn tell(stale: &Stale) {
    let verdict = stale.history.as_ref().map(|history| history.verdict.as_str()).unwrap_or_default();
    let story = stale.history.as_ref().map(story).unwrap_or_default();
    warn!(
        key = stale.key,
        node = stale.node,
        repaired = stale.repaired == Some(true),
        verdict,
        story,
        "stale: an entry is not what the database says"
    );
}

/// `2100ms b removed shop/0@42; 12300ms a filled from the database, in 1.0 ms`.
fn story(history: &History) -> String {
    let moments = history.timeline.iter().take(TOLD).map(|moment| {
        format!("{}ms {} {} {}", moment.age.as_millis(), moment.node, moment.what, moment.detail)
            .trim_end()
            .to_owned()
    });
    moments.collect::<Vec<_>>().join("; ")
}

#[derive(Clone, Debug, Default)]
struct Metrics {
    checked: Counter,
    inconsistent: Family<AgeLabel, Counter>,
    stale: Counter,
    repaired: Counter,
    failed: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AgeLabel {
    age: String,
}

fn label(age: Duration) -> AgeLabel {
    let millis = age.as_millis();
    AgeLabel {
        age: if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") },
    }
}

/// The first look, and the later ones.
fn looks(ages: &[Duration]) -> impl Iterator<Item = Duration> {
    std::iter::once(Duration::ZERO).chain(ages.iter().copied())
}

impl Metrics {
    fn register(registry: &mut Registry, ages: &[Duration]) -> Self {
        let metrics = Self::default();
        let all = metrics.clone();
        registry.register("checked", "Entries compared with the database", all.checked);
        registry.register(
            "inconsistent",
            "Entries that were not what the database says, by how long after the first look",
            all.inconsistent,
        );
        registry.register("stale", "Entries that were different at every look", all.stale);
        registry.register("repaired", "Stale keys that were removed from all nodes", all.repaired);
        registry.register("failed", "Entries that could not be compared", all.failed);
        for age in looks(ages) {
            metrics.inconsistent.get_or_create(&label(age)).inc_by(0);
        }
        metrics
    }

    fn count(&self, followed: &Followed, ages: &[Duration]) {
        let different = match followed {
            Followed::Gone | Followed::NoQuery => return,
            Followed::Consistent { after } => *after,
            Followed::Stale(_) => {
                self.stale.inc();
                ages.len() + 1
            }
            Followed::Failed { after, .. } => {
                self.failed.inc();
                *after
            }
        };
        if different > 0 || !matches!(followed, Followed::Failed { .. }) {
            self.checked.inc();
        }
        for age in looks(ages).take(different) {
            self.inconsistent.get_or_create(&label(age)).inc();
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_of_the_section_is_reported() {
        let text = "[sync.verify]\nrate = -1.0\ngroups = [\"usr\"]\n[[group]]\nname = \"user\"\nkey = \"user:{id:u64}\"\n\
                    query = \"SELECT id FROM shop.users WHERE id = {id}\"\n";
        let layers = Layers::from_text("freshline.toml", text, []).expect("toml");
        let catalog = Catalog::parse("freshline.toml", text).expect("the catalog is right");
        let mut problems = Problems::default();
        let sync: crate::config::Sync = layers.section("sync", &mut problems);
        sync.check(&layers, &mut problems);
        sync.verify.check_groups(&catalog, &layers, &mut problems);
        let told = problems.to_string();
        assert!(problems.len() == 2 && told.contains("usr") && told.contains("sync.verify.rate"), "{told}");
    }

    #[test]
    fn a_stale_entry_counts_at_every_age_and_one_put_right_only_until_then() {
        let metrics = Metrics::register(&mut Registry::default(), &AGES);
        metrics.count(&Followed::Consistent { after: 0 }, &AGES);
        metrics.count(&Followed::Consistent { after: 2 }, &AGES);
        metrics.count(&Followed::Gone, &AGES);
        let at = |seconds| metrics.inconsistent.get_or_create(&label(Duration::from_secs(seconds))).get();
        assert_eq!((metrics.checked.get(), at(0), at(1), at(10), at(60)), (2, 1, 1, 0, 0));
    }
}
