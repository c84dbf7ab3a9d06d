//! Numbers drawn as keys are asked for: few often, many seldom.

/// A small generator; the same seed draws the same.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to below 1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }
}

/// Ranks by Zipf's law, drawn by a table; each rank stands for another number, so that neighbours are not alike.
#[derive(Debug)]
pub(crate) struct Zipf {
    /// For each of as many equal shares, the first rank that reaches into it.
    sums: Vec<f64>,
    numbers: Vec<u32>,
}

impl Zipf {
    pub(crate) fn new(count: usize, exponent: f64) -> Self {
        let mut sums = Vec::with_capacity(count);
        let mut sum = 0.0;
        for rank in 1..=count {
            sum += (rank as f64).powf(-exponent);
            sums.push(sum);
        }
        let mut numbers: Vec<u32> = (0..count as u32).collect();
        let mut random = Random::new(42);
        for at in (1..count).rev() {
            numbers.swap(at, random.below(at as u64 + 1) as usize);
        }
        Self { sums, numbers }
    }

    pub(crate) fn draw(&self, random: &mut Random) -> usize {
        let at = random.share() * self.sums.last().copied().unwrap_or_default();
        let rank = self.sums.partition_point(|sum| *sum <= at).min(self.numbers.len() - 1);
        self.numbers[rank] as usize
    }
}
