//! The listener's answers over each kind of origin: a folder, s3s-fs as an S3 service, and web servers that misbehave.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::{self, Credentials, Origin, Source};
use crate::tftp::testing::config;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn artifacts(origins: Vec<(&str, Source)>) -> Artifacts {
    let (artifacts, mistakes) = Artifacts::new(&over(origins), Arc::default());
    assert!(mistakes.is_empty(), "{mistakes:?}");
    artifacts
}

/// The same with a cache.
async fn kept(dir: &tempfile::TempDir, origins: Vec<(&str, Source)>) -> Artifacts {
    let mut config = over(origins);
    config.cache_dir = dir.path().join("cache");
    let (mut artifacts, _) = Artifacts::new(&config, Arc::default());
    // The one before is gone with its last task.
    while artifacts.keep(&config).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    artifacts
}

async fn until_one_is_kept(artifacts: &Artifacts) {
    while !artifacts.kept().unwrap().starts_with("1 object,") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn over(origins: Vec<(&str, Source)>) -> config::Config {
    let mut config = config(Path::new("/nowhere"));
    config.origins = origins
        .into_iter()
        .map(|(bucket, source)| Origin {
            bucket: bucket.into(),
            source,
            prefix: String::new(),
            sidecar: None,
            prefixes: Vec::new(),
            rewrite: true,
        })
        .collect();
    config
}

struct Answered {
    status: u16,
    headers: HeaderMap,
    body: Result<Bytes, String>,
}

impl Answered {
    fn text(&self) -> &str {
        str::from_utf8(self.body.as_ref().unwrap()).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn ask(artifacts: &Artifacts, method: Method, path: &str, pairs: &[(&'static str, &str)]) -> Answered {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().unwrap());
    }
    let (parts, body) = respond(artifacts, PEER, &method, path, query, &headers, Wire::Plain)
        .await
        .into_parts();
    Answered {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body
            .collect()
            .await
            .map(|body| body.to_bytes())
            .map_err(|e| e.to_string()),
    }
}

async fn get(artifacts: &Artifacts, path: &str, pairs: &[(&'static str, &str)]) -> Answered {
    ask(artifacts, Method::GET, path, pairs).await
}

/// Larger than any chunk, and no two parts alike.
fn image() -> Vec<u8> {
    (0..700_001_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("images");
    std::fs::create_dir_all(root.join("rocky/9")).unwrap();
    std::fs::write(dir.path().join("secret"), "secret").unwrap();
    std::fs::write(root.join("rocky/9/vmlinuz"), image()).unwrap();
    std::fs::write(root.join("with space+plus"), "spaced").unwrap();
    std::fs::write(root.join("empty"), "").unwrap();
    symlink("../../secret", root.join("rocky/outside")).unwrap();
    symlink(dir.path(), root.join("up")).unwrap();
    symlink("9/vmlinuz", root.join("rocky/current")).unwrap();
    dir
}

fn over_folder(dir: &tempfile::TempDir) -> Artifacts {
    artifacts(vec![("boot-images", Source::Dir(dir.path().join("images")))])
}

const KERNEL: &str = "/boot-images/rocky/9/vmlinuz";

/// What every origin must do.
async fn serves_objects(artifacts: &Artifacts) {
    let image = image();
    let whole = get(artifacts, KERNEL, &[("authorization", "AWS4-HMAC-SHA256 rubbish")]).await;
    assert_eq!((whole.status, whole.header("content-length")), (200, "700001"));
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_ne!(whole.header("last-modified"), "");
    assert_eq!(whole.body.as_ref().unwrap(), &image);
    let etag = whole.header("etag").to_owned();
    assert!(etag.starts_with('"'), "{etag}");

    let head = ask(artifacts, Method::HEAD, KERNEL, &[("range", "bytes=0-1")]).await;
    assert_eq!((head.status, head.header("content-length")), (200, "700001"));
    assert_eq!((head.header("etag"), head.text()), (&*etag, ""));

    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=262140-600000", 262_140, 600_001),
        ("bytes=700000-", 700_000, 700_001),
        ("bytes=699000-999999999", 699_000, 700_001),
        ("bytes=-5", 699_996, 700_001),
        ("bytes=0-", 0, 700_001),
    ] {
        let part = get(artifacts, KERNEL, &[("range", range)]).await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(
            part.header("content-range"),
            format!("bytes {start}-{}/700001", end - 1)
        );
        assert_eq!(part.header("content-length"), (end - start).to_string());
        assert_eq!(part.body.as_ref().unwrap(), &image[start..end], "{range}");
    }
    for range in ["bytes=700001-", "bytes=800000-900000", "bytes=-0"] {
        let none = get(artifacts, KERNEL, &[("range", range)]).await;
        assert_eq!(
            (none.status, none.header("content-range")),
            (416, "bytes */700001"),
            "{range}"
        );
        assert!(none.text().contains("<Code>InvalidRange</Code>"));
    }
    assert_eq!(get(artifacts, KERNEL, &[("range", "bytes=0-1,4-5")]).await.status, 200);

    let same = get(artifacts, KERNEL, &[("if-none-match", &etag)]).await;
    assert_eq!((same.status, same.text(), same.header("etag")), (304, "", &*etag));
    assert_eq!(get(artifacts, KERNEL, &[("if-match", &etag)]).await.status, 200);
    let other = get(artifacts, KERNEL, &[("if-match", "\"other\"")]).await;
    assert_eq!(other.status, 412);
    assert!(other.text().contains("<Code>PreconditionFailed</Code>"));
    let part = get(artifacts, KERNEL, &[("range", "bytes=1-2"), ("if-range", &etag)]).await;
    assert_eq!((part.status, part.body.unwrap()), (206, image[1..3].to_vec().into()));
    let whole = get(artifacts, KERNEL, &[("range", "bytes=1-2"), ("if-range", "\"other\"")]).await;
    assert_eq!((whole.status, whole.body.unwrap().len()), (200, image.len()));

    let spaced = get(artifacts, "/boot-images/with%20space+plus", &[]).await;
    assert_eq!((spaced.status, spaced.text()), (200, "spaced"));
    let missing = get(artifacts, "/boot-images/rocky/9/initr%26md", &[]).await;
    assert_eq!(
        (missing.status, missing.header("content-type")),
        (404, "application/xml")
    );
    let text = missing.text();
    assert!(
        text.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code>"),
        "{text}"
    );
    assert!(text.contains("<Key>rocky/9/initr&amp;md</Key><Resource>/boot-images/rocky/9/initr%26md</Resource>"));
    assert_eq!(
        artifacts.size(KERNEL).await.map_err(|e| e.label()),
        Ok(image.len() as u64)
    );
    assert_eq!(
        artifacts.size("/boot-images/nothing").await.map_err(|e| e.label()),
        Err("no_such_key")
    );
}

#[tokio::test]
async fn a_folder_serves_objects() {
    let dir = folder();
    let artifacts = over_folder(&dir);
    serves_objects(&artifacts).await;
    let empty = get(&artifacts, "/boot-images/empty", &[]).await;
    assert_eq!((empty.status, empty.header("content-length")), (200, "0"));
    assert_eq!(
        get(&artifacts, "/boot-images/empty", &[("range", "bytes=0-")])
            .await
            .status,
        416
    );
    let linked = get(&artifacts, "/boot-images/rocky/current", &[]).await;
    assert_eq!(linked.body.unwrap().len(), image().len());
}

#[tokio::test]
async fn no_name_leads_out_of_the_folder() {
    let dir = folder();
    let artifacts = over_folder(&dir);
    for (path, status) in [
        ("/boot-images/../secret", 400),
        ("/boot-images/..%2fsecret", 400),
        ("/boot-images/..%2f..%2fetc/passwd", 400),
        ("/boot-images/%2e%2e/secret", 400),
        ("/boot-images/%2e%2e%2fsecret", 400),
        ("/boot-images/rocky/../../secret", 400),
        ("/boot-images//etc/passwd", 400),
        ("/boot-images/%2fetc/passwd", 400),
        ("//etc/passwd", 400),
        ("/boot-images/rocky/9/vmlinuz%00", 400),
        ("/boot-images/rocky/9/vmlinuz/", 400),
        ("/boot-images/%ff", 400),
        ("/..%2f/secret", 400),
        ("/boot-images/%252e%252e/secret", 404),
        ("/boot-images/..\\secret", 404),
        ("/boot-images/rocky", 404),
        ("/boot-images/rocky/9/vmlinuz/more", 404),
        ("/boot-images/rocky/outside", 403),
        ("/boot-images/up/secret", 403),
    ] {
        let answer = get(&artifacts, path, &[]).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(
            answer.text().contains("<Error><Code>") && !answer.text().contains(">secret<"),
            "{path}"
        );
    }
    let long = format!("/boot-images/{}", "a".repeat(300));
    assert_eq!(get(&artifacts, &long, &[]).await.status, 404);
}

#[tokio::test]
async fn what_writes_is_refused_and_told_where_to_write() {
    let dir = folder();
    let artifacts = over_folder(&dir);
    for path in ["/other", "/other/", "/other/key"] {
        let answer = get(&artifacts, path, &[]).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.text().contains("<Code>NoSuchBucket</Code>"));
        assert!(answer.text().contains("<BucketName>other</BucketName>"));
    }
    for method in [Method::PUT, Method::POST, Method::DELETE] {
        for path in [KERNEL, "/boot-images", "/boot-images/?delete"] {
            let answer = ask(&artifacts, method.clone(), path, &[]).await;
            assert_eq!(answer.status, 403);
            assert!(answer.text().contains("<Code>AccessDenied</Code>"));
            let where_to = "The objects of boot-images are written to its origin: a folder of this machine.";
            assert!(answer.text().contains(where_to), "{}", answer.text());
        }
        assert_eq!(ask(&artifacts, method.clone(), "/", &[]).await.status, 403);
        assert_eq!(ask(&artifacts, method, "/other/key", &[]).await.status, 404);
    }
    let answer = ask(&artifacts, Method::PATCH, KERNEL, &[]).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"));
    assert!(answer.text().contains("<Code>MethodNotAllowed</Code>"));
    let head = ask(&artifacts, Method::HEAD, "/boot-images/none", &[]).await;
    assert_eq!((head.status, head.text()), (404, ""));
}

#[tokio::test]
async fn buckets_are_told() {
    let dir = folder();
    let artifacts = over_folder(&dir);
    let answer = get(&artifacts, "/", &[]).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/xml"));
    assert!(answer.text().contains("<Buckets><Bucket><Name>boot-images</Name>"));
    for (query, code) in [
        ("location", "<LocationConstraint "),
        ("versioning", "<VersioningConfiguration "),
        ("acl", "<Code>NotImplemented</Code>"),
        ("max-keys=many", "<Code>InvalidArgument</Code>"),
        ("max-keys=0", "<IsTruncated>false</IsTruncated></ListBucketResult>"),
    ] {
        let answer = get(&artifacts, &format!("/boot-images?{query}"), &[]).await;
        assert!(answer.text().contains(code), "{query}: {}", answer.text());
    }
    let head = ask(&artifacts, Method::HEAD, "/boot-images", &[]).await;
    assert_eq!((head.status, head.text()), (200, ""));
}

/// Keys and prefixes of a bucket's list, all pages of it.
async fn listed(artifacts: &Artifacts, query: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let answer = get(artifacts, &format!("/boot-images/?list-type=2&{query}{token}"), &[]).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let between = |text: &str, begin: &str| {
            let mut parts = text
                .split(begin)
                .skip(1)
                .map(|part| part.split('<').next().unwrap().to_owned());
            parts.by_ref().collect::<Vec<_>>()
        };
        found.extend(between(answer.text(), "<Key>"));
        found.extend(between(answer.text(), "<CommonPrefixes><Prefix>"));
        match between(answer.text(), "<NextContinuationToken>").pop() {
            None => return found,
            Some(next) => {
                token = format!(
                    "&continuation-token={}",
                    next.replace('/', "%2F").replace(' ', "%20").replace('+', "%2B")
                )
            }
        }
    }
}

/// What every origin must do that has lists.
async fn lists(artifacts: &Artifacts) {
    let all = ["empty", "rocky/9/vmlinuz", "with space+plus"];
    for most in [1, 2, 1000] {
        let found = listed(artifacts, &format!("max-keys={most}")).await;
        let found: Vec<_> = found.iter().filter(|key| *key != "rocky/current").collect();
        assert_eq!(found, all, "{most}");
    }
    assert_eq!(listed(artifacts, "prefix=ro&delimiter=/").await, ["rocky/"]);
    assert_eq!(
        listed(artifacts, "prefix=rocky/9/&delimiter=/").await,
        ["rocky/9/vmlinuz"]
    );
    assert_eq!(listed(artifacts, "prefix=rocky/9/vm").await, ["rocky/9/vmlinuz"]);
    assert_eq!(listed(artifacts, "prefix=none").await, [""; 0]);
    assert_eq!(listed(artifacts, "start-after=rocky/z").await, ["with space+plus"]);
    let answer = get(artifacts, "/boot-images?prefix=rocky/9/", &[]).await;
    assert!(answer.text().contains("<Size>700001</Size>"), "{}", answer.text());
}

#[tokio::test]
async fn a_folder_is_listed_with_what_lies_in_it_and_nothing_else() {
    let dir = folder();
    let artifacts = over_folder(&dir);
    lists(&artifacts).await;
    let found = listed(&artifacts, "").await;
    assert!(
        found.iter().any(|key| key == "rocky/current"),
        "a link inside of it: {found:?}"
    );
    for query in [
        "",
        "prefix=up",
        "prefix=up/",
        "prefix=../",
        "prefix=rocky/outside",
        "prefix=/",
    ] {
        let found = listed(&artifacts, query).await;
        assert!(
            !found
                .iter()
                .any(|key| key.contains("secret") || key.contains("outside") || key.contains("up")),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn reads_are_counted_and_so_is_their_early_end() {
    let dir = folder();
    let artifacts = over_folder(&dir);
    get(&artifacts, KERNEL, &[("range", "bytes=0-9")]).await;
    drop(
        respond(
            &artifacts,
            PEER,
            &Method::GET,
            KERNEL,
            "",
            &HeaderMap::new(),
            Wire::Plain,
        )
        .await,
    );
    get(&artifacts, "/boot-images/none", &[]).await;
    let text = artifacts.metrics().text();
    for line in [
        "bootd_done_total{part=\"artifacts\",what=\"read\"} 1",
        "bootd_done_total{part=\"artifacts\",what=\"aborted\"} 1",
        "bootd_sent_bytes_total{part=\"artifacts\",what=\"boot-images\"} 10",
        "bootd_refused_total{part=\"artifacts\",what=\"no_such_key\"} 1",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
}

#[tokio::test]
async fn a_file_that_shrinks_or_changes_while_it_is_read_is_an_error() {
    let dir = folder();
    let artifacts = over_folder(&dir);
    let file = dir.path().join("images/rocky/9/vmlinuz");
    for change in [Change::Shrink, Change::Overwrite] {
        std::fs::write(&file, image()).unwrap();
        let response = respond(
            &artifacts,
            PEER,
            &Method::GET,
            KERNEL,
            "",
            &HeaderMap::new(),
            Wire::Plain,
        )
        .await;
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        match change {
            Change::Shrink => std::fs::write(&file, "short").unwrap(),
            Change::Overwrite => {
                // Past the granularity of file times.
                tokio::time::sleep(Duration::from_millis(20)).await;
                std::fs::write(&file, vec![0; image().len()]).unwrap();
            }
        }
        assert!(body.collect().await.is_err());
    }
}

enum Change {
    Shrink,
    Overwrite,
}

/// An origin over s3s-fs, with credentials or without.
async fn s3(dir: &tempfile::TempDir, credentials: Option<(&str, &str)>) -> Source {
    let root = dir.path().join("s3");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::rename(dir.path().join("images"), root.join("boot-images")).unwrap();
    let mut service = s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(&root).unwrap());
    if let Some((id, secret)) = credentials {
        service.set_auth(s3s::auth::SimpleAuth::from_single(id, secret));
    }
    let service = service.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let credentials = credentials.map_or(Credentials::None, |(id, secret)| {
        let file = dir.path().join("credentials");
        std::fs::write(&file, format!("{id}\n{secret}\n")).unwrap();
        Credentials::File(file, None)
    });
    Source::S3 {
        endpoint,
        region: "us-east-1".into(),
        credentials,
    }
}

#[tokio::test]
async fn an_s3_service_serves_objects_unsigned() {
    let dir = folder();
    // This service lists what it does not serve.
    for link in ["up", "rocky/outside", "rocky/current"] {
        std::fs::remove_file(dir.path().join("images").join(link)).unwrap();
    }
    let source = s3(&dir, None).await;
    let artifacts = artifacts(vec![("boot-images", source)]);
    serves_objects(&artifacts).await;
    lists(&artifacts).await;
}

#[tokio::test]
async fn an_s3_service_serves_objects_signed() {
    let dir = folder();
    let source = s3(&dir, Some(("rack", "not-so-secret"))).await;
    serves_objects(&artifacts(vec![("boot-images", source.clone())])).await;

    let Source::S3 { endpoint, region, .. } = source else {
        unreachable!()
    };
    let unsigned = Source::S3 {
        endpoint,
        region,
        credentials: Credentials::None,
    };
    let denied = get(&artifacts(vec![("boot-images", unsigned)]), KERNEL, &[]).await;
    assert_eq!(denied.status, 403);
    assert!(denied.text().contains("<Code>AccessDenied</Code>"));
}

#[tokio::test]
async fn a_cache_in_front_of_an_s3_service_serves_objects_as_the_service_does() {
    let dir = folder();
    let source = s3(&dir, Some(("rack", "not-so-secret"))).await;
    let artifacts = kept(&dir, vec![("boot-images", source)]).await;
    for _ in ["cold", "warm"] {
        serves_objects(&artifacts).await;
    }
    while !artifacts
        .kept()
        .unwrap()
        .starts_with("2 objects, 683.6 KiB of at most ")
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn who_insists_on_a_version_that_is_not_kept_is_answered_by_the_origin() {
    let dir = tempfile::tempdir().unwrap();
    let source = web(|count, head| {
        let (tag, body) = if count == 0 {
            ("old", "0123456789")
        } else {
            ("new", "abcdefghij")
        };
        let body = if head.starts_with("head") { "" } else { body };
        format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"{tag}\"\r\n\r\n{body}")
    })
    .await;
    let artifacts = kept(&dir, vec![("web", source)]).await;
    assert_eq!(get(&artifacts, "/web/k", &[]).await.text(), "0123456789");
    until_one_is_kept(&artifacts).await;
    let new = get(&artifacts, "/web/k", &[("if-match", "\"new\"")]).await;
    assert_eq!(
        (new.status, new.text(), new.header("etag")),
        (200, "abcdefghij", "\"new\"")
    );
    assert_eq!(
        get(&artifacts, "/web/k", &[("if-match", "\"other\"")]).await.status,
        412
    );
    // What is kept is the other one's, and is found to be old.
    while get(&artifacts, "/web/k", &[]).await.text() != "abcdefghij" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_kept_is_served_with_a_warning_while_its_origin_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = Source::Http(format!("http://{}", listener.local_addr().unwrap()));
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Type: text/x-test\r\nETag: \"v\"\r\n\r\n0123456789";
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let artifacts = kept(&dir, vec![("web", source.clone())]).await;
    let fresh = get(&artifacts, "/web/k", &[]).await;
    assert_eq!(
        (fresh.status, fresh.text(), fresh.header("warning")),
        (200, "0123456789", "")
    );
    serving.await.unwrap();
    until_one_is_kept(&artifacts).await;
    drop(artifacts);
    let artifacts = kept(&dir, vec![("web", source)]).await;
    loop {
        let old = get(&artifacts, "/web/k", &[("range", "bytes=2-4")]).await;
        assert_eq!(
            (old.status, old.text(), old.header("content-type")),
            (206, "234", "text/x-test")
        );
        if old.header("warning") == "110 bootd \"the origin did not confirm it\"" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let same = get(&artifacts, "/web/k", &[("if-none-match", "\"v\"")]).await;
    assert_eq!(same.status, 304);
}

/// A web server that answers the nth request with what this makes of it, then closes.
async fn web(answer: impl Fn(usize, &str) -> String + Send + Sync + 'static) -> Source {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/below", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut count = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte.into()),
                    Err(_) => break,
                }
            }
            let answer = answer(count, &head.to_lowercase());
            count += 1;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    Source::Http(url)
}

#[tokio::test]
async fn a_web_server_without_ranges_still_serves() {
    let source = web(|_, head| {
        assert!(head.contains(" /below/a%20b/k "), "{head}");
        let body = if head.starts_with("head") { "" } else { "0123456789" };
        format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Type: text/x-test\r\nETag: bare\r\n\r\n{body}")
    })
    .await;
    let artifacts = artifacts(vec![("web", source)]);
    let whole = get(&artifacts, "/web/a%20b/k", &[]).await;
    assert_eq!(
        (whole.status, whole.text(), whole.header("etag")),
        (200, "0123456789", "\"bare\"")
    );
    assert_eq!(
        (whole.header("content-type"), whole.header("last-modified")),
        ("text/x-test", "")
    );
    let whole = get(&artifacts, "/web/a%20b/k", &[("range", "bytes=3-4")]).await;
    assert_eq!((whole.status, whole.text()), (200, "0123456789"));
    assert_eq!(
        get(&artifacts, "/web/a%20b/k", &[("range", "bytes=10-")]).await.status,
        416
    );
}

#[tokio::test]
async fn a_body_that_breaks_is_continued_under_its_tag() {
    let source = web(|count, head| {
        if count == 0 {
            return "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"v\"\r\n\r\n0123".into();
        }
        assert!(head.contains("range: bytes=4-9"), "{head}");
        "HTTP/1.1 206 Partial Content\r\nContent-Length: 6\r\nContent-Range: bytes 4-9/10\r\nETag: \"v\"\r\n\r\n456789"
            .into()
    })
    .await;
    let whole = get(&artifacts(vec![("web", source)]), "/web/k", &[]).await;
    assert_eq!((whole.status, whole.text()), (200, "0123456789"));
}

#[tokio::test]
async fn a_body_that_breaks_for_good_is_an_error_and_never_a_short_end() {
    // Without a tag nothing can be continued; with another tag it must not be.
    let untagged = web(|_, _| "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123".into()).await;
    let changed = web(|count, head| {
        let answer = if head.contains("range:") {
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 6\r\nContent-Range: bytes 4-9/10\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n"
        };
        format!("{answer}ETag: \"v{count}\"\r\n\r\nabcd")
    })
    .await;
    let artifacts = Arc::new(artifacts(vec![("untagged", untagged), ("changed", changed)]));
    for path in ["/untagged/k", "/changed/k"] {
        let broken = get(&artifacts, path, &[]).await;
        assert_eq!((broken.status, broken.header("content-length")), (200, "10"));
        assert!(broken.body.is_err(), "{path}");
    }
    let text = artifacts.metrics().text();
    assert!(
        text.contains("bootd_refused_total{part=\"artifacts\",what=\"origin_broke\"} 2"),
        "{text}"
    );

    // The same as a client sees it: the connection ends before the promised length.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let artifacts = Arc::clone(&artifacts);
            async move {
                let (parts, _) = request.into_parts();
                let path = parts.uri.path();
                Ok::<_, std::convert::Infallible>(
                    respond(&artifacts, PEER, &parts.method, path, "", &parts.headers, Wire::Plain).await,
                )
            }
        });
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /untagged/k HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("content-length: 10\r\n"), "{answer}");
    assert!(!answer.ends_with("0123456789"), "{answer}");
}

#[tokio::test]
async fn an_object_that_changes_between_two_looks_is_served_anew_or_refused() {
    let source = || {
        web(|count, head| {
            let body = if head.starts_with("head") { "" } else { "0123456789" };
            format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"v{count}\"\r\n\r\n{body}")
        })
    };
    let artifacts = artifacts(vec![("a", source().await), ("b", source().await)]);
    let anew = get(&artifacts, "/a/k", &[("if-none-match", "\"old\"")]).await;
    assert_eq!((anew.status, anew.text()), (200, "0123456789"));
    let refused = get(&artifacts, "/b/k", &[("if-match", "\"v0\"")]).await;
    assert_eq!(refused.status, 412);
}

/// The number of the image that this client gets a file of, or the status.
async fn image_of(artifacts: &Artifacts, client: IpAddr, file: &str) -> Result<u64, u16> {
    let headers = HeaderMap::new();
    let path = format!("/web/{file}");
    let response = respond(artifacts, client, &Method::GET, &path, "", &headers, Wire::Plain).await;
    if response.status() != StatusCode::OK {
        return Err(response.status().as_u16());
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = str::from_utf8(&body).unwrap();
    let (name, number) = text.split_once(' ').unwrap();
    assert_eq!(name, file);
    Ok(number.trim_end_matches('.').parse().unwrap())
}

#[tokio::test]
async fn a_node_gets_kernel_and_initramfs_of_one_image_while_both_are_overwritten() {
    let image = Arc::new(AtomicU64::new(1));
    let now = Arc::clone(&image);
    let source = web(move |_, head| {
        let file = if head.contains("/below/kernel") {
            "kernel"
        } else {
            "initrd"
        };
        let number = now.load(Ordering::SeqCst);
        let body = format!("{file} {number}{}", ".".repeat(10_000));
        let body = if head.starts_with("head") {
            (body.len(), String::new())
        } else {
            (body.len(), body)
        };
        format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\netag: \"{number}\"\r\ncontent-length: {}\r\n\r\n{}",
            body.0, body.1
        )
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = over(vec![("web", source)]);
    config.cache_dir = dir.path().join("cache");
    let (mut artifacts, _) = Artifacts::new(&config, Arc::default());
    artifacts.keep_impatiently(&config).unwrap();
    let artifacts = Arc::new(artifacts);
    artifacts.set_sets(&[vec!["/web/kernel".to_owned(), "/web/initrd".to_owned()]]);
    for file in ["kernel", "initrd"] {
        while !artifacts.is_here(&format!("/web/{file}")) {
            artifacts.warm(&format!("/web/{file}")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    // As the warmer does it.
    let looking = Arc::clone(&artifacts);
    let looks = tokio::spawn(async move {
        loop {
            looking.change_sets().await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    // Nodes that begin at any time, and take any time between their files.
    let mut booting = tokio::task::JoinSet::new();
    for number in 2..12_u64 {
        let slow = IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(number).unwrap()));
        artifacts.script_given(slow);
        let before = image_of(&artifacts, slow, "kernel").await.unwrap();
        assert_eq!(before, number - 1);
        image.store(number, Ordering::SeqCst);
        for node in 0..20_u8 {
            let artifacts = Arc::clone(&artifacts);
            let client = IpAddr::V4(Ipv4Addr::new(10, 1, u8::try_from(number).unwrap(), node));
            booting.spawn(async move {
                tokio::time::sleep(Duration::from_millis(u64::from(node))).await;
                artifacts.script_given(client);
                let kernel = image_of(&artifacts, client, "kernel").await;
                tokio::time::sleep(Duration::from_millis(u64::from(node % 7))).await;
                (kernel, image_of(&artifacts, client, "initrd").await)
            });
        }
        // Everyone has the new one by now but the node that is in the middle.
        while image_of(&artifacts, PEER, "initrd").await != Ok(number) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(image_of(&artifacts, PEER, "kernel").await, Ok(number));
        assert_eq!(image_of(&artifacts, slow, "initrd").await, Ok(before));
        assert_eq!(image_of(&artifacts, slow, "kernel").await, Ok(before));
        // It asks for its script again, and has the new one.
        artifacts.script_given(slow);
        assert_eq!(image_of(&artifacts, slow, "initrd").await, Ok(number));
    }
    while let Some(booted) = booting.join_next().await {
        let (kernel, initrd) = booted.unwrap();
        assert!(kernel.is_ok() && kernel == initrd, "{kernel:?} {initrd:?}");
    }
    looks.abort();
}

#[tokio::test]
async fn an_origin_in_trouble_is_503_and_says_when_to_come_back() {
    let broken = web(|_, _| "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".into()).await;
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = Source::Http(format!("http://{nowhere}"));
    let unmounted = Source::Dir("/nowhere/at/all".into());
    let artifacts = artifacts(vec![("broken", broken), ("gone", gone), ("unmounted", unmounted)]);
    for path in ["/broken/k", "/gone/k", "/unmounted/k"] {
        let answer = get(&artifacts, path, &[]).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{path}");
        let text = answer.text();
        assert!(text.contains("<Code>ServiceUnavailable</Code>"), "{text}");
        assert!(!text.contains("127.0.0.1") && !text.contains("/nowhere/at"), "{text}");
    }
}

#[tokio::test]
async fn an_origin_in_trouble_is_logged_in_one_line_with_its_cause() {
    let broken = web(|_, _| "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".into()).await;
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    std::fs::write(&file, "AKIDEXAMPLE\nwJalrXUtnFEMI\n").unwrap();
    let signed = Source::S3 {
        endpoint: format!("http://{nowhere}"),
        region: "us-east-1".into(),
        credentials: Credentials::File(file, None),
    };
    let artifacts = artifacts(vec![("broken", broken), ("signed", signed)]);
    for (bucket, cause) in [("broken", "500"), ("signed", "refused")] {
        let error = artifacts
            .open(bucket, "k", Want::whole())
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(cause), "{error}");
        assert!(error.len() < 170 && !error.contains('\n'), "{error}");
        assert!(!error.contains("AKIDEXAMPLE") && !error.contains("wJalr"), "{error}");
    }
}

#[tokio::test]
async fn an_origin_that_cannot_be_used_is_503_and_the_others_answer() {
    let dir = folder();
    let file = dir.path().join("credentials");
    std::fs::write(&file, "only-one-line\n").unwrap();
    let s3 = |credentials: std::path::PathBuf| Source::S3 {
        endpoint: "http://127.0.0.1:9".into(),
        region: "us-east-1".into(),
        credentials: Credentials::File(credentials, None),
    };
    let mut config = config(Path::new("/nowhere"));
    config.origins = [
        ("boot-images", Source::Dir(dir.path().join("images"))),
        ("half", s3(file)),
        ("missing", s3(dir.path().join("none"))),
    ]
    .map(|(bucket, source)| Origin {
        bucket: bucket.into(),
        source,
        prefix: String::new(),
        sidecar: None,
        prefixes: Vec::new(),
        rewrite: true,
    })
    .into();
    let (artifacts, mistakes) = Artifacts::new(&config, Arc::default());
    let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(mistakes[0].contains("bucket half") && mistakes[0].contains("second"));
    assert!(mistakes[1].contains("bucket missing") && mistakes[1].contains("No such file"));
    assert!(!mistakes[0].contains("only-one-line"));

    assert_eq!(get(&artifacts, KERNEL, &[]).await.status, 200);
    for bucket in ["half", "missing"] {
        let answer = get(&artifacts, &format!("/{bucket}/k"), &[]).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "5"));
        assert!(!answer.text().contains("credentials"), "{}", answer.text());
        let refused = artifacts.open(bucket, "k", Want::whole()).await.err().unwrap();
        assert!(refused.to_string().contains("credentials"), "{refused}");
    }
}

#[test]
fn xml_holds_any_text() {
    assert_eq!(Xml("a<&>\"'\u{1}é").to_string(), "a&lt;&amp;&gt;&quot;&apos;\u{fffd}é");
}
