//! Which block a key has: places by hash, in lines of the processor's cache.
//!
//! A line has room for 12 places, a byte of each one's hash, and a count of entries that belong there and are in a line after it because it
//! was full, as in F14 (Bronson and Shi, 2019): a lookup goes on to the next line only if there are such, so nearly all look at one. The
//! table grows by a quarter and is at most 85 % full: a place takes 6 to 8 bytes.

/// Places in a line.
const WIDTH: usize = 12;
/// The bytes of hashes in a line's `marks`; the count has the others.
const MARKS: u128 = (1 << (8 * WIDTH)) - 1;
/// 1 in each byte.
const ONES: u128 = u128::MAX / 0xff;
/// Seven bits of each byte.
const LOWER: u128 = ONES * 0x7f;
/// The share of places that may be in use, in hundredths.
const FULL: usize = 85;

#[derive(Debug, Clone)]
#[repr(align(64))]
struct Line {
    /// By place a byte of its hash, never 0; 0 for one that is free. Then how many entries went on to the next line.
    marks: [u8; 16],
    places: [u32; WIDTH],
}

impl Line {
    const EMPTY: Self = Self { marks: [0; 16], places: [0; WIDTH] };

    /// Where this byte is, the lowest first.
    fn all(&self, mark: u8) -> Slots {
        // A byte that differs has a bit of its lower seven set, which the sum carries to the eighth, or the eighth itself (Hacker's
        // Delight, 6-1).
        let different = u128::from_le_bytes(self.marks) ^ (ONES * u128::from(mark));
        Slots(!(((different & LOWER) + LOWER) | different | LOWER) & MARKS)
    }

    fn first_free(&self) -> Option<usize> {
        self.all(0).next()
    }

    fn passed(&self) -> u32 {
        let [.., a, b, c, d] = self.marks;
        u32::from_le_bytes([a, b, c, d])
    }

    fn set_passed(&mut self, count: u32) {
        self.marks[WIDTH..].copy_from_slice(&count.to_le_bytes());
    }
}

struct Slots(u128);

impl Iterator for Slots {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let slot = self.0.trailing_zeros() as usize / 8;
        self.0 &= self.0 - 1;
        Some(slot)
    }
}

#[derive(Debug)]
pub(super) struct Table {
    lines: Vec<Line>,
    len: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { lines: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }

    /// The place that was put in under this hash and of which `is` says true.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let (line, slot) = self.locate(hash, is)?;
        Some(self.lines[line].places[slot])
    }

    /// Puts in a place that is not there yet. `hash_of` tells the hash of one that is.
    pub(super) fn insert(&mut self, hash: u64, place: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.len + 1) * 100 > self.lines.len() * WIDTH * FULL {
            self.resize(self.lines.len() + self.lines.len() / 4 + 1, hash_of);
        }
        self.put(hash, place);
        self.len += 1;
    }

    /// Has an entry at another place from now on; returns whether it was there.
    pub(super) fn replace(&mut self, hash: u64, from: u32, to: u32) -> bool {
        let found = self.locate(hash, |place| place == from);
        if let Some((line, slot)) = found {
            self.lines[line].places[slot] = to;
        }
        found.is_some()
    }

    /// Takes a place out; returns whether it was there.
    pub(super) fn remove(&mut self, hash: u64, place: u32) -> bool {
        let Some((line, slot)) = self.locate(hash, |other| other == place) else { return false };
        self.lines[line].marks[slot] = 0;
        self.len -= 1;
        let mut passed = self.home(hash);
        while passed != line {
            let count = self.lines[passed].passed();
            self.lines[passed].set_passed(count - 1);
            passed = self.after(passed);
        }
        true
    }

    /// Makes the table smaller if it has become far too large.
    pub(super) fn trim(&mut self, hash_of: impl Fn(u32) -> u64) {
        let wanted = (self.len * 100).div_ceil(WIDTH * FULL) + 1;
        if self.lines.len() > wanted * 2 {
            self.resize(wanted + wanted / 4, hash_of);
        }
    }

    /// All places.
    #[cfg(test)]
    pub(super) fn places(&self) -> impl Iterator<Item = u32> {
        let used = |line: &'_ Line| (0..WIDTH).filter(|slot| line.marks[*slot] != 0).collect::<Vec<_>>();
        self.lines.iter().flat_map(move |line| used(line).into_iter().map(|slot| line.places[slot]))
    }

    fn locate(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<(usize, usize)> {
        let mark = mark(hash);
        let mut at = self.home(hash);
        // One round at most: every line may have been passed by something.
        for _ in 0..self.lines.len() {
            let line = &self.lines[at];
            if let Some(slot) = line.all(mark).find(|slot| is(line.places[*slot])) {
                return Some((at, slot));
            }
            if line.passed() == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// There is room: the table is never full.
    fn put(&mut self, hash: u64, place: u32) {
        let mut at = self.home(hash);
        loop {
            let line = &mut self.lines[at];
            if let Some(slot) = line.first_free() {
                line.marks[slot] = mark(hash);
                line.places[slot] = place;
                return;
            }
            line.set_passed(line.passed() + 1);
            at = self.after(at);
        }
    }

    fn resize(&mut self, lines: usize, hash_of: impl Fn(u32) -> u64) {
        let old = std::mem::replace(&mut self.lines, vec![Line::EMPTY; lines]);
        for line in &old {
            for slot in (0..WIDTH).filter(|slot| line.marks[*slot] != 0) {
                self.put(hash_of(line.places[slot]), line.places[slot]);
            }
        }
    }

    /// The line that a hash belongs to. By its lower half: what chose the shard is in the upper one.
    fn home(&self, hash: u64) -> usize {
        (((hash & u64::from(u32::MAX)) * self.lines.len() as u64) >> 32) as usize
    }

    fn after(&self, line: usize) -> usize {
        if line + 1 == self.lines.len() { 0 } else { line + 1 }
    }
}

/// A byte of the hash that has not chosen the line or the shard; not 0.
fn mark(hash: u64) -> u8 {
    ((hash >> 56) as u8).max(1)
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64),
        Remove(usize),
        Move(usize),
        Trim,
    }

    /// Hashes that meet: of few lines, of few marks.
    fn hash() -> impl Strategy<Value = u64> {
        prop_oneof![any::<u64>(), (0_u64..4, 0_u64..3).prop_map(|(line, mark)| line << 30 | mark << 56)]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => hash().prop_map(Step::Insert),
            3 => any::<usize>().prop_map(Step::Remove),
            1 => any::<usize>().prop_map(Step::Move),
            1 => Just(Step::Trim),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_places_to_hashes(steps in proptest::collection::vec(step(), 0..600)) {
            let mut table = Table::new();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut next = 0;
            let some = |model: &BTreeMap<u32, u64>, n: usize| {
                let at = n.checked_rem(model.len())?;
                model.iter().nth(at).map(|(place, hash)| (*place, *hash))
            };
            for step in steps {
                match step {
                    Step::Insert(hash) => {
                        table.insert(hash, next, |place| model[&place]);
                        model.insert(next, hash);
                        next += 1;
                    }
                    Step::Remove(n) => {
                        let Some((place, hash)) = some(&model, n) else { continue };
                        prop_assert!(table.remove(hash, place));
                        prop_assert!(!table.remove(hash, place));
                        model.remove(&place);
                    }
                    Step::Move(n) => {
                        let Some((place, hash)) = some(&model, n) else { continue };
                        prop_assert!(table.replace(hash, place, next));
                        model.remove(&place);
                        model.insert(next, hash);
                        next += 1;
                    }
                    Step::Trim => table.trim(|place| model[&place]),
                }
                prop_assert_eq!(table.len(), model.len());
            }
            let mut places: Vec<u32> = table.places().collect();
            places.sort_unstable();
            prop_assert_eq!(&places, &model.keys().copied().collect::<Vec<_>>());
            for (place, hash) in &model {
                prop_assert_eq!(table.find(*hash, |other| other == *place), Some(*place));
                prop_assert_eq!(table.find(*hash, |_| false), None);
            }
            for (place, hash) in &model {
                table.remove(*hash, *place);
            }
            prop_assert!(table.lines.iter().all(|line| line.marks == [0; 16]), "nothing is left, no count either");
        }
    }

    #[test]
    fn a_place_takes_6_to_8_bytes_and_nearly_all_are_in_their_line() {
        let hash = |place: u32| crate::place::hash(&format!("user:{place}"));
        let mut table = Table::new();
        for place in 0..100_000 {
            table.insert(hash(place), place, hash);
            if place > 5_000 {
                let bytes = table.bytes() as f64 / f64::from(place + 1);
                assert!((6.0..8.0).contains(&bytes), "{bytes} at {place}");
            }
        }
        let away = (0..100_000).filter(|place| {
            table.locate(hash(*place), |other| other == *place).map(|(line, _)| line)
                != Some(table.home(hash(*place)))
        });
        assert!(away.count() < 10_000);
        for place in 0..99_000 {
            assert!(table.remove(hash(place), place));
        }
        table.trim(hash);
        assert!(table.bytes() < 20_000, "{}", table.bytes());
    }
}
