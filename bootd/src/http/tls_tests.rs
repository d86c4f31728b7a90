use std::path::PathBuf;
use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::{TlsConnector, client};

use super::*;

/// A site's certificate authority, and a folder where bootd's certificate and key are.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    dir: tempfile::TempDir,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            root,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn files(&self) -> Tls {
        Tls {
            cert: self.dir.path().join("cert.pem"),
            key: self.dir.path().join("key.pem"),
        }
    }

    /// A pair for this name.
    fn issue(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    fn write(&self, (cert, key): &(String, String)) {
        let files = self.files();
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, key).unwrap();
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o640)).unwrap();
    }

    fn config(&self) -> Config {
        let text = "[server]\naddress = \"172.16.0.254\"\n[[http.listener]]\naddress = \"0.0.0.0:8443\"\n\
                    serve = [\"boot\"]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\n";
        crate::config::parse(text, &self.dir.path().join("bootd.toml")).unwrap()
    }

    fn open(&self) -> (Certificates, Listener) {
        let config = self.config();
        let listener = config.http.listeners[0].clone();
        assert_eq!(listener.tls, Some(self.files()));
        (Certificates::open(&config).unwrap(), listener)
    }

    /// A client that trusts this authority, speaks these protocols, and believes to speak with this name.
    async fn connect(
        &self,
        io: DuplexStream,
        name: &str,
        protocols: &[&str],
    ) -> std::io::Result<client::TlsStream<DuplexStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, io).await
    }
}

const AMPLE: Duration = Duration::from_secs(30);

/// Whether a client that wants this name gets a connection.
async fn reaches(ca: &Ca, certificates: &Certificates, listener: &Listener, name: &str) -> bool {
    let (near, far) = tokio::io::duplex(4096);
    let offered = certificates.of(listener).unwrap();
    let (theirs, _) = tokio::join!(ca.connect(near, name, &[]), handshake(far, offered, AMPLE));
    theirs.is_ok()
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_speaks_http_1_1_over_tls() {
    let ca = Ca::new();
    ca.write(&ca.issue("rack1"));
    let (certificates, listener) = ca.open();
    let offered = certificates.of(&listener).unwrap();
    let (near, far) = tokio::io::duplex(4096);
    let (theirs, ours) = tokio::join!(
        ca.connect(near, "rack1", &["h2", "http/1.1"]),
        handshake(far, Arc::clone(&offered), AMPLE)
    );
    let (mut theirs, mut ours) = (theirs.unwrap(), ours.unwrap());
    assert_eq!(theirs.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    theirs.write_all(b"GET /").await.unwrap();
    theirs.flush().await.unwrap();
    let mut read = [0; 5];
    ours.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"GET /");
    assert!(!reaches(&ca, &certificates, &listener, "rack2").await);
    assert!(!reaches(&Ca::new(), &certificates, &listener, "rack1").await);
    // Only protocols that are not served here.
    let (near, far) = tokio::io::duplex(4096);
    let (theirs, ours) = tokio::join!(ca.connect(near, "rack1", &["h2"]), handshake(far, offered, AMPLE));
    assert!(theirs.is_err() && ours.is_err());
}

#[tokio::test]
async fn a_new_pair_on_disk_is_in_service_at_the_next_look_and_open_connections_go_on() {
    let ca = Ca::new();
    ca.write(&ca.issue("old"));
    let (certificates, listener) = ca.open();
    let metrics = Metrics::default();
    let (near, far) = tokio::io::duplex(4096);
    let offered = certificates.of(&listener).unwrap();
    let (theirs, ours) = tokio::join!(ca.connect(near, "old", &[]), handshake(far, offered, AMPLE));
    let (mut theirs, mut ours) = (theirs.unwrap(), ours.unwrap());
    certificates.look(&metrics);
    ca.write(&ca.issue("new"));
    assert!(!reaches(&ca, &certificates, &listener, "new").await);
    certificates.look(&metrics);
    assert!(reaches(&ca, &certificates, &listener, "new").await);
    assert!(!reaches(&ca, &certificates, &listener, "old").await);
    ours.write_all(b"x").await.unwrap();
    ours.flush().await.unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), b'x');
    let text = metrics.text();
    assert!(
        text.contains("bootd_done_total{part=\"http\",what=\"tls_pair\"} 1"),
        "{text}"
    );
}

#[tokio::test]
async fn a_broken_pair_keeps_the_old_one_and_is_shown_until_it_is_right() {
    let ca = Ca::new();
    let good = ca.issue("rack1");
    ca.write(&good);
    let (certificates, listener) = ca.open();
    let metrics = Metrics::default();
    let other = ca.issue("rack1");
    let broken = [
        ((other.0.clone(), good.1.clone()), "tls.key: "),
        ((String::new(), good.1.clone()), "tls.cert: "),
        ((good.0[..good.0.len() / 2].to_owned(), good.1.clone()), "tls.cert: "),
        ((good.0.clone(), String::new()), "tls.key: "),
        ((good.0.clone(), "garbage".to_owned()), "tls.key: "),
        ((good.0.clone(), good.0.clone()), "tls.key: "),
        ((good.1.clone(), good.1.clone()), "tls.cert: "),
        (("x".repeat(MOST as usize + 1), good.1.clone()), "tls.cert: "),
    ];
    let counted = broken.len() + 1;
    for (pair, key) in broken {
        ca.write(&pair);
        // It is counted once, and shown at each look.
        for _ in 0..2 {
            certificates.look(&metrics);
            let [warning] = certificates.warnings().try_into().unwrap();
            assert!(
                warning.starts_with("http.listener[0].")
                    && warning.contains(key)
                    && warning.contains("stays in service"),
                "{warning}"
            );
        }
        assert!(reaches(&ca, &certificates, &listener, "rack1").await);
    }
    ca.write(&good);
    certificates.look(&metrics);
    assert_eq!(certificates.warnings(), [""; 0]);
    std::fs::remove_file(ca.files().key).unwrap();
    certificates.look(&metrics);
    certificates.look(&metrics);
    assert_eq!(certificates.warnings().len(), 1);
    let text = metrics.text();
    let refused = format!("bootd_refused_total{{part=\"http\",what=\"tls_pair\"}} {counted}");
    assert!(text.contains(&refused), "{text}");
    assert!(text.contains("what=\"tls_pairs_wrong\"} 1"), "{text}");
    ca.write(&other);
    certificates.look(&metrics);
    assert!(reaches(&ca, &certificates, &listener, "rack1").await);
    assert_eq!(certificates.warnings(), [""; 0]);
    assert!(metrics.text().contains("what=\"tls_pairs_wrong\"} 0"));
}

#[test]
fn a_broken_pair_at_the_start_is_a_mistake_with_its_key_and_a_key_that_all_may_read_a_warning() {
    let ca = Ca::new();
    let mistakes = || match Certificates::open(&ca.config()) {
        Err(ConfigError::Mistakes { mistakes, .. }) => mistakes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        other => panic!("{:?}", other.err()),
    };
    let missing = mistakes();
    assert!(missing[0].starts_with("http.listener[0].tls.cert: "), "{missing:?}");
    let pair = ca.issue("rack1");
    ca.write(&(pair.0.clone(), ca.issue("rack1").1));
    let [mismatch] = mistakes().try_into().unwrap();
    assert!(
        mismatch.starts_with("http.listener[0].tls.key: ") && mismatch.ends_with("is not the key of the certificate"),
        "{mismatch}"
    );
    ca.write(&pair);
    assert_eq!(Certificates::open(&ca.config()).unwrap().warnings(), [""; 0]);
    std::fs::set_permissions(ca.files().key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = Certificates::open(&ca.config()).unwrap().warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("chmod o="), "{warnings:?}");
}

#[tokio::test]
async fn a_handshake_that_is_slow_is_cut_and_plain_http_is_told_from_it() {
    let ca = Ca::new();
    ca.write(&ca.issue("rack1"));
    let (certificates, listener) = ca.open();
    let short = Duration::from_millis(100);
    // Nothing, and the beginning of a record.
    for sent in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let (mut near, far) = tokio::io::duplex(4096);
        near.write_all(sent).await.unwrap();
        let started = Instant::now();
        let none = handshake(far, certificates.of(&listener).unwrap(), short)
            .await
            .unwrap_err();
        assert_eq!(none.label(), "tls_timeout");
        assert!(started.elapsed() < AMPLE, "{:?}", started.elapsed());
        // The connection is gone with it.
        assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
    }
    let (mut near, far) = tokio::io::duplex(4096);
    near.write_all(b"GET / HTTP/1.1\r\nhost: rack1\r\n\r\n").await.unwrap();
    let none = handshake(far, certificates.of(&listener).unwrap(), AMPLE)
        .await
        .unwrap_err();
    assert_eq!(none.label(), "tls_not_spoken");
    let (near, far) = tokio::io::duplex(4096);
    drop(near);
    let none = handshake(far, certificates.of(&listener).unwrap(), AMPLE)
        .await
        .unwrap_err();
    assert_eq!(none.label(), "tls_handshake");
}

#[test]
fn a_listener_whose_pair_is_not_there_is_offered_nothing() {
    let ca = Ca::new();
    ca.write(&ca.issue("rack1"));
    let (certificates, mut listener) = ca.open();
    listener.tls = Some(Tls {
        cert: PathBuf::from("/other.pem"),
        key: PathBuf::from("/other.pem"),
    });
    assert!(certificates.of(&listener).is_none());
}
