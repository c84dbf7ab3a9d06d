//! Look-aside tokens of one connection: what a miss gave is kept here until the SET that needs it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

/// Tokens that a connection keeps; the oldest make room.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Tokens {
    by_key: HashMap<Arc<str>, (u64, Bytes)>,
    /// In the order in which they came; a number that is not its key's is of an older token.
    order: VecDeque<(u64, Arc<str>)>,
    next: u64,
}

impl Tokens {
    /// Keeps the token of a miss, in place of the key's last one.
    pub(crate) fn keep(&mut self, key: Arc<str>, token: Bytes) {
        self.next += 1;
        self.by_key.insert(key.clone(), (self.next, token));
        self.order.push_back((self.next, key));
        while self.order.len() > MOST {
            if let Some((number, key)) = self.order.pop_front()
                && self.by_key.get(&key).is_some_and(|(current, _)| *current == number)
            {
                self.by_key.remove(&key);
            }
        }
    }

    /// The key's token, which can be used once.
    pub(crate) fn take(&mut self, key: &str) -> Option<Bytes> {
        self.by_key.remove(key).map(|(_, token)| token)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_once_and_the_oldest_make_room() {
        let mut tokens = Tokens::default();
        for n in 0..=MOST {
            tokens.keep(format!("k:{n}").into(), Bytes::from(n.to_string()));
        }
        assert_eq!(tokens.take("k:0"), None);
        assert_eq!(tokens.take("k:1"), Some(Bytes::from_static(b"1")));
        assert_eq!(tokens.take("k:1"), None);
        tokens.keep("k:2".into(), Bytes::from_static(b"newer"));
        assert_eq!(tokens.take("k:2"), Some(Bytes::from_static(b"newer")));
        for _ in 0..3 * MOST {
            tokens.keep("k:5".into(), Bytes::new());
        }
        assert!(tokens.take("k:5").is_some() && tokens.order.len() <= MOST);
    }
}
