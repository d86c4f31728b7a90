//! Query strings and form bodies (`application/x-www-form-urlencoded`).
//!
//! Reads what iPXE, curl and cloud-init send. Owns nothing and allocates no more than the text is long. What is not well formed is `None`
//! as a whole, so that nobody acts on half of a request.

/// The names and values of `a=1&b=%3A+x`, decoded, in their order. `None`: a broken `%` escape, or not UTF-8 when decoded.
pub fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    text.split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decoded(name)?, decoded(value)?))
        })
        .collect()
}

/// The first value of this name that is not empty.
pub fn first<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|(n, v)| n == name && !v.is_empty())
        .map(|(_, value)| value.as_str())
}

/// A text as one segment of a URL's path: all but letters, digits and `-._~` is percent-encoded.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_and_its_first_value_found() {
        let query = pairs("mac=52%3A54%3a00:be:ef:01&retry=&arch=x86+64&retry=2&&flag").unwrap();
        assert_eq!(first(&query, "mac"), Some("52:54:00:be:ef:01"));
        assert_eq!(first(&query, "retry"), Some("2"));
        assert_eq!(first(&query, "arch"), Some("x86 64"));
        assert_eq!(first(&query, "flag"), None);
    }

    #[test]
    fn broken_escapes_are_refused() {
        for text in ["a=%", "a=%4", "a=%zz", "%ff=1"] {
            assert_eq!(pairs(text), None, "{text}");
        }
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(segment("compute-1"), "compute-1");
        assert_eq!(segment("../a b\n"), "..%2Fa%20b%0A");
    }
}
