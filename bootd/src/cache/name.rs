//! What an artifact may be called. A path is split and percent-decoded once, here; everything behind works with decoded names.

use percent_encoding::percent_decode_str;

use super::OpenError;

/// What a path of the artifacts listener names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// `/`.
    Root,
    /// `/<bucket>`, with or without a slash at the end.
    Bucket(String),
    /// `/<bucket>/<key>`.
    Object {
        /// The bucket.
        bucket: String,
        /// The key in it.
        key: String,
    },
}

impl Name {
    /// Reads the path of a request, still encoded, without its query.
    pub fn parse(path: &str) -> Result<Self, OpenError> {
        let Some(path) = path.strip_prefix('/') else {
            return Err(OpenError::BadName("the path does not begin with a slash"));
        };
        if path.is_empty() {
            return Ok(Self::Root);
        }
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let bucket = decode(bucket)?;
        check_key(&bucket)?;
        if key.is_empty() {
            return Ok(Self::Bucket(bucket));
        }
        let key = decode(key)?;
        check_key(&key)?;
        Ok(Self::Object { bucket, key })
    }
}

/// Refuses what is no key: an origin that is a folder or a proxy could take it for another place.
pub(super) fn check_key(key: &str) -> Result<(), OpenError> {
    if key.len() > KEY_LIMIT {
        return Err(OpenError::BadName("the key is longer than 1024 bytes"));
    }
    if key.chars().any(char::is_control) {
        return Err(OpenError::BadName("the key has a control character"));
    }
    if key.split('/').any(str::is_empty) {
        return Err(OpenError::BadName("the key has an empty segment"));
    }
    if key.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(OpenError::BadName("the key has a `.` or `..` segment"));
    }
    Ok(())
}

fn decode(text: &str) -> Result<String, OpenError> {
    percent_decode_str(text)
        .decode_utf8()
        .map(String::from)
        .map_err(|_| OpenError::BadName("the key is not UTF-8"))
}

/// Longest key, as S3 has it.
const KEY_LIMIT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_what_they_name() {
        let object = |bucket: &str, key: &str| Name::Object {
            bucket: bucket.into(),
            key: key.into(),
        };
        let table = [
            ("/", Name::Root),
            ("/b", Name::Bucket("b".into())),
            ("/b/", Name::Bucket("b".into())),
            ("/b/k", object("b", "k")),
            ("/b/a/k.img", object("b", "a/k.img")),
            ("/b/a%2Fk", object("b", "a/k")),
            ("/b/with%20space+plus", object("b", "with space+plus")),
            ("/b/%252e%252e", object("b", "%2e%2e")),
            ("/b/...", object("b", "...")),
            ("/b/..a", object("b", "..a")),
            ("/b/100%", object("b", "100%")),
        ];
        for (path, want) in table {
            assert_eq!(Name::parse(path).unwrap(), want, "{path}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_no_names() {
        let long = format!("/b/{}", "a".repeat(1025));
        for path in [
            "",
            "b/k",
            "//",
            "//k",
            "/b//",
            "/b//k",
            "/b/k/",
            "/b/a//k",
            "/../k",
            "/..",
            "/%2e%2e/k",
            "/%2e%2e%2fk",
            "/b/..",
            "/b/../k",
            "/b/a/../../k",
            "/b/%2e%2e/k",
            "/b/..%2f..%2fetc/passwd",
            "/b/.",
            "/b/./k",
            "/b/%2fetc/passwd",
            "/b/a%00",
            "/b/a%0a",
            "/b/%ff",
            "/b%00/k",
            &long,
        ] {
            assert!(matches!(Name::parse(path), Err(OpenError::BadName(_))), "{path}");
        }
    }
}
