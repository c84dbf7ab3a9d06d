//! What is answered when something is refused or fails: `application/problem+json`, as RFC 9457 has it.
//!
//! `type` is for programs, `detail` for people, and says what to do. The status follows from the same code that gRPC callers get.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use crate::{error::Error, serve::status::http_status};

/// Every `type` and its `title`.
pub(super) const KINDS: [(&str, &str); 35] = [
    ("urn:freshline:absent", "the key has no value"),
    ("urn:freshline:not-cached", "the key is not in memory; read it and set it with the token"),
    ("urn:freshline:not-filled", "nothing fills keys of this group"),
    ("urn:freshline:no-such-group", "no group has such keys or such a name"),
    ("urn:freshline:no-such-tag", "no group has such tags"),
    ("urn:freshline:no-such-member", "no member has such a name"),
    ("urn:freshline:no-such-path", "there is no such path"),
    ("urn:freshline:method-not-allowed", "the path has no such method"),
    ("urn:freshline:foreign-origin", "a browser's page from elsewhere may not ask this"),
    ("urn:freshline:bad-key", "the text is no key of its group"),
    ("urn:freshline:too-many-keys", "the request has too many keys"),
    ("urn:freshline:bad-path", "the path can't be read"),
    ("urn:freshline:bad-query", "the part after the question mark can't be read"),
    ("urn:freshline:bad-header", "a header can't be read"),
    ("urn:freshline:bad-body", "the body can't be read"),
    ("urn:freshline:body-too-large", "the body is too large"),
    ("urn:freshline:request-late", "the request was not sent as a whole in time"),
    ("urn:freshline:media-type", "the body's media type is not known here"),
    ("urn:freshline:token-required", "a value is set with the token of a miss"),
    ("urn:freshline:bad-token", "the token is none of this cluster"),
    ("urn:freshline:not-plain", "the key's group is not plain"),
    ("urn:freshline:set-refused", "the value was not stored"),
    ("urn:freshline:condition-failed", "the value was not stored: its condition does not hold"),
    ("urn:freshline:value-too-large", "the value is larger than its group allows"),
    ("urn:freshline:reply-full", "the values before it fill the reply; ask again for this key"),
    ("urn:freshline:overloaded", "too many keys wait for the database"),
    ("urn:freshline:database-unavailable", "the database can't be reached or is left alone"),
    ("urn:freshline:deadline", "the answer did not arrive in time"),
    ("urn:freshline:fenced", "the node can't prove its membership"),
    ("urn:freshline:unacknowledged", "not all nodes have acknowledged"),
    ("urn:freshline:unavailable", "the node can't answer now"),
    ("urn:freshline:internal", "the query failed, or the node"),
    // What the server refuses before any of this is asked (`daemon::http::REFUSALS`).
    ("urn:freshline:bad-request", "this is no request of HTTP/1.1"),
    ("urn:freshline:path-too-long", "the path is too long"),
    ("urn:freshline:head-too-large", "the request's line and headers are too large"),
];

/// A refusal or failure on its way out.
#[derive(Debug)]
pub(in crate::serve) struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    /// Members beside the standard ones.
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// `kind` is the last part of one of [`KINDS`].
    pub(in crate::serve) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), members: Map::new(), headers: Vec::new() }
    }

    #[must_use]
    pub(super) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    #[must_use]
    pub(super) fn with_header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn bad_query(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-query", detail)
    }

    pub(super) fn bad_header(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-header", detail)
    }

    pub(super) fn bad_body(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-body", detail)
    }

    pub(super) fn media_type(found: &str, known: &'static str) -> Self {
        let detail = format!("a body of {found:?} is not known here; send {known}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", detail)
            .with_header(header::ACCEPT, HeaderValue::from_static(known))
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no-such-path",
            "no such path; /openapi.json describes those that there are",
        )
    }

    pub(super) fn not_allowed() -> Self {
        let detail =
            "the path has no such method; those that it has stand in Allow, and /openapi.json describes them";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
    }

    /// As the value of a member.
    pub(super) fn to_json(&self) -> Value {
        let (kind, title) = KINDS
            .iter()
            .find(|(kind, _)| kind.strip_prefix("urn:freshline:") == Some(self.kind))
            .copied()
            .unwrap_or(("about:blank", ""));
        let mut body =
            json!({ "type": kind, "title": title, "status": self.status.as_u16(), "detail": self.detail });
        if let Some(body) = body.as_object_mut() {
            body.extend(self.members.clone());
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.to_json().to_string();
        let mut response =
            (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = http_status(error.code());
        let problem = Self::new(status, kind(&error, status), error.to_string());
        // Whole seconds, and never "at once".
        match (&error, status) {
            (Error::Fill(loader::Error::BreakerOpen { retry_after, .. }), _) => {
                problem.with_header(header::RETRY_AFTER, retry_after.as_secs() + 1)
            }
            (_, StatusCode::SERVICE_UNAVAILABLE) => problem.with_header(header::RETRY_AFTER, 1),
            _ => problem,
        }
    }
}

fn kind(error: &Error, status: StatusCode) -> &'static str {
    match error {
        Error::Key(error) if matches!(**error, catalog::KeyError::NoGroup { .. }) => "no-such-group",
        Error::UnknownGroup { .. } => "no-such-group",
        Error::UnknownTag { .. } => "no-such-tag",
        Error::Key(_) | Error::KeyTooLong { .. } => "bad-key",
        Error::TooManyKeys { .. } => "too-many-keys",
        Error::LeftOut { .. } => "reply-full",
        Error::Fenced => "fenced",
        Error::Unacknowledged { .. } => "unacknowledged",
        Error::NotPlain { .. } => "not-plain",
        Error::Fill(loader::Error::Unavailable(_) | loader::Error::BreakerOpen { .. }) => {
            "database-unavailable"
        }
        Error::ReplyMemory { .. } | Error::Fill(loader::Error::Overloaded { .. }) => "overloaded",
        Error::Fill(loader::Error::TooLarge { .. }) => "value-too-large",
        // The rest, and what another node answered, by what it means for the caller.
        _ => match status {
            StatusCode::BAD_REQUEST => "bad-key",
            StatusCode::NOT_FOUND => "not-filled",
            StatusCode::PAYLOAD_TOO_LARGE => "value-too-large",
            StatusCode::GATEWAY_TIMEOUT => "deadline",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            _ => "internal",
        },
    }
}
