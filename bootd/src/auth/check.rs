//! Whether a token is good: pure.

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

/// How far the clocks of this box and of whoever made a token may be apart, in seconds.
const LEEWAY: u64 = 60;
/// Bytes that a token may have.
const LONGEST: usize = 16 * 1024;

/// Who may sign, for whom, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// `iss` must be one of these; empty: any.
    pub issuers: Vec<String>,
    /// `aud` must have one of these.
    pub audiences: Vec<String>,
}

/// A key that is trusted, and the rules for tokens that it signed.
pub(super) struct Trusted {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
    rules: Rules,
}

/// Why a token is refused. Each is a metric label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none.
    #[error("this needs a token: Authorization: Bearer ... (bootd token makes one)")]
    Missing,
    /// It is not a JWT.
    #[error("the token is not a JSON Web Token")]
    Malformed,
    /// It is signed with an algorithm that is not accepted: none, with a shared secret, not the key's, or with an extension.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// No trusted key made the signature.
    #[error("the token is not signed by a trusted key")]
    Signature,
    /// It names a key that is not among the trusted ones.
    #[error("the token is not signed by a trusted key: nobody knows the key that it names")]
    UnknownKey,
    /// A claim is missing or of the wrong type.
    #[error("the token has no claim '{0}', or a wrong one")]
    Claim(&'static str),
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    TooEarly,
    /// It comes from somebody else.
    #[error("the token's issuer is not one that is configured")]
    Issuer,
    /// It is for somebody else.
    #[error("the token is not for this service: its audience is another one")]
    Audience,
    /// It allows something else.
    #[error("the token does not allow this: it needs one of the scopes {0}")]
    Scope(String),
}

impl Refused {
    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing => "no_token",
            Self::Malformed => "token_malformed",
            Self::Algorithm => "token_algorithm",
            Self::Signature => "token_signature",
            Self::UnknownKey => "token_key",
            Self::Claim(_) => "token_claim",
            Self::Expired => "token_expired",
            Self::TooEarly => "token_too_early",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::Scope(_) => "token_scope",
        }
    }
}

impl Trusted {
    /// An elliptic-curve key of P-256, as an uncompressed point.
    pub(super) fn p256(point: &[u8], kid: &str, rules: Rules) -> Self {
        Self {
            kid: Some(kid.into()),
            algorithms: vec![Algorithm::ES256],
            key: DecodingKey::from_ec_der(point),
            rules,
        }
    }

    /// The keys of a set that can check signatures; the others are left out.
    pub(super) fn of_set(set: &JwkSet, rules: &Rules) -> Vec<Self> {
        set.keys.iter().filter_map(|jwk| Self::of_jwk(jwk, rules)).collect()
    }

    fn of_jwk(jwk: &Jwk, rules: &Rules) -> Option<Self> {
        let common = &jwk.common;
        let is_for_signatures = common
            .public_key_use
            .as_ref()
            .is_none_or(|of| *of == PublicKeyUse::Signature);
        let verifies = common
            .key_operations
            .as_ref()
            .is_none_or(|all| all.contains(&KeyOperations::Verify));
        // A shared secret in a published set is no secret.
        let fitting: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            AlgorithmParameters::EllipticCurve(_) => &[Algorithm::ES256, Algorithm::ES384],
            AlgorithmParameters::OctetKeyPair(_) => &[Algorithm::EdDSA],
            _ => return None,
        };
        let named = common.key_algorithm.map(|algorithm| algorithm.to_string());
        let algorithms: Vec<Algorithm> = fitting
            .iter()
            .copied()
            .filter(|one| named.as_ref().is_none_or(|name| *name == format!("{one:?}")))
            .collect();
        if !is_for_signatures || !verifies || algorithms.is_empty() {
            return None;
        }
        Some(Self {
            kid: common.key_id.clone(),
            algorithms,
            key: DecodingKey::from_jwk(jwk).ok()?,
            rules: rules.clone(),
        })
    }
}

/// The claims of a token that is good at this time, in seconds since 1970.
pub(super) fn check(token: &str, trusted: &[Trusted], now: u64) -> Result<Value, Refused> {
    if token.len() > LONGEST {
        return Err(Refused::Malformed);
    }
    let header = decode_header(token).map_err(|_| match header_field(token, "alg") {
        // It is one, but of an algorithm that nobody should use.
        Some(_) => Refused::Algorithm,
        None => Refused::Malformed,
    })?;
    // RFC 7515 section 4.1.11: what must be understood is not.
    if header_field(token, "crit").is_some() {
        return Err(Refused::Algorithm);
    }
    let fits = |one: &&Trusted| one.algorithms.contains(&header.alg);
    // A set that is looked at again may hold it then, with an algorithm that is new, too.
    let is_unknown = header.kid.is_some() && trusted.iter().all(|one| one.kid != header.kid);
    let unknown = if is_unknown && !is_symmetric(header.alg) {
        Refused::UnknownKey
    } else if trusted.iter().any(|one| fits(&one)) {
        Refused::Signature
    } else {
        return Err(Refused::Algorithm);
    };
    let named = |one: &&Trusted| header.kid.is_none() || one.kid.is_none() || one.kid == header.kid;
    let mut validation = Validation::new(header.alg);
    // Only the signature: claims are checked below, against the time that was passed in.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let signed = trusted.iter().filter(fits).filter(named).find_map(|one| {
        let data = decode::<Value>(token, &one.key, &validation).ok()?;
        Some((data.claims, &one.rules))
    });
    let (claims, rules) = signed.ok_or(unknown)?;
    check_claims(&claims, rules, now)?;
    Ok(claims)
}

fn is_symmetric(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

fn check_claims(claims: &Value, rules: &Rules, now: u64) -> Result<(), Refused> {
    let time = |name: &'static str| match &claims[name] {
        Value::Null => Ok(None),
        value => value
            .as_u64()
            .or_else(|| value.as_f64().filter(|time| *time >= 0.0).map(|time| time as u64))
            .map(Some)
            .ok_or(Refused::Claim(name)),
    };
    let text = |name: &'static str| {
        let text = claims[name].as_str().filter(|text| !text.is_empty());
        text.ok_or(Refused::Claim(name))
    };
    text("sub")?;
    let issuer = text("iss")?;
    if time("exp")?.ok_or(Refused::Claim("exp"))?.saturating_add(LEEWAY) < now {
        return Err(Refused::Expired);
    }
    for begin in ["nbf", "iat"] {
        if time(begin)?.is_some_and(|begin| begin > now.saturating_add(LEEWAY)) {
            return Err(Refused::TooEarly);
        }
    }
    if !rules.issuers.is_empty() && !rules.issuers.iter().any(|one| one == issuer) {
        return Err(Refused::Issuer);
    }
    let audiences: Vec<&str> = match &claims["aud"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => return Err(Refused::Claim("aud")),
    };
    if !audiences
        .iter()
        .any(|one| rules.audiences.iter().any(|known| known == one))
    {
        return Err(Refused::Audience);
    }
    Ok(())
}

/// Whether claims carry one of these scopes; none are asked for: yes. Scopes come as a text with spaces or as a list, under three names.
pub(super) fn has_scope(claims: &Value, wanted: &[String]) -> bool {
    let carried = ["scope", "scopes", "scp"]
        .into_iter()
        .flat_map(|name| match &claims[name] {
            Value::String(text) => text.split_whitespace().collect::<Vec<_>>(),
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        });
    wanted.is_empty() || carried.into_iter().any(|one| wanted.iter().any(|scope| scope == one))
}

/// A field of a token's header, whatever it is.
fn header_field(token: &str, name: &str) -> Option<Value> {
    use base64::Engine;
    let (header, _) = token.split_once('.')?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).ok()?;
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(&bytes).ok()?;
    header.remove(name)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
