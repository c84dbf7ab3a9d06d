//! Sets of GTIDs: which transactions have been read.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use mysql_async::Sid;
use mysql_async::binlog::events::GtidEvent;

/// One transaction: whose server's, under which tag, and its number there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Gtid {
    source: Source,
    number: u64,
}

/// A server's uuid in lower case, and the tag, which mostly is empty.
type Source = (String, String);

/// Transactions by their sources, as ranges with both ends in them, in order and apart from each other.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct GtidSet(BTreeMap<Source, Vec<(u64, u64)>>);

/// A text that is no set of GTIDs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a set of GTIDs such as \"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5\"")]
pub(super) struct ParseError(String);

impl From<&GtidEvent> for Gtid {
    fn from(event: &GtidEvent) -> Self {
        let hex = event.sid().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let uuid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        Self { source: (uuid, event.tag().map(ToString::to_string).unwrap_or_default()), number: event.gno() }
    }
}

#[cfg(test)]
impl Gtid {
    pub(super) fn of(server: &str, number: u64) -> Self {
        Self { source: (server.to_owned(), String::new()), number }
    }
}

impl GtidSet {
    pub(super) fn add(&mut self, gtid: &Gtid) {
        self.add_range(gtid.source.clone(), gtid.number, gtid.number);
    }

    fn add_range(&mut self, source: Source, mut first: u64, mut last: u64) {
        let ranges = self.0.entry(source).or_default();
        let from = ranges.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = ranges.partition_point(|(start, _)| *start <= last.saturating_add(1));
        if from < to {
            first = first.min(ranges[from].0);
            last = last.max(ranges[to - 1].1);
        }
        ranges.splice(from..to, [(first, last)]);
    }

    /// How many transactions of another set are not in this one.
    pub(super) fn lacks(&self, other: &Self) -> u64 {
        let of_source = |(source, ranges): (&Source, &Vec<(u64, u64)>)| {
            let own = self.0.get(source).map_or(&[][..], Vec::as_slice);
            let lacking = |(first, last): &(u64, u64)| {
                let shared = own.iter().map(|(from, to)| {
                    let (from, to) = (*from.max(first), *to.min(last));
                    to.saturating_add(1).saturating_sub(from)
                });
                last.saturating_sub(*first).saturating_add(1).saturating_sub(shared.sum())
            };
            ranges.iter().map(lacking).sum::<u64>()
        };
        other.0.iter().map(of_source).sum()
    }

    /// As the protocol wants it.
    pub(super) fn sids(&self) -> Result<Vec<Sid<'static>>, std::io::Error> {
        let all = self.0.iter().filter(|(_, ranges)| !ranges.is_empty());
        all.map(|(source, ranges)| One(source, ranges).to_string().parse()).collect()
    }
}

struct One<'a>(&'a Source, &'a [(u64, u64)]);

impl fmt::Display for One<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self((uuid, tag), ranges) = self;
        formatter.write_str(uuid)?;
        if !tag.is_empty() {
            write!(formatter, ":{tag}")?;
        }
        for (first, last) in *ranges {
            if first == last {
                write!(formatter, ":{first}")?;
            } else {
                write!(formatter, ":{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (source, ranges)) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str(",")?;
            }
            One(source, ranges).fmt(formatter)?;
        }
        Ok(())
    }
}

impl FromStr for GtidSet {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bad = || ParseError(text.chars().take(80).collect());
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut words = part.split(':').map(str::trim);
            let uuid = words.next().unwrap_or_default().to_ascii_lowercase();
            let plain = uuid.len() == 36 && uuid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
            if !plain {
                return Err(bad());
            }
            let mut tag = String::new();
            for word in words {
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                match (first.parse::<u64>(), last.parse::<u64>()) {
                    (Ok(first), Ok(last)) if first > 0 && first <= last => {
                        set.add_range((uuid.clone(), tag.clone()), first, last);
                    }
                    // The ranges after it are of this tag.
                    _ if word.starts_with(|letter: char| letter == '_' || letter.is_ascii_alphabetic()) => {
                        tag = word.to_ascii_lowercase();
                    }
                    _ => return Err(bad()),
                }
            }
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn gtid(number: u64) -> Gtid {
        Gtid { source: (SERVER.to_owned(), String::new()), number }
    }

    #[test]
    fn ranges_grow_together() {
        let mut set = GtidSet::default();
        for number in [5, 1, 3, 2, 9, 4, 4, 8] {
            set.add(&gtid(number));
        }
        assert_eq!(set.to_string(), format!("{SERVER}:1-5:8-9"));
        assert_eq!(set.sids().expect("a set that the protocol knows").len(), 1);
    }

    #[test]
    fn what_one_set_lacks_of_another_is_counted() {
        let set = |text: &str| text.parse::<GtidSet>().expect("a set");
        let other = "4e11fa47-71ca-11e1-9e33-c80aa9429562";
        let log = set(&format!("{SERVER}:1-10:15-20,{other}:1-3"));
        for (read, lacking) in [
            (String::new(), 19),
            (format!("{SERVER}:1-10"), 9),
            (format!("{SERVER}:2-4:9-17"), 1 + 4 + 3 + 3),
            (format!("{SERVER}:1-20,{other}:1-7"), 0),
        ] {
            assert_eq!(set(&read).lacks(&log), lacking, "{read}");
        }
    }

    #[test]
    fn sets_are_read_as_they_are_written() {
        for text in [
            String::new(),
            format!("{SERVER}:1-5:7"),
            format!("{SERVER}:1-5,4e11fa47-71ca-11e1-9e33-c80aa9429562:1"),
            format!("{SERVER}:1-5,{SERVER}:backup:1-2"),
        ] {
            assert_eq!(text.parse::<GtidSet>().expect("a set").to_string(), text);
        }
        let tagged: GtidSet = format!("{SERVER}:1-3:backup:1-2:4").parse().expect("a set with a tag");
        assert_eq!(tagged.to_string(), format!("{SERVER}:1-3,{SERVER}:backup:1-2:4"));
        assert!(tagged.sids().is_ok());
        for bad in ["x", &format!("{SERVER}:0"), &format!("{SERVER}:5-3"), &format!("{SERVER}:1-x")] {
            assert!(bad.parse::<GtidSet>().is_err(), "{bad}");
        }
    }
}
