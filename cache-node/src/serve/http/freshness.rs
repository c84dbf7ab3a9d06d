//! How an answer came about, as headers, and what caches on the way may make of it.

use std::time::Duration;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};
use wire::{Answer, Outcome};

use super::problem::Problem;

/// How old the answer may be, asked for in a header.
pub(super) const MAX_STALENESS: HeaderName = HeaderName::from_static("x-freshline-max-staleness");
/// A look-aside miss's token, there and back.
pub(super) const TOKEN: HeaderName = HeaderName::from_static("x-freshline-token");

/// Tells of an answer.
pub(super) fn tell(answer: &Answer, response: &mut Response) {
    let headers = response.headers_mut();
    // A cache may keep the value, and has to ask whether it still is right: nobody removes what has left a node.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-freshline-outcome", HeaderValue::from_static(answer.outcome.as_str()));
    headers.insert(header::AGE, HeaderValue::from(answer.age.as_secs()));
    headers.insert("x-freshline-age-ms", HeaderValue::from(ms(answer.age)));
    headers.insert("x-freshline-freshness-ms", HeaderValue::from(ms(answer.freshness)));
    if let Some(ttl) = answer.ttl {
        headers.insert("x-freshline-ttl-ms", HeaderValue::from(ms(ttl)));
    }
    headers.insert("x-freshline-epoch", HeaderValue::from(answer.epoch));
    if let Ok(node) = HeaderValue::from_str(&answer.node) {
        headers.insert("x-freshline-node", node);
    }
    if answer.outcome == Outcome::Stale {
        headers.insert(header::WARNING, HeaderValue::from_static("110 freshline \"Response is Stale\""));
        headers.insert("x-freshline-stale", HeaderValue::from_static("true"));
    }
}

/// A value's entity tag: the same bytes have the same one on every node.
pub(super) fn etag(value: &[u8]) -> String {
    format!("\"{:032x}\"", xxhash_rust::xxh3::xxh3_128(value))
}

/// Whether the caller has the value already.
pub(super) fn has(headers: &HeaderMap, etag: &str) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok()).any(|tags| {
        // Ours have no commas, so a foreign one that has some can't be taken for ours.
        tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

/// The bound that the header asks for.
pub(super) fn max_staleness(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let Some(text) = headers.get(MAX_STALENESS) else { return Ok(None) };
    let deserializer =
        serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text.to_str().unwrap_or_default());
    daemon::config::duration::deserialize(deserializer)
        .map(Some)
        .map_err(|error| Problem::bad_header(format!("X-Freshline-Max-Staleness: {error}")))
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_match_weakly_in_lists_and_by_the_star() {
        let (tag, other) = (etag(b"{\"id\":1}"), etag(b"{\"id\":2}"));
        assert_ne!(tag, other);
        let asks = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(text).unwrap());
            has(&headers, &tag)
        };
        assert!(asks(&tag) && asks(&format!("W/{tag}")) && asks(&format!("{other} , {tag}")) && asks("*"));
        assert!(!asks(&other) && !asks(tag.trim_matches('"')) && !has(&HeaderMap::new(), &tag));
    }
}
