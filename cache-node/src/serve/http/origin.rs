//! Browsers: a page from elsewhere may not use this node through its reader's browser.
//!
//! A browser sends a form or a `fetch` of any page to any address that it reaches, and only keeps the answer from the page: *a page that
//! somebody reads at work flushes everything.* And a name that its owner points at this machine's address makes that page one of this node's own.
//! So a request that a browser marks (`Origin`, `Sec-Fetch-Site`) must be for a name that this node goes by, and one that changes
//! anything must come from there as well. Programs send neither header and aren't asked. What is left: over plain HTTP browsers mark no GET of
//! a page's own name, so a name that was pointed here can read. See the Fetch standard,
//! [`Origin`](https://fetch.spec.whatwg.org/#origin-header).

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::problem::Problem;
use crate::node::Node;

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets a request pass, or answers that it comes from elsewhere.
pub(super) async fn check(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let own = |host: &str| is_own(&node, host);
    match foreign(request.method(), request.headers(), own) {
        None => next.run(request).await,
        Some(detail) => {
            node.metrics.foreign_origins.inc();
            Problem::new(StatusCode::FORBIDDEN, "foreign-origin", detail).into_response()
        }
    }
}

/// What is wrong with where a request comes from, if anything.
fn foreign(method: &Method, headers: &HeaderMap, is_own: impl Fn(&str) -> bool) -> Option<String> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let (origin, site) = (text(&header::ORIGIN), text(&SITE));
    if origin.is_none() && site.is_none() {
        return None;
    }
    let asked = text(&header::HOST).unwrap_or_default();
    let host = host_of(asked);
    if !is_own(&host) {
        return Some(format!(
            "a browser asks for the host {host:?}, which is no name of this node; if it is, add it to node.http_hosts"
        ));
    }
    if *method == Method::GET || *method == Method::HEAD {
        return None; // a page from elsewhere can't read the answer
    }
    let same = origin.is_none_or(|origin| {
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        authority.eq_ignore_ascii_case(asked)
    });
    if same && site.is_none_or(|site| site == "same-origin" || site == "none") {
        return None;
    }
    Some("the request comes from a page of another origin, by its Origin or Sec-Fetch-Site header; call the API from a program, or from a page of this host".to_owned())
}

/// A `Host` without its port, in small letters.
fn host_of(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

/// Whether this node goes by a name. Addresses can't be pointed elsewhere.
fn is_own(node: &Node, host: &str) -> bool {
    let of = |url: &str| url.parse::<Uri>().ok().and_then(|uri| uri.host().map(host_of));
    host.parse::<IpAddr>().is_ok()
        || host == "localhost"
        || host.ends_with(".localhost")
        || node.config().http_hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
        || node.ring().member(node.id()).and_then(|member| of(&member.http)).is_some_and(|own| own == host)
        || of(&node.config().advertise_http).is_some_and(|own| own == host)
        || host == crate::run::host_name().to_ascii_lowercase() // last: it reads a file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: &str, headers: &[(&str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let own = |host: &str| ["node-1", "127.0.0.1", "::1"].contains(&host);
        foreign(&method.parse().unwrap(), &map, own).is_none()
    }

    #[test]
    fn pages_of_other_origins_change_nothing_and_names_of_others_read_nothing() {
        type Case = (&'static str, &'static [(&'static str, &'static str)], bool);
        let cases: &[Case] = &[
            ("POST", &[("host", "anything")], true), // a program
            ("POST", &[("host", "node-1:7401"), ("origin", "http://node-1:7401")], true),
            ("POST", &[("host", "NODE-1:7401"), ("origin", "http://node-1:7401")], true),
            ("POST", &[("host", "[::1]:7401"), ("origin", "http://[::1]:7401")], true),
            ("POST", &[("host", "127.0.0.1:7401"), ("origin", "http://evil.example")], false),
            ("POST", &[("host", "127.0.0.1:7401"), ("origin", "http://127.0.0.1:8000")], false), // another port
            ("POST", &[("host", "127.0.0.1:7401"), ("origin", "null")], false),
            ("DELETE", &[("host", "127.0.0.1:7401"), ("sec-fetch-site", "cross-site")], false),
            ("POST", &[("host", "127.0.0.1:7401"), ("sec-fetch-site", "same-site")], false),
            ("POST", &[("host", "127.0.0.1:7401"), ("sec-fetch-site", "none")], true),
            ("GET", &[("host", "127.0.0.1:7401"), ("sec-fetch-site", "cross-site")], true),
            // A name that was pointed here.
            ("POST", &[("host", "evil.example:7401"), ("origin", "http://evil.example:7401")], false),
            ("GET", &[("host", "evil.example:7401"), ("sec-fetch-site", "same-origin")], false),
            ("GET", &[("sec-fetch-site", "same-origin")], false),
        ];
        for (method, headers, passes) in cases {
            assert_eq!(verdict(method, headers), *passes, "{method} {headers:?}");
        }
    }
}
