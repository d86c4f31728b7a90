use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use super::*;
use crate::auth::check::Trusted;
use crate::auth::{Refused, Rules, Wanted};
use crate::config::AuthConfig;

/// A key of the site's identity provider.
struct Key {
    kid: &'static str,
    pair: Vec<u8>,
}

impl Key {
    fn new(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let pair = pair.as_ref().to_vec();
        Self { kid, pair }
    }

    fn published(&self) -> Value {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.pair).unwrap();
        let point = pair.public_key().as_ref().to_vec();
        let coordinate = |at: usize| URL_SAFE_NO_PAD.encode(&point[at..at + 32]);
        json!({"kty": "EC", "crv": "P-256", "x": coordinate(1), "y": coordinate(33), "kid": self.kid})
    }

    /// The `Authorization` of a token that this key signed.
    fn token(&self) -> String {
        let header = Header {
            kid: Some(self.kid.into()),
            ..Header::new(Algorithm::ES256)
        };
        let claims = json!({"sub": "admin", "iss": "https://idp", "aud": "smd", "exp": 4_000_000_000_u64});
        let token = encode(&header, &claims, &EncodingKey::from_ec_der(&self.pair)).unwrap();
        format!("Bearer {token}")
    }
}

fn set(keys: &[&Key]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.published()).collect();
    json!({ "keys": keys }).to_string()
}

/// A web server with one page.
#[derive(Clone)]
struct Server {
    page: Arc<Mutex<(&'static str, String)>>,
    asked: Arc<AtomicUsize>,
    url: String,
}

impl Server {
    fn new(page: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let server = Self {
            page: Arc::new(Mutex::new(("200 OK", page))),
            asked: Arc::default(),
            url: format!("http://{}/keys", listener.local_addr().unwrap()),
        };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                // Before the answer: whoever has it may count at once.
                serving.asked.fetch_add(1, Ordering::SeqCst);
                let (status, page) = serving.page.lock().unwrap().clone();
                let length = page.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
                );
            }
        });
        server
    }

    fn answers(&self, status: &'static str, page: String) {
        *self.page.lock().unwrap() = (status, page);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Keys that are kept fresh with those of this server.
fn auth(server: &Server, pace: Pace) -> Arc<Auth> {
    let dir = tempfile::tempdir().unwrap();
    let config = AuthConfig {
        jwks: Some(Jwks::Url(server.url.clone())),
        rules: Rules {
            issuers: vec!["https://idp".into()],
            audiences: vec!["smd".into()],
        },
        ..AuthConfig::default()
    };
    let mut auth = Auth::open(&config, dir.path()).unwrap();
    auth.site.pace = pace;
    let auth = Arc::new(auth);
    tokio::spawn(Arc::clone(&auth).keep_fresh(Arc::default(), CancellationToken::new()));
    auth
}

fn check(auth: &Auth, key: &Key) -> Result<(), Refused> {
    auth.check(Some(&key.token()), Wanted::Write).map(drop)
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..2000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it does not come about");
}

#[test]
fn keys_in_a_file_are_good_from_the_start() {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::new("file"));
    let path = dir.path().join("keys.json");
    std::fs::write(&path, set(&[&key])).unwrap();
    let config = AuthConfig {
        jwks: Some(Jwks::File(path)),
        rules: Rules {
            issuers: vec!["https://idp".into()],
            audiences: vec!["smd".into()],
        },
        ..AuthConfig::default()
    };
    let auth = Auth::open(&config, dir.path()).unwrap();
    assert_eq!(check(&auth, &key), Ok(()));
}

const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_accepted_at_once_and_the_old_one_no_longer() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let server = Server::new(set(&[&old]));
    let pace = Pace {
        soon: Duration::from_millis(100),
        late: NEVER,
    };
    let auth = auth(&server, pace);
    until(|| check(&auth, &old).is_ok()).await;
    server.answers("200 OK", set(&[&new]));
    tokio::time::sleep(2 * pace.soon).await;
    assert_eq!(check(&auth, &old), Ok(()));
    assert_eq!(check(&auth, &new), Err(Refused::UnknownKey));
    assert!(auth.look_again().await);
    assert_eq!(check(&auth, &new), Ok(()));
    assert_eq!(check(&auth, &old), Err(Refused::UnknownKey));
    assert_eq!(server.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_tokens_name_unknown_keys_the_site_is_asked_once_in_a_while() {
    let server = Server::new(set(&[&Key::new("a")]));
    let pace = Pace {
        soon: Duration::from_millis(500),
        late: NEVER,
    };
    let auth = auth(&server, pace);
    until(|| auth.site.looks.borrow().ended == 1).await;
    assert!(!auth.look_again().await, "the last look is just over");
    tokio::time::sleep(pace.soon).await;
    let many: Vec<_> = (0..50)
        .map(|_| {
            let auth = Arc::clone(&auth);
            tokio::spawn(async move { auth.look_again().await })
        })
        .collect();
    let mut waited = 0;
    for one in many {
        waited += usize::from(one.await.unwrap());
    }
    assert!(waited > 0);
    assert_eq!(server.asked(), 2);
    // Nothing that was asked for meanwhile comes afterwards.
    tokio::time::sleep(2 * pace.soon).await;
    assert_eq!(server.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_page_keeps_the_keys_from_before_and_is_shown_until_it_is_gone() {
    let (a, b) = (Key::new("a"), Key::new("b"));
    let server = Server::new(set(&[&a]));
    let pace = Pace {
        soon: Duration::from_millis(10),
        late: Duration::from_millis(40),
    };
    let auth = auth(&server, pace);
    until(|| check(&auth, &a).is_ok()).await;
    let good = set(&[&b]);
    for (status, page) in [
        ("500 Internal Server Error", good.clone()),
        ("200 OK", "<html>sorry</html>".to_owned()),
        ("200 OK", good[..good.len() - 2].to_owned()),
        ("200 OK", json!({"error": "sorry"}).to_string()),
        ("200 OK", String::new()),
        ("200 OK", " ".repeat(MOST + 1)),
    ] {
        server.answers(status, page);
        let before = server.asked();
        until(|| server.asked() > before + 1 && auth.trouble().is_some()).await;
        assert_eq!(check(&auth, &a), Ok(()), "{status}");
        assert_eq!(check(&auth, &b), Err(Refused::UnknownKey), "{status}");
    }
    server.answers("200 OK", good);
    until(|| check(&auth, &b).is_ok()).await;
    assert_eq!(check(&auth, &a), Err(Refused::UnknownKey));
    until(|| auth.trouble().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_cannot_be_asked_is_told_with_the_cause_and_what_it_means_for_tokens() {
    let server = Server::new(String::new());
    let pace = Pace {
        soon: NEVER,
        late: NEVER,
    };
    // It does not speak TLS.
    let secure = Server {
        url: server.url.replace("http:", "https:"),
        ..server
    };
    let auth = auth(&secure, pace);
    until(|| auth.trouble().is_some()).await;
    let trouble = auth.trouble().unwrap();
    assert!(trouble.contains("InvalidContentType"), "{trouble}");
    assert!(
        trouble.ends_with("; no key of it is known yet, so its tokens are refused"),
        "{trouble}"
    );
    assert_eq!(trouble.matches(&secure.url).count(), 1, "{trouble}");
}

#[test]
fn waits_after_failures_grow_up_to_five_minutes_and_chance_shortens_them() {
    let (pace, url) = (Site::default().pace, Jwks::Url("http://x/".into()));
    let seconds = |failures, chance| pace.after(failures, &url, chance).as_secs();
    let longest: Vec<u64> = (0..8).map(|failures| seconds(failures, 1.0)).collect();
    assert_eq!(longest, [300, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(
        (seconds(1, 0.0), seconds(7, 0.0), seconds(u32::MAX, 0.0)),
        (5, 150, 150)
    );
    assert_eq!(pace.after(9, &Jwks::File("x".into()), 1.0).as_secs(), 10);
    let chances: Vec<f64> = (0..20).map(|_| chance()).collect();
    assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
    assert!(chances.iter().any(|chance| *chance != chances[0]));
}

#[test]
fn a_key_of_a_kind_that_is_not_known_does_not_spoil_the_set() {
    let set = json!({"keys": [{"kty": "SPHINCS", "kid": "new"}, Key::new("a").published(), 7]}).to_string();
    let set = set_of(set.as_bytes()).unwrap();
    assert_eq!(Trusted::of_set(&set, &Rules::default()).len(), 1);
}
