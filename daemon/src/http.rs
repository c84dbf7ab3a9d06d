//! Serving HTTP to whoever connects: no head, body or reply takes longer than it may.

mod refusals;

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::refusals::{REFUSALS, Refusal};
use crate::connections::Connections;

/// Bytes of a request's line and headers.
const HEAD: usize = 64 << 10;
/// Headers of a request.
const HEADERS: usize = 100;

/// Serves until `stop`, then until all requests under way are answered; the caller bounds that.
///
/// A head, and the silence before it, takes `patience` at most. Dropping the future takes no new connections; those that are open are served
/// until `stop`.
pub async fn serve(
    listener: TcpListener,
    connections: Connections,
    router: Router,
    patience: Duration,
    stop: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .half_close(true);
    let http = Arc::new(http);
    let tasks = TaskTracker::new();
    loop {
        let (connection, address) = tokio::select! { // accepting is safe to drop
            () = stop.cancelled() => break,
            accepted = connections.accept(&listener) => accepted,
        };
        let (router, http, stop) = (router.clone(), http.clone(), stop.clone());
        let lost = connection.lost();
        tasks.spawn(async move {
            let (connection, service) = refusals::watched(connection, TowerToHyperService::new(router));
            let served = http.serve_connection(TokioIo::new(connection), service);
            let mut served = std::pin::pin!(served);
            let ended = tokio::select! { // a connection that is served goes on below
                ended = &mut served => ended,
                // Its place is another's: also while a handler is at work, when nothing is read.
                () = lost.cancelled() => return,
                () = stop.cancelled() => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%address, %error, "an HTTP connection ended");
            }
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

#[cfg(test)]
mod tests;
