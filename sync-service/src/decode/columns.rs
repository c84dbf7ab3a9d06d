//! The names of the columns that some rule needs.

/// A set of column names, compared without regard to case, each with a number.
///
/// A lookup happens for every column of every row, so it looks at the length and two bytes before it compares.
#[derive(Debug)]
pub struct Columns {
    names: Vec<Box<str>>,
    buckets: [Vec<u16>; BUCKETS],
    /// A bit for each bucket that holds anything: most names are of no interest, and end here.
    filled: u64,
}

const BUCKETS: usize = 64;

impl Default for Columns {
    fn default() -> Self {
        Self { names: Vec::new(), buckets: [const { Vec::new() }; BUCKETS], filled: 0 }
    }
}

impl Columns {
    /// Adds a name and says whether it is new.
    ///
    /// The set is limited to 65535 names, far more than the columns of any catalog; more are left out, and their values
    /// count as missing.
    pub fn add(&mut self, name: &str) -> bool {
        if self.id(name).is_some() {
            return false;
        }
        let Ok(id) = u16::try_from(self.names.len()) else { return false };
        let folded = fold(name);
        self.buckets[bucket(&folded)].push(id);
        self.filled |= 1 << bucket(&folded);
        self.names.push(folded.into());
        true
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The number of a name, if it is of interest.
    pub fn id(&self, name: &str) -> Option<u16> {
        if name.is_ascii() {
            return self.find(name, |known| known.eq_ignore_ascii_case(name));
        }
        let folded = fold(name);
        self.find(&folded, |known| *known == *folded)
    }

    fn find(&self, name: &str, matches: impl Fn(&str) -> bool) -> Option<u16> {
        let bucket = bucket(name);
        if self.filled >> bucket & 1 == 0 {
            return None;
        }
        self.buckets[bucket].iter().copied().find(|id| matches(&self.names[usize::from(*id)]))
    }
}

fn fold(name: &str) -> String {
    if name.is_ascii() { name.to_ascii_lowercase() } else { name.to_lowercase() }
}

/// A spread by length, first and last byte that is the same for both cases of a letter.
fn bucket(name: &str) -> usize {
    let bytes = name.as_bytes();
    let ends = bytes.first().map_or(0, |byte| usize::from(byte | 0x20) * 7)
        + bytes.last().map_or(0, |byte| usize::from(byte | 0x20) * 3);
    (bytes.len() * 5 + ends) % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_others_are_not() {
        let mut columns = Columns::default();
        assert!(columns.add("User_Id"));
        assert!(columns.add("größe"));
        assert!(!columns.add("USER_ID"));
        assert_eq!(columns.id("user_id"), Some(0));
        assert_eq!(columns.id("USER_iD"), Some(0));
        assert_eq!(columns.id("GRÖßE"), Some(1));
        assert_eq!(columns.id("user_ie"), None);
        assert_eq!(columns.id(""), None);
    }
}
