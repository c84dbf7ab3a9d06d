//! Look-aside: the application reads what is missing by itself, and sets it under the token that its miss was given.

use std::time::Duration;

use bytes::Bytes;
use ring::slot_of;
use tracing::debug;
use wire::{Only, Outcome, Put, ReadOptions, Set};

use crate::{Client, Error, attempts::Attempts, peers};

/// Why [`Client::get_or_load`] has no value.
#[derive(Debug, thiserror::Error)]
pub enum LoadError<E> {
    /// The key is wrong.
    #[error(transparent)]
    Key(Error),
    /// The caller's own read failed.
    #[error("{0}")]
    Load(E),
}

impl Client {
    /// Sets a value that the caller read by itself **after** a look-aside get had given it `token`; `None` says that there is no such row.
    /// `ttl` shortens the group's.
    ///
    /// A value that may have become stale since the token was given is refused, which is no error: the caller has its value and goes on.
    /// Safe to repeat.
    pub async fn set(
        &self,
        key: &str,
        value: Option<Bytes>,
        token: &Bytes,
        ttl: Option<Duration>,
    ) -> Result<Set, Error> {
        if token.is_empty() {
            let epoch = self.ring().epoch().0;
            return Ok(Set { refused: Some("no_token".to_owned()), node: String::new(), epoch });
        }
        let value = &value;
        let set = self
            .retried(Attempts::new(self), Some(slot_of(key)), async |link, deadline| {
                peers::set(&link, deadline, key, value.clone(), token.clone(), ttl, false).await
            })
            .await?;
        self.routes().heard(set.epoch);
        Ok(set)
    }

    /// Returns a key's value from memory, or what `load` reads, which is then set for others. `None` is "no such row".
    ///
    /// `load` begins after the token was taken, as it must. When no node can answer, the value is loaded all the same and not set: a cache
    /// that is down costs the database a read, and the caller no answer. Any number of callers that miss at the same time each load. Safe
    /// to drop.
    ///
    /// # Errors
    ///
    /// [`LoadError::Key`] if the key is no key of the catalog, [`LoadError::Load`] with what `load` failed with.
    pub async fn get_or_load<F, L, E>(&self, key: &str, load: F) -> Result<Option<Bytes>, LoadError<E>>
    where
        F: FnOnce() -> L,
        L: Future<Output = Result<Option<Bytes>, E>>,
    {
        let options = ReadOptions { look_aside: true, ..ReadOptions::default() };
        let token = match self.get_with(key, options).await {
            Ok(answer) if answer.outcome == Outcome::Token => answer.token.unwrap_or_default(),
            // A plain group needs no token.
            Ok(answer) if answer.outcome == Outcome::Absent => return self.load_plain(key, load).await,
            Ok(answer) => return Ok(answer.value),
            Err(error @ Error::InvalidKey { .. }) => return Err(LoadError::Key(error)),
            Err(error) => {
                debug!(key, %error, "the cache has no answer, loading without it");
                Bytes::new()
            }
        };
        let value = load().await.map_err(LoadError::Load)?;
        if !token.is_empty()
            && let Err(error) = self.set(key, value.clone(), &token, None).await
        {
            debug!(key, %error, "the loaded value was not set");
        }
        Ok(value)
    }

    async fn load_plain<F, L, E>(&self, key: &str, load: F) -> Result<Option<Bytes>, LoadError<E>>
    where
        F: FnOnce() -> L,
        L: Future<Output = Result<Option<Bytes>, E>>,
    {
        let value = load().await.map_err(LoadError::Load)?;
        // Another one that was put meanwhile is no older than this.
        if let Some(value) = value.clone()
            && let Err(error) = self.put_with(key, Put { only: Only::IfAbsent, ..Put::new(value) }).await
        {
            debug!(key, %error, "the loaded value was not put");
        }
        Ok(value)
    }
}
