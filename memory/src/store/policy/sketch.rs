//! How often a key was asked for of late, about: counters of 4 bits, four for each key, halved after a while (`TinyLFU`).

#[derive(Debug)]
pub(super) struct Sketch {
    /// 16 counters each.
    words: Vec<u64>,
    added: usize,
}

const HIGH: u64 = 0x7777_7777_7777_7777;
const SEEDS: [u64; 4] =
    [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x27d4_eb2f_1656_67c5];

impl Sketch {
    pub(super) fn new() -> Self {
        Self { words: vec![0; 64], added: 0 }
    }

    /// Makes it large enough for as many keys.
    pub(super) fn fit(&mut self, keys: usize) {
        while self.words.len() < keys {
            // The lower bits of a key's place stay, so each half knows what the whole knew.
            self.words.extend_from_within(..);
        }
    }

    pub(super) fn add(&mut self, print: u32) {
        for seed in SEEDS {
            let (word, shift) = self.place(print, seed);
            if self.words[word] >> shift & 15 < 15 {
                self.words[word] += 1 << shift;
            }
        }
        self.added += 1;
        if self.added >= self.words.len() * 10 {
            self.words.iter_mut().for_each(|word| *word = *word >> 1 & HIGH);
            self.added /= 2;
        }
    }

    pub(super) fn count(&self, print: u32) -> u64 {
        let counts = SEEDS.map(|seed| {
            let (word, shift) = self.place(print, seed);
            self.words[word] >> shift & 15
        });
        counts.into_iter().min().unwrap_or(0)
    }

    pub(super) fn bytes(&self) -> usize {
        self.words.len() * 8
    }

    fn place(&self, print: u32, seed: u64) -> (usize, u32) {
        let mixed = (u64::from(print) ^ seed >> 32).wrapping_mul(seed);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(seed | 1);
        ((mixed >> 16) as usize & (self.words.len() - 1), (mixed >> 60) as u32 * 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_often_counts_for_more_and_is_forgotten_in_time() {
        let mut sketch = Sketch::new();
        sketch.fit(1000);
        (0..5).for_each(|_| sketch.add(7));
        assert_eq!(sketch.count(7), 5);
        sketch.fit(5000);
        assert_eq!(sketch.count(7), 5, "growing forgets nothing");
        for n in 0..500_000 {
            sketch.add(1000 + n % 3000);
        }
        assert!(sketch.count(7) < 5, "{}", sketch.count(7));
    }
}
