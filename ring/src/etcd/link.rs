//! The connection to etcd: every call is bounded, and errors are turned into words.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions, ResponseHeader};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::{Options, apart::Apart};
use crate::Error;

/// The longest that one call may take.
pub(super) const CALL: Duration = Duration::from_secs(3);

/// How often a connection is probed while nothing is said, and how long the answer may take. etcd refuses more than one probe in 5 s.
const PROBE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(4));

pub(super) struct Link {
    options: Options,
    /// Made by the first call that gets through: with a user, making it asks etcd for a token.
    client: OnceCell<Client>,
    endpoints: String,
    apart: Apart,
}

impl Link {
    pub(super) fn new(options: Options) -> Result<Self, Error> {
        if options.endpoints.is_empty() {
            return Err(Error::Invalid(
                "no etcd endpoint is given; list one or more, such as http://127.0.0.1:2379".to_owned(),
            ));
        }
        for endpoint in &options.endpoints {
            let problem = if endpoint.starts_with("https://") {
                "needs TLS, which this build leaves out; use http://"
            } else if !endpoint.starts_with("http://") {
                "has no scheme; write http://host:port"
            } else if !has_authority(endpoint) {
                "is no URL; write http://host:port"
            } else {
                continue;
            };
            return Err(Error::Invalid(format!("etcd endpoint {endpoint:?} {problem}")));
        }
        let endpoints = options.endpoints.join(", ");
        let apart = Apart::begin().map_err(|error| {
            tracing::error!(%error, "no thread for etcd");
            Error::Closed
        })?;
        Ok(Self { options, client: OnceCell::new(), endpoints, apart })
    }

    /// Where what must not wait for anybody runs, the connection itself included.
    pub(super) fn apart(&self) -> &Handle {
        self.apart.handle()
    }

    pub(super) fn hung_after(&self) -> Duration {
        self.options.hung_after
    }

    /// Where etcd is, for logs.
    pub(super) fn endpoints(&self) -> &str {
        &self.endpoints
    }

    /// Makes one call, which takes at most [`CALL`].
    pub(super) async fn call<T>(
        &self,
        what: &str,
        call: impl AsyncFnOnce(Client) -> Result<T, etcd_client::Error>,
    ) -> Result<T, Error> {
        self.try_call(CALL, call).await.map_err(|error| self.unavailable(what, &error))
    }

    /// Makes one call, which takes at most `limit`; for those who look into the error.
    pub(super) async fn try_call<T>(
        &self,
        limit: Duration,
        call: impl AsyncFnOnce(Client) -> Result<T, etcd_client::Error>,
    ) -> Result<T, CallError> {
        // Boxed, since etcd's calls are futures of many kilobytes.
        let whole = Box::pin(async { call(self.client().await?).await });
        match timeout(limit, whole).await {
            Ok(result) => result.map_err(CallError::Etcd),
            Err(_) => Err(CallError::NoAnswer(limit)),
        }
    }

    pub(super) fn unavailable(&self, what: &str, error: &CallError) -> Error {
        Error::Unavailable { endpoints: self.endpoints.clone(), reason: format!("could not {what}: {error}") }
    }

    async fn client(&self) -> Result<Client, etcd_client::Error> {
        let connect = || {
            let mut options = ConnectOptions::new()
                .with_connect_timeout(CALL)
                .with_keep_alive(PROBE.0, PROBE.1)
                .with_keep_alive_while_idle(true)
                // A server that has lost its cluster says so, where it would else be silent for ever.
                .with_require_leader(true)
                .with_auto_token_refresh(true);
            if let Some((user, password)) = &self.options.user {
                options = options.with_user(user, password);
            }
            let endpoints = self.options.endpoints.clone();
            // The connection's own tasks run where it is made.
            let connected =
                self.apart().spawn(async move { Client::connect(endpoints, Some(options)).await });
            async {
                connected.await.map_err(|ended| etcd_client::Error::IoError(std::io::Error::other(ended)))?
            }
        };
        self.client.get_or_try_init(connect).await.cloned()
    }
}

/// Why a call did not succeed.
#[derive(Debug)]
pub(super) enum CallError {
    NoAnswer(Duration),
    Etcd(etcd_client::Error),
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoAnswer(limit) => write!(f, "no answer within {limit:?}"),
            Self::Etcd(etcd_client::Error::GRpcStatus(status)) => {
                write!(f, "{} ({:?})", status.message(), status.code())?;
                // "tcp connect error: connection refused" stands at the end of the chain.
                let mut cause = std::error::Error::source(status);
                while let Some(error) = cause {
                    if error.source().is_none() {
                        write!(f, ": {error}")?;
                    }
                    cause = error.source();
                }
                Ok(())
            }
            Self::Etcd(error) => error.fmt(f),
        }
    }
}

impl CallError {
    /// Whether etcd itself refused the call, with these words among others. Its codes alone don't tell apart what matters here.
    pub(super) fn says(&self, words: &str) -> bool {
        matches!(self, Self::Etcd(etcd_client::Error::GRpcStatus(status)) if status.message().contains(words))
    }
}

/// The revision that an answer was given at.
pub(super) fn revision(header: Option<&ResponseHeader>) -> u64 {
    header.map_or(0, |header| unsigned(header.revision()))
}

/// etcd's revisions are positive, although its messages could carry others.
pub(super) fn unsigned(revision: i64) -> u64 {
    revision.try_into().unwrap_or(0)
}

/// Whether a host, and perhaps a port, comes after the scheme.
fn has_authority(endpoint: &str) -> bool {
    let authority = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let port_is_good =
        authority.rsplit_once(':').is_none_or(|(_, port)| port.ends_with(']') || port.parse::<u16>().is_ok());
    !authority.is_empty()
        && port_is_good
        && !authority.contains(|letter: char| letter == '/' || letter.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_endpoint_is_told_with_what_to_write() {
        let check = |endpoints: &[&str]| {
            let endpoints = endpoints.iter().map(ToString::to_string).collect();
            Link::new(Options::new(endpoints, "shop", 1)).err().map(|error| error.to_string())
        };
        assert_eq!(check(&["http://127.0.0.1:2379", "http://[::1]:2379/", "http://etcd"]), None);
        for (bad, word) in [
            ("https://etcd:2379", "TLS"),
            ("etcd:2379", "scheme"),
            ("http://etcd:port", "no URL"),
            ("http://", "no URL"),
            ("http://a b:1", "no URL"),
        ] {
            let error = check(&[bad]).unwrap_or_else(|| panic!("{bad} was taken"));
            assert!(error.contains(word) && error.contains("http://"), "{error}");
        }
        assert!(check(&[]).unwrap().contains("no etcd endpoint"));
    }
}
