//! Bytes in strings: base64 in two alphabets, and hex.

use crate::param;

/// The last two digits of base64: of its usual alphabet, and of the one for URLs.
pub(super) const STANDARD: [u8; 2] = *b"+/";
const URL: [u8; 2] = *b"-_";

/// All bytes that a string may be written for, each once; none for an empty one.
pub(super) fn unpacked(text: &str) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for bytes in [base64(text, STANDARD), base64(text, URL), param::read_hex(text)].into_iter().flatten() {
        if !bytes.is_empty() && !all.contains(&bytes) {
            all.push(bytes);
        }
    }
    all
}

/// Whether bytes are text, of which a key part could be made.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

/// Base64 with its padding; `None` for anything else.
pub(super) fn base64(text: &str, last: [u8; 2]) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if bytes.is_empty() || !bytes.len().is_multiple_of(4) {
        return None;
    }
    let body = text.trim_end_matches('=').as_bytes();
    let padding = bytes.len() - body.len();
    if padding > 2 {
        return None;
    }
    let mut decoded = Vec::with_capacity(bytes.len() / 4 * 3);
    for chunk in body.chunks(4) {
        let mut word = 0u32;
        for byte in chunk {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                byte if *byte == last[0] => 62,
                byte if *byte == last[1] => 63,
                _ => return None,
            };
            word = word << 6 | u32::from(digit);
        }
        word <<= 6 * (4 - chunk.len());
        decoded.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    Some(decoded)
}
