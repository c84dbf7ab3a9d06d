//! "Did you mean": the nearest known name.

/// Returns the known name that `written` is most likely a slip of, or `None` if nothing is near.
pub fn suggest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&written, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= (name.len().max(written.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `, did you mean X?` or nothing.
pub(super) fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    suggest(written, known).map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_finds_none() {
        let known = ["memory", "weight", "grpc"];
        assert_eq!(suggest("memry", known), Some("memory"));
        assert_eq!(suggest("wieght", known), Some("weight"));
        assert_eq!(suggest("GRPC", known), Some("grpc"));
        assert_eq!(suggest("colour", known), None);
    }
}
