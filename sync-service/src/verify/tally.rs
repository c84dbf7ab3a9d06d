//! How many entries were consistent, at each age.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::Followed;

/// What was counted over many entries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tally {
    /// Entries that were compared.
    pub checked: u64,
    /// At the first look, and at each later one.
    pub ages: Vec<AtAge>,
    /// Entries that were removed or filled anew before they could be compared.
    pub gone: u64,
    /// Entries of groups without a query.
    pub no_query: u64,
    /// Entries that could not be compared, or not any more.
    pub failed: u64,
    /// Of these, how many were different when they were last seen.
    pub unsettled: u64,
}

/// The counts at one age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AtAge {
    /// How long after the first look.
    pub age: Duration,
    /// Entries that were right, or that had been put right by then.
    pub consistent: u64,
    /// Entries that differed.
    pub inconsistent: u64,
}

impl AtAge {
    /// The consistent entries' share of all, 1 if there were none.
    pub fn share(&self) -> f64 {
        match self.consistent + self.inconsistent {
            0 => 1.0,
            all => self.consistent as f64 / all as f64,
        }
    }
}

impl Serialize for AtAge {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Told {
            age_ms: u128,
            consistent: u64,
            inconsistent: u64,
            share: f64,
            nines: Option<f64>,
        }
        let Self { age, consistent, inconsistent } = *self;
        let told = Told {
            age_ms: age.as_millis(),
            consistent,
            inconsistent,
            share: self.share(),
            nines: nines(self.share()),
        };
        told.serialize(serializer)
    }
}

/// How many nines a share has: 3 for 0.999; `None` for a whole.
pub fn nines(share: f64) -> Option<f64> {
    // None at all would be -0.
    (share < 1.0).then(|| (-(1.0 - share).log10()).max(0.0) + 0.0)
}

impl Tally {
    /// Nothing counted yet, at the first look and at these ages.
    pub fn new(ages: &[Duration]) -> Self {
        let ages = std::iter::once(Duration::ZERO).chain(ages.iter().copied());
        Self {
            checked: 0,
            ages: ages.map(|age| AtAge { age, consistent: 0, inconsistent: 0 }).collect(),
            gone: 0,
            no_query: 0,
            failed: 0,
            unsettled: 0,
        }
    }

    /// Counts one entry. Of one that could not be compared any more, only what was seen before counts.
    pub fn count(&mut self, followed: &Followed) {
        let (different, seen) = match followed {
            Followed::Gone => return self.gone += 1,
            Followed::NoQuery => return self.no_query += 1,
            Followed::Consistent { after } => (*after, self.ages.len()),
            Followed::Stale(_) => (self.ages.len(), self.ages.len()),
            Followed::Failed { after, .. } => {
                self.failed += 1;
                self.unsettled += u64::from(*after > 0);
                (*after, *after)
            }
        };
        if seen == 0 {
            return;
        }
        self.checked += 1;
        for (at, age) in self.ages.iter_mut().enumerate().take(seen) {
            if at < different {
                age.inconsistent += 1;
            } else {
                age.consistent += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Error;
    use super::*;

    #[test]
    fn each_age_counts_who_was_right_or_put_right_by_then() {
        let mut tally = Tally::new(&[Duration::from_secs(1), Duration::from_secs(10)]);
        for after in [0, 0, 0, 0, 0, 0, 0, 0, 1, 2] {
            tally.count(&Followed::Consistent { after });
        }
        tally.count(&Followed::Gone);
        let error = || Error::Node(client::Error::NoNodes { reason: "down".to_owned() });
        tally.count(&Followed::Failed { after: 0, error: error() });
        assert_eq!((tally.checked, tally.failed, tally.unsettled), (10, 1, 0));
        let counts: Vec<_> = tally.ages.iter().map(|age| (age.consistent, age.inconsistent)).collect();
        assert_eq!(counts, [(8, 2), (9, 1), (10, 0)]);
        assert_eq!((tally.checked, tally.gone), (10, 1));
        assert_eq!(nines(0.0).map(|nines| format!("{nines:.1}")).as_deref(), Some("0.0"), "not -0.0");
        let mut cut_off = tally.clone();
        cut_off.count(&Followed::Failed { after: 1, error: error() });
        assert_eq!((cut_off.checked, cut_off.unsettled, cut_off.ages[0].inconsistent), (11, 1, 3));
        assert_eq!(cut_off.ages[1], tally.ages[1], "what was not seen does not count");
        assert!((nines(tally.ages[1].share()).unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(nines(1.0), None);
        let json = serde_json::to_value(&tally).unwrap();
        assert_eq!((&json["ages"][1]["age_ms"], &json["ages"][2]["nines"]), (&1000.into(), &().into()));
    }
}
