//! What may stand in a URL of MySQL. Drivers take what they don't know for nothing: *`ssl_mode=REQUIRED`, which is written `ssl-mode`, connects
//! in clear.*

use url::{ParseError, Url};

use super::suggest::did_you_mean;

/// Parameters by their names, and the other name that each has.
const PARAMETERS: [(&str, &str); 9] = [
    ("ssl-mode", "sslmode"),
    ("ssl-ca", "sslca"),
    ("ssl-cert", "sslcert"),
    ("ssl-key", "sslkey"),
    ("charset", "charset"),
    ("collation", "collation"),
    ("socket", "socket"),
    ("timezone", "time-zone"),
    ("statement-cache-capacity", "statement-cache-capacity"),
];
const MODES: [&str; 5] = ["DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"];

/// What is wrong with a URL that begins with `mysql://`, a sentence each; never with its password.
pub(super) fn problems(url: &str) -> Vec<String> {
    let mut found = Vec::new();
    let parsed = match Url::parse(url) {
        Ok(parsed) => parsed,
        Err(error) => return vec![broken(error).to_owned()],
    };
    match parsed.host_str() {
        None | Some("") => {
            found.push("has no host; write mysql://user:password@host:3306/database".to_owned());
        }
        Some(host) if host.contains('%') => {
            found.push(format!("has the host `{host}`, which is no name; is a `/`, `@` or `:` of the password not written as %2F, %40, %3A?"));
        }
        Some(_) => {}
    }
    if parsed.port() == Some(0) {
        found.push("has port 0; write the server's, which is 3306 unless it was told otherwise".to_owned());
    }
    let parts = [
        ("user", parsed.username()),
        ("password", parsed.password().unwrap_or_default()),
        ("database", parsed.path()),
    ];
    for (part, text) in parts {
        if let Some(wrong) = wrong_encoding(text) {
            found.push(format!(
                "has `{}` in its {part}: a percent sign is written as %25",
                if part == "password" { "%" } else { &wrong }
            ));
        }
    }
    if parsed.path().trim_start_matches('/').contains('/') {
        found.push("has more than one name after the host; write one database, or none".to_owned());
    }
    if parsed.fragment().is_some() {
        found.push("has a `#`; in a password it is written as %23".to_owned());
    }
    for (name, value) in parsed.query_pairs() {
        let Some((known, _)) = PARAMETERS.iter().find(|(known, other)| name == *known || name == *other)
        else {
            let names = PARAMETERS.iter().map(|(known, _)| *known);
            // `_` is as far from `-` as any letter.
            let near = did_you_mean(&name.replace('_', "-"), names.clone());
            let all = names.collect::<Vec<_>>().join(", ");
            found.push(format!("has the parameter `{name}`, which there is not{near} (there are {all})"));
            continue;
        };
        match *known {
            "ssl-mode" if !MODES.iter().any(|mode| mode.eq_ignore_ascii_case(&value)) => {
                let near = did_you_mean(&value, MODES);
                found.push(format!("has ssl-mode={value}{near} (write one of {})", MODES.join(", ")));
            }
            "statement-cache-capacity" if value.parse::<u16>().is_err() => {
                found.push(format!("has statement-cache-capacity={value}; write a number"));
            }
            _ if value.is_empty() => found.push(format!("has the parameter `{name}` without a value")),
            _ => {}
        }
    }
    found
}

fn broken(error: ParseError) -> &'static str {
    match error {
        ParseError::InvalidPort => {
            "has a port that is no number up to 65535; a `:`, `/`, `?` or `#` in the password is written as %3A, %2F, %3F, %23"
        }
        ParseError::EmptyHost => "has no host; write mysql://user:password@host:3306/database",
        ParseError::InvalidIpv6Address => {
            "has an IPv6 address that is none; write it like mysql://user@[2001:db8::1]:3306/database"
        }
        ParseError::InvalidIpv4Address => {
            "has an IPv4 address that is none; write it like mysql://user@192.0.2.1:3306/database"
        }
        _ => {
            "is no URL; write it like mysql://user:password@host:3306/database, with %40 for an `@` in a name or password"
        }
    }
}

/// The first `%` that is followed by no two hexadecimal digits, with what follows; or all, if what it means is no UTF-8.
fn wrong_encoding(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('%') {
        let digits = bytes.get(at + 1..at + 3).unwrap_or_default();
        if digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Some(text[at..].chars().take(3).collect());
        }
    }
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.is_err().then(|| text.chars().take(20).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_would_overlook_is_told() {
        for url in [
            "mysql://app:secret@db:3306/shop",
            "mysql://app@db",
            "mysql://app:p%40ss%2Fw%3Ard@db/shop?ssl-mode=verify_identity&ssl-ca=/etc/ca.pem",
            "mysql://app:secret@[2001:db8::1]:3306/shop?sslmode=REQUIRED",
            "mysql://app@127.0.0.1/shop?charset=utf8mb4&collation=utf8mb4_0900_ai_ci&timezone=%2B00:00&statement-cache-capacity=100",
            "mysql://app@localhost/shop?socket=/run/mysqld.sock",
        ] {
            assert_eq!(problems(url), Vec::<String>::new(), "{url}");
        }
        for (url, said) in [
            (
                "mysql://app:s3cret@db/shop?ssl_mode=REQUIRED",
                "`ssl_mode`, which there is not, did you mean `ssl-mode`? (there are ssl-mode,",
            ),
            ("mysql://app@db/shop?tls=true", "`tls`, which there is not"),
            ("mysql://app@db/shop?useSSL=true", "`useSSL`, which there is not"),
            ("mysql://app@db/shop?ssl-mode=require", "did you mean `REQUIRED`? (write one of DISABLED"),
            ("mysql://app@db/shop?ssl-ca=", "without a value"),
            ("mysql://app@db/shop?statement-cache-capacity=many", "write a number"),
            ("mysql://app:s3cret@db:99999/shop", "no number up to 65535"),
            ("mysql://app:s3/cret@db:3306/shop", "is written as %3A, %2F"),
            ("mysql://app@db:0/shop", "port 0"),
            ("mysql://app:s3cret%@db/shop", "in its password: a percent sign is written as %25"),
            ("mysql://app:%ff@db/shop", "in its password"),
            ("mysql://app@db/sh%zzop", "`%zz` in its database"),
            ("mysql://app@db/shop/users", "more than one name"),
            ("mysql://app@db/shop#x", "%23"),
            ("mysql://app@[::1/shop", "IPv6"),
            ("mysql:///shop", "no host"),
        ] {
            let found = problems(url).join("\n");
            assert!(found.contains(said), "{url}: {found}");
            assert!(!found.contains("s3"), "{found}");
        }
    }
}
