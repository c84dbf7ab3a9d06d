//! The document that describes the port, with the groups of this node's catalog in it.

use axum::{
    body::Bytes,
    http::header,
    response::{IntoResponse, Response},
};
use catalog::Catalog;
use serde_json::Value;

/// As written; a test holds it against the routes.
pub(super) const TEXT: &str = include_str!("openapi.json");

/// The document for a node with this catalog.
pub(super) fn document(catalog: &Catalog) -> Bytes {
    let mut document: Value = serde_json::from_str(TEXT).expect("a test has read it");
    let names: Vec<Value> = catalog.groups().iter().map(|group| group.name.to_string().into()).collect();
    if !names.is_empty() {
        document["components"]["schemas"]["Group"]["enum"] = names.into();
    }
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    Bytes::from(document.to_string())
}

pub(super) fn serve(document: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}
