use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use super::*;

const NOW: u64 = 1_800_000_000;

struct Signer {
    pair: Vec<u8>,
    point: Vec<u8>,
}

impl Signer {
    fn new() -> Self {
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let read = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.as_ref()).unwrap();
        Self {
            pair: pair.as_ref().to_vec(),
            point: read.public_key().as_ref().to_vec(),
        }
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header::new(Algorithm::ES256);
        encode(&header, claims, &EncodingKey::from_ec_der(&self.pair)).unwrap()
    }

    fn trusted(&self) -> Vec<Trusted> {
        let rules = Rules {
            issuers: vec!["https://idp".into()],
            audiences: vec!["smd".into(), "bss".into()],
        };
        vec![Trusted::p256(&self.point, "k", rules)]
    }
}

fn claims() -> Value {
    json!({"sub": "admin", "iss": "https://idp", "aud": ["other", "smd"], "exp": NOW + 10, "iat": NOW - 10})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[test]
fn a_good_token_gives_its_claims_and_each_thing_that_is_wrong_its_own_reason() {
    let signer = Signer::new();
    let trusted = signer.trusted();
    let result = |claims: &Value| check(&signer.sign(claims), &trusted, NOW).map(drop);
    assert_eq!(check(&signer.sign(&claims()), &trusted, NOW), Ok(claims()));
    assert_eq!(result(&with("aud", json!("bss"))), Ok(()));
    for (name, value, refused) in [
        ("exp", json!(NOW - 61), Refused::Expired),
        ("exp", json!("soon"), Refused::Claim("exp")),
        ("exp", Value::Null, Refused::Claim("exp")),
        ("nbf", json!(NOW + 61), Refused::TooEarly),
        ("iat", json!(NOW + 3600), Refused::TooEarly),
        ("iss", json!("https://evil"), Refused::Issuer),
        ("iss", Value::Null, Refused::Claim("iss")),
        ("aud", json!("somebody"), Refused::Audience),
        ("aud", json!([]), Refused::Audience),
        ("aud", Value::Null, Refused::Claim("aud")),
        ("sub", json!(""), Refused::Claim("sub")),
        ("sub", json!(7), Refused::Claim("sub")),
    ] {
        assert_eq!(result(&with(name, value.clone())), Err(refused), "{name}: {value}");
    }
    // Clocks may be a minute apart.
    assert_eq!(result(&with("exp", json!(NOW - 59))), Ok(()));
    assert_eq!(result(&with("nbf", json!(NOW + 59))), Ok(()));
}

#[test]
fn a_token_of_another_key_without_a_signature_or_signed_with_what_everybody_knows_is_refused() {
    let signer = Signer::new();
    let trusted = signer.trusted();
    let check = |token: &str| check(token, &trusted, NOW).map(drop);
    assert_eq!(check(&Signer::new().sign(&claims())), Err(Refused::Signature));
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for algorithm in ["none", "None", "HS257"] {
        let token = format!("{}.{}.", part(&json!({"alg": algorithm})), part(&claims()));
        assert_eq!(check(&token), Err(Refused::Algorithm), "{algorithm}");
    }
    // The public key as a shared secret.
    let secret = EncodingKey::from_secret(&signer.point);
    let token = encode(&Header::new(Algorithm::HS256), &claims(), &secret).unwrap();
    assert_eq!(check(&token), Err(Refused::Algorithm));
    // Other claims under a good signature.
    let good = signer.sign(&claims());
    let signature = good.rsplit('.').next().unwrap();
    let header = good.split('.').next().unwrap();
    let token = format!("{header}.{}.{signature}", part(&with("sub", json!("root"))));
    assert_eq!(check(&token), Err(Refused::Signature));
    // A good signature under a header with an extension that must be understood.
    let signed = part(&json!({"alg": "ES256", "crit": ["exp"], "exp": 1})) + "." + &part(&claims());
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &signer.pair).unwrap();
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
    assert_eq!(check(&token), Err(Refused::Algorithm));
    for garbage in ["", ".", "..", "a.b.c", "\u{0}", &"x".repeat(20_000)] {
        assert_eq!(check(garbage), Err(Refused::Malformed), "{garbage:.10}");
    }
}

#[test]
fn a_set_of_keys_is_used_as_far_as_its_keys_check_signatures() {
    let signer = Signer::new();
    let coordinate = |at: usize| URL_SAFE_NO_PAD.encode(&signer.point[at..at + 32]);
    let key = json!({"kty": "EC", "crv": "P-256", "x": coordinate(1), "y": coordinate(33), "kid": "a", "use": "sig"});
    let mut encrypting = key.clone();
    encrypting["use"] = "enc".into();
    let mut of_another_algorithm = key.clone();
    of_another_algorithm["alg"] = "ES384".into();
    let secret = json!({"kty": "oct", "k": "c2VjcmV0", "kid": "b"});
    let rules = signer.trusted().remove(0).rules;
    let set = |keys: Value| serde_json::from_value::<JwkSet>(json!({ "keys": keys })).unwrap();
    let token = signer.sign(&claims());
    let trusted = Trusted::of_set(&set(json!([secret.clone(), key])), &rules);
    assert_eq!(trusted.len(), 1);
    assert!(check(&token, &trusted, NOW).is_ok());
    assert!(Trusted::of_set(&set(json!([secret, encrypting])), &rules).is_empty());
    let trusted = Trusted::of_set(&set(json!([of_another_algorithm])), &rules);
    assert_eq!(check(&token, &trusted, NOW), Err(Refused::Algorithm));
}

#[test]
fn scopes_come_as_a_text_or_as_a_list_and_none_are_asked_for_by_default() {
    let wanted = ["smd.write".to_owned(), "admin".to_owned()];
    assert!(has_scope(&json!({}), &[]));
    assert!(!has_scope(&json!({}), &wanted));
    assert!(has_scope(&json!({"scope": "smd.read admin"}), &wanted));
    assert!(has_scope(&json!({"scopes": ["smd.write"]}), &wanted));
    assert!(has_scope(&json!({"scp": "admin"}), &wanted));
    assert!(!has_scope(&json!({"scope": "administrator"}), &wanted));
}
