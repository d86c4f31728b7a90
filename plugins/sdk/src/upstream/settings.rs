//! What a plugin in upstream mode is told of its site. Each key is checked where it is read, so that a mistake names it.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

/// How a site is reached and how far it is trusted.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The site.
    pub url: Url,
    /// A file of PEM certificates that are trusted instead of the system's. A relative path is below the folder of bootd.toml.
    pub ca: Option<PathBuf>,
    /// The token that is shown to the site.
    pub token: Option<Token>,
    /// Between two refreshes.
    pub refresh: Refresh,
    /// What is not believed at once.
    pub hold_back: HoldBack,
}

/// `scheme://host[:port][/path]`, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(pub(super) String);

impl Url {
    /// As a text, without a slash at its end.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let rest = rest.ok_or_else(|| de::Error::custom("it must begin with http:// or https://"))?;
        let host = rest.split('/').next().unwrap_or_default();
        if host.contains('@') {
            return Err(de::Error::custom(
                "it must not hold a user or a password; see config.token",
            ));
        }
        let is_bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '"' | '\\');
        if host.is_empty() || host.starts_with(':') || text.chars().any(is_bad) {
            return Err(de::Error::custom(
                "it must be scheme://host[:port][/path], without a query",
            ));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

/// Where a bearer token lies. It is never itself part of bootd.toml, which more people read than may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A file, looked at before each use: tokens are renewed.
    File(PathBuf),
    /// A variable of bootd's environment.
    Env(String),
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const FORM: &str = "it must be { file = \"/etc/bootd/site.token\" } or { env = \"SITE_ACCESS_TOKEN\" }";
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            file: Option<PathBuf>,
            env: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Raw(Raw),
            Other(de::IgnoredAny),
        }
        match Any::deserialize(deserializer)? {
            Any::Raw(Raw {
                file: Some(file),
                env: None,
            }) => Ok(Self::File(file)),
            Any::Raw(Raw {
                file: None,
                env: Some(name),
            }) if !name.is_empty() => Ok(Self::Env(name)),
            Any::Raw(_) | Any::Other(_) => Err(de::Error::custom(FORM)),
        }
    }
}

/// Seconds between two refreshes, 1 to 86,400; 30 by default. Each time a tenth more or less, so that racks do not ask in step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refresh(pub(super) u32);

impl Default for Refresh {
    fn default() -> Self {
        Self(30)
    }
}

impl<'de> Deserialize<'de> for Refresh {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            seconds @ 1..=86_400 => Ok(Self(seconds)),
            _ => Err(de::Error::custom("it must be 1 to 86400 seconds")),
        }
    }
}

/// When a refresh is held back: when it would lose more than this share of a collection's rows and at least this many, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HoldBack {
    /// 0 to 1; half by default. 1: only a refresh that loses all is held back.
    #[serde(deserialize_with = "share")]
    pub share: f64,
    /// Fewer lost rows than these are believed; 2 by default.
    pub least: usize,
}

impl Default for HoldBack {
    fn default() -> Self {
        Self { share: 0.5, least: 2 }
    }
}

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match f64::deserialize(deserializer)? {
        share if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(de::Error::custom("it must be 0 to 1")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_url_no_token_and_no_share_is_named() {
        let url = |text: &str| serde_json::from_value::<Url>(json!(text)).map_err(|error| error.to_string());
        assert_eq!(url("https://site:8443/").unwrap().text(), "https://site:8443");
        assert_eq!(url("http://[::1]:1/ochami").unwrap().text(), "http://[::1]:1/ochami");
        for bad in [
            "",
            "site",
            "ftp://site",
            "http://",
            "http://:1",
            "http://a b",
            "http://a?b",
            "http://u:p@a/",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
        let token = |value| serde_json::from_value::<Token>(value);
        assert_eq!(token(json!({"file": "t"})).unwrap(), Token::File("t".into()));
        assert_eq!(token(json!({"env": "T"})).unwrap(), Token::Env("T".into()));
        for bad in [
            json!("eyJ"),
            json!({}),
            json!({"env": ""}),
            json!({"file": "a", "env": "b"}),
            json!({"fil": "a"}),
        ] {
            let error = token(bad.clone()).unwrap_err().to_string();
            assert!(error.contains("site.token") && !error.contains("eyJ"), "{bad}: {error}");
        }
        assert!(serde_json::from_value::<HoldBack>(json!({"share": 1.5})).is_err());
        assert!(serde_json::from_value::<Refresh>(json!(0)).is_err());
        assert_eq!(
            serde_json::from_value::<HoldBack>(json!({"share": 0.25}))
                .unwrap()
                .least,
            2
        );
    }
}
