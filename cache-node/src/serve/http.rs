//! The HTTP port: `/v1`, the document that describes it, and from the daemon `/metrics`, `/healthz` and `/readyz`. See `docs/http.md`.
//!
//! Whatever is refused is answered as a [`Problem`]; there is no other form of error.

mod batch;
mod extract;
mod freshness;
mod inspect;
mod keys;
mod openapi;
mod origin;
mod problem;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get, post},
};

pub(super) use self::{
    extract::{Asked, Params},
    problem::Problem,
};
use crate::node::Node;

/// Bytes of a body beside the value or the keys that it carries.
const ENVELOPE: usize = 64 << 10;

/// A path of the port: as the document writes it, as the router does, the methods, and who answers.
type Route = (&'static str, &'static str, &'static [&'static str], MethodRouter<Arc<Node>>);

/// All routes of `node`, and those of `admin`, in one form.
pub(super) fn router(node: Arc<Node>, admin: Router) -> Router {
    let document = openapi::document(node.catalog());
    let config = node.config();
    // A value may come in base64, keys in a list.
    let value = config.max_value.0 as usize / 3 * 4 + ENVELOPE;
    let keys =
        config.max_keys.saturating_mul(config.max_key.0 as usize + 8).min(wire::MAX_MESSAGE) + ENVELOPE;
    let origins = axum::middleware::from_fn_with_state(node.clone(), origin::check);
    routes(value, keys)
        .into_iter()
        .fold(Router::new(), |router, (_, path, _, answer)| router.route(path, answer))
        .with_state(node)
        .route("/openapi.json", get(move || async move { openapi::serve(document) }))
        .merge(admin)
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(axum::middleware::map_response(super::hold::http))
        .layer(origins)
}

fn routes(value: usize, keys: usize) -> Vec<Route> {
    let key = get(keys::get).put(keys::put).delete(keys::delete).layer(DefaultBodyLimit::max(value));
    let many = DefaultBodyLimit::max(keys);
    vec![
        ("/v1/keys/{key}", "/v1/keys/{*key}", &["delete", "get", "put"], key),
        ("/v1/keys:batchGet", "/v1/keys:batchGet", &["post"], post(batch::get).layer(many)),
        ("/v1/keys:batchDelete", "/v1/keys:batchDelete", &["post"], post(batch::delete).layer(many)),
        ("/v1/tags:batchDelete", "/v1/tags:batchDelete", &["post"], post(batch::delete_tags).layer(many)),
        ("/v1/groups:flush", "/v1/groups:flush", &["post"], post(inspect::flush_all)),
        ("/v1/groups/{group}:flush", "/v1/groups/{*action}", &["post"], post(inspect::flush)),
        ("/v1/explain/{key}", "/v1/explain/{*key}", &["get"], get(inspect::explain)),
        ("/v1/scan", "/v1/scan", &["get"], get(inspect::scan)),
        ("/v1/stats", "/v1/stats", &["get"], get(inspect::stats)),
        ("/v1/hot", "/v1/hot", &["get"], get(super::hot::hot)),
        ("/v1/ring", "/v1/ring", &["get"], get(inspect::ring)),
    ]
}

async fn unknown() -> Response {
    Problem::no_such_path().into_response()
}

async fn not_allowed() -> Response {
    Problem::not_allowed().into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_document_and_the_routes_agree() {
        let document: Value = serde_json::from_str(openapi::TEXT).unwrap();
        let written: BTreeMap<&str, BTreeSet<&str>> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(path, item)| {
                let methods = item.as_object().unwrap().keys().map(String::as_str);
                (path.as_str(), methods.filter(|name| *name != "parameters").collect())
            })
            .collect();
        let own =
            routes(1, 1).into_iter().map(|(path, _, methods, _)| (path, methods.iter().copied().collect()));
        let daemon =
            ["/openapi.json", "/metrics", "/healthz", "/readyz"].map(|path| (path, BTreeSet::from(["get"])));
        assert_eq!(written, own.chain(daemon).collect::<BTreeMap<_, BTreeSet<_>>>());
    }

    #[test]
    fn the_document_names_every_kind_of_problem() {
        let document: Value = serde_json::from_str(openapi::TEXT).unwrap();
        let written =
            document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"].as_array().unwrap();
        let written: BTreeSet<&str> = written.iter().filter_map(|kind| kind.as_str()).collect();
        assert_eq!(written, problem::KINDS.iter().map(|(kind, _)| *kind).collect());
        for refusal in daemon::http::REFUSALS {
            assert!(problem::KINDS.contains(&(refusal.kind, refusal.title)), "{}", refusal.kind);
        }
    }
}
