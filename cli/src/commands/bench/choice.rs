//! Which key is read next.

/// A distribution over the numbers from 0.
pub(super) struct Choice {
    count: usize,
    /// For each number the share of it and all before; empty if all are alike.
    shares: Vec<f64>,
}

impl Choice {
    pub(super) fn uniform(count: usize) -> Self {
        Self { count, shares: Vec::new() }
    }

    /// The n-th number is drawn in proportion to `1 / n^skew`; exactly, by a table.
    pub(super) fn zipf(count: usize, skew: f64) -> Self {
        let mut sum = 0.0;
        let mut shares: Vec<f64> = (1..=count)
            .map(|rank| {
                sum += (rank as f64).powf(-skew);
                sum
            })
            .collect();
        for share in &mut shares {
            *share /= sum;
        }
        Self { count, shares }
    }

    /// The number for a random one from 0 up to 1.
    pub(super) fn at(&self, random: f64) -> usize {
        let last = self.count.saturating_sub(1);
        if self.shares.is_empty() {
            #[expect(clippy::cast_sign_loss, reason = "neither is negative")]
            return ((random * self.count as f64) as usize).min(last);
        }
        self.shares.partition_point(|share| *share <= random).min(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_prefers_the_first_and_uniform_nobody() {
        let draws = |choice: &Choice| {
            let mut counts = [0; 4];
            for at in 0..10_000 {
                counts[choice.at(f64::from(at) / 10_000.0)] += 1;
            }
            counts
        };
        // 1 : 1/2 : 1/3 : 1/4
        let near = draws(&Choice::zipf(4, 1.0)).map(|count| (count + 50) / 100);
        assert_eq!(near, [48, 24, 16, 12]);
        assert_eq!(draws(&Choice::uniform(4)), [2500; 4]);
        assert_eq!(Choice::zipf(1, 0.5).at(0.999), 0);
    }
}
