//! URLs that carry a password: shown masked, handed out whole only on request.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// What stands in place of a secret wherever a value is printed.
pub(super) const MASK: &str = "***";

/// Replaces the password of a URL, in its user part or in its query, by `***`.
///
/// Errs on the side of hiding: if the user part can't be told apart for sure, all up to the last `@` goes.
pub fn mask_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return mask_query(url);
    };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A raw `/` or `#` in a password ends the authority early, before the `@`.
    let at = rest[..authority].rfind('@').or_else(|| {
        let colon = rest[..authority].find(':')?;
        let port = &rest[colon + 1..authority];
        if port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty() { None } else { rest.rfind('@') }
    });
    let Some(at) = at else {
        return format!("{scheme}://{}", mask_query(rest));
    };
    let (user, host) = (&rest[..at], &rest[at + 1..]);
    match user.split_once(':') {
        Some((name, _)) => format!("{scheme}://{name}:{MASK}@{}", mask_query(host)),
        None => format!("{scheme}://{user}@{}", mask_query(host)),
    }
}

fn mask_query(rest: &str) -> String {
    let Some((path, query)) = rest.split_once('?') else {
        return rest.to_owned();
    };
    let parts: Vec<String> = query
        .split('&')
        .map(|part| match part.split_once('=') {
            Some((name, _)) if is_secret_name(name) => format!("{name}={MASK}"),
            _ => part.to_owned(),
        })
        .collect();
    format!("{path}?{}", parts.join("&"))
}

/// Whether a property or query parameter of this name holds something to hide.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "secret", "token", "key.pem", "sasl.jaas"].iter().any(|part| name.contains(part))
}

/// A database URL: printed and logged masked, see [`mask_url`].
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Takes a URL as written.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its password, for the driver alone.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is wrong with it as a URL of MySQL, a sentence each; nothing of one that is of another database.
    pub fn mysql_problems(&self) -> Vec<String> {
        if self.0.starts_with("mysql://") { super::mysql_url::problems(&self.0) } else { Vec::new() }
    }

    /// Whether no URL was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_url(&self.0))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", mask_url(&self.0))
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&mask_url(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_survives_masking() {
        for (url, masked) in [
            ("mysql://app:s3cret@db/shop", "mysql://app:***@db/shop"),
            ("mysql://app:s3:c@ret@db:3306/shop", "mysql://app:***@db:3306/shop"),
            ("mysql://app:s3/cr#et@db:3306/shop", "mysql://app:***@db:3306/shop"),
            ("mysql://app@db/shop", "mysql://app@db/shop"),
            ("mysql://db:3306/shop?note=a@b", "mysql://db:3306/shop?note=a@b"),
            ("mysql://db/shop?ssl=1&password=x", "mysql://db/shop?ssl=1&password=***"),
            ("sqlite:shop.db", "sqlite:shop.db"),
            ("", ""),
        ] {
            assert_eq!(mask_url(url), masked);
        }
    }
}
