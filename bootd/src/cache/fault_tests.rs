//! The faults of origins and of the folder, each really planted: what an origin says, byte by byte, when it says no more, and a folder that takes
//! nothing. A reader gets the very bytes or an error, no place and no file is held for ever.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::cache::rate::Lowest;
use crate::config::Credentials;

/// What an origin does with a connection.
#[derive(Clone)]
enum Act {
    Says(Vec<u8>),
    /// A byte, and a while later the next one.
    Drips(Vec<u8>, Duration),
    /// Nothing any more, though the connection stays.
    Stalls,
}

/// An origin that does with the nth request what this makes of it and of its head, then closes.
struct Origin {
    source: Source,
    /// The heads of the requests, in lower case.
    asked: Arc<Mutex<Vec<String>>>,
    _serving: tokio::task::JoinHandle<()>,
}

impl Origin {
    async fn start(script: impl Fn(usize, &str) -> Vec<Act> + Send + std::marker::Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = Source::Http(format!("http://{}", listener.local_addr().unwrap()));
        let (asked, script) = (Arc::new(Mutex::new(Vec::new())), Arc::new(script));
        let heads = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (heads, script) = (Arc::clone(&heads), Arc::clone(&script));
                open.spawn(async move {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte.into());
                    }
                    let head = head.to_lowercase();
                    let number = {
                        let mut heads = heads.lock().unwrap();
                        heads.push(head.clone());
                        heads.len() - 1
                    };
                    for act in script(number, &head) {
                        let done = match act {
                            Act::Says(bytes) => stream.write_all(&bytes).await,
                            Act::Stalls => std::future::pending().await,
                            Act::Drips(bytes, each) => {
                                let mut done = Ok(());
                                for byte in bytes {
                                    tokio::time::sleep(each).await;
                                    done = stream.write_all(&[byte]).await;
                                    if done.is_err() {
                                        break;
                                    }
                                }
                                done
                            }
                        };
                        if done.is_err() {
                            return;
                        }
                    }
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self {
            source,
            asked,
            _serving: serving,
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// The first line of an answer, these lines, and the beginning of a body.
fn says(first: &str, lines: &[String], body: &[u8]) -> Act {
    let lines = lines.join("\r\n");
    let mut text = format!("HTTP/1.1 {first}\r\nconnection: close\r\n{lines}\r\n\r\n").into_bytes();
    text.extend_from_slice(body);
    Act::Says(text)
}

/// The head of a good answer for what is asked, and where that begins.
fn head_of(body: &[u8], head: &str) -> (Act, usize) {
    let from = asked_from(head);
    let (len, left) = (body.len(), body.len() - from);
    let mut lines = vec!["etag: \"v1\"".to_owned(), format!("content-length: {left}")];
    if head.contains("range: bytes=") {
        lines.push(format!("content-range: bytes {from}-{}/{len}", len - 1));
        (says("206 Partial Content", &lines, b""), from)
    } else {
        (says("200 OK", &lines, b""), 0)
    }
}

fn asked_from(head: &str) -> usize {
    let range = head.split("range: bytes=").nth(1);
    range.map_or(0, |range| range.split('-').next().unwrap().parse().unwrap())
}

/// All that is asked for.
fn all(body: &[u8], head: &str) -> Vec<Act> {
    let (first, from) = head_of(body, head);
    vec![first, Act::Says(body[from..].to_vec())]
}

/// A cache that is soon impatient.
async fn impatient(dir: &Path, source: &Source) -> Artifacts {
    let mut artifacts = over(dir, source, None).await;
    let shared = Arc::get_mut(&mut artifacts.keep.as_mut().unwrap().0).unwrap();
    shared.lowest = Lowest {
        window: Duration::from_millis(400),
        bytes: 10_000,
        windows: 3,
    };
    artifacts
}

fn refused(artifacts: &Artifacts, what: &str) -> u64 {
    let line = format!("bootd_refused_total{{part=\"cache\",what=\"{what}\"}} ");
    let text = artifacts.metrics.text();
    let count = text.lines().find_map(|other| other.strip_prefix(&line));
    count.map_or(0, |count| count.parse().unwrap())
}

/// Descriptors of this process for files below the folder.
fn descriptors(dir: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    open.filter(|file| file.starts_with(dir.join("tmp")) || file.starts_with(dir.join("objects")))
        .count()
}

/// Nothing is left of what failed: no place, no file, no descriptor.
async fn nothing_is_left(artifacts: &Artifacts, dir: &Path) {
    eventually("no place is held", async || sum(artifacts).fills == 0).await;
    eventually("no file is left", async || {
        std::fs::read_dir(dir.join("tmp")).unwrap().count() == 0
    })
    .await;
    let kept = sum(artifacts).objects;
    eventually("no descriptor is left", async || descriptors(dir) == kept).await;
}

const DRIP: Duration = Duration::from_millis(50);

#[tokio::test]
async fn an_origin_that_drips_or_stalls_is_left_and_asked_for_the_rest() {
    for stalls in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let body = image(500_000);
        let whole = body.clone();
        let origin = Origin::start(move |number, head| {
            if number > 0 {
                return all(&whole, head);
            }
            let (first, _) = head_of(&whole, head);
            let then = match stalls {
                true => Act::Stalls,
                false => Act::Drips(whole[300_000..].to_vec(), DRIP),
            };
            vec![first, Act::Says(whole[..300_000].to_vec()), then]
        })
        .await;
        let artifacts = impatient(dir.path(), &origin.source).await;
        assert!(get(&artifacts, "k").await.unwrap() == body, "stalls: {stalls}");
        until_kept(&artifacts, 1).await;
        let asked = origin.asked();
        assert_eq!((asked.len(), refused(&artifacts, "fill_stalled")), (2, 1), "{asked:?}");
        assert!(
            asked_from(&asked[1]) >= 300_000 && asked[1].contains("if-match: \"v1\""),
            "{asked:?}"
        );
        nothing_is_left(&artifacts, dir.path()).await;
    }
}

#[tokio::test]
async fn origins_that_drip_for_ever_lose_their_places_and_others_get_them() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(100_000);
    let whole = body.clone();
    let origin = Origin::start(move |_, head| {
        if head.contains("/good") {
            return all(&whole, head);
        }
        let (first, from) = head_of(&whole, head);
        vec![first, Act::Drips(whole[from..].to_vec(), DRIP)]
    })
    .await;
    let artifacts = Arc::new(impatient(dir.path(), &origin.source).await);
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..32 {
        let artifacts = Arc::clone(&artifacts);
        readers.spawn(async move { get(&artifacts, &format!("drips{number}")).await });
    }
    eventually("all places are taken", async || sum(&artifacts).fills == 32).await;
    assert!(get(&artifacts, "good").await.unwrap() == body);
    assert!(counted_as(
        &artifacts,
        "bootd_cache_requests_total{result=\"through_busy\"} 1"
    ));
    while let Some(read) = readers.join_next().await {
        let why = read.unwrap().unwrap_err();
        assert_eq!(why, "the origin brought less than 10000 bytes in 400ms");
    }
    assert_eq!(refused(&artifacts, "fill_failed"), 32);
    nothing_is_left(&artifacts, dir.path()).await;
    // Asked three times each, and no more.
    let drips = origin.asked().iter().filter(|head| head.contains("/drips")).count();
    assert!((64..=96).contains(&drips), "{drips}");
    assert!(get(&artifacts, "good").await.unwrap() == body);
    until_kept(&artifacts, 1).await;
}

#[tokio::test]
async fn an_origin_that_breaks_after_every_few_bytes_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let whole = image(100_000);
    let origin = Origin::start(move |_, head| {
        let (first, from) = head_of(&whole, head);
        vec![first, Act::Says(whole[from..from + 10].to_vec())]
    })
    .await;
    let artifacts = impatient(dir.path(), &origin.source).await;
    let mut object = artifacts.open("b", "k", Want::whole()).await.unwrap();
    let body = std::mem::take(&mut object.body);
    let read: Vec<_> = futures_util::StreamExt::collect(body).await;
    assert!(read.last().unwrap().is_err());
    nothing_is_left(&artifacts, dir.path()).await;
    assert_eq!(refused(&artifacts, "fill_failed"), 1);
}

#[tokio::test]
async fn an_origin_that_never_answers_or_drips_its_answer_is_too_late() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(|_, head| match head.contains("/drips") {
        true => vec![Act::Drips(
            b"HTTP/1.1 200 OK\r\nX: ".repeat(1000),
            Duration::from_secs(1),
        )],
        false => vec![Act::Stalls],
    })
    .await;
    let artifacts = over(dir.path(), &origin.source, None).await;
    let begun = Instant::now();
    let (drips, stalls) = futures_util::future::join(get(&artifacts, "drips"), get(&artifacts, "stalls")).await;
    assert_eq!(
        (drips.unwrap_err(), stalls.unwrap_err()),
        ("origin_timeout".into(), "origin_timeout".into())
    );
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    nothing_is_left(&artifacts, dir.path()).await;
}

#[tokio::test]
async fn what_an_origin_says_in_the_middle_of_a_fetch_never_makes_a_mix() {
    let len = |len: usize| format!("content-length: {len}");
    let tag = |tag: &str| format!("etag: \"{tag}\"");
    let range = |range: &str| format!("content-range: bytes {range}");
    let rest = [9; 60_000];
    // Each is the only answer to whoever asks for the rest; the reader must not see one byte of it.
    let cases = [
        ("404", says("404 Not Found", &[len(0)], b"")),
        ("412", says("412 Precondition Failed", &[len(0)], b"")),
        ("a short one now", says("416 Range Not Satisfiable", &[len(0)], b"")),
        (
            "another tag",
            says(
                "206 Partial Content",
                &[len(60_000), tag("v2"), range("40000-99999/100000")],
                &rest,
            ),
        ),
        (
            "another length",
            says(
                "206 Partial Content",
                &[len(60_000), tag("v1"), range("40000-99999/100001")],
                &rest,
            ),
        ),
        (
            "another place",
            says(
                "206 Partial Content",
                &[len(60_000), tag("v1"), range("39999-99998/100000")],
                &rest,
            ),
        ),
        ("no range", says("200 OK", &[len(60_000), tag("v1")], &rest)),
    ];
    for (case, answer) in cases {
        let dir = tempfile::tempdir().unwrap();
        let body = image(100_000);
        let (whole, is_well) = (body.clone(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
        let well = Arc::clone(&is_well);
        let origin = Origin::start(move |_, head| {
            if well.load(Ordering::SeqCst) {
                return all(&whole, head);
            }
            if head.starts_with("head") && case == "a short one now" {
                return vec![says(
                    "200 OK",
                    &["content-length: 30000".into(), "etag: \"v1\"".into()],
                    b"",
                )];
            }
            if head.starts_with("head") || head.contains("range: ") {
                return vec![answer.clone()];
            }
            vec![head_of(&whole, head).0, Act::Says(whole[..40_000].to_vec())]
        })
        .await;
        let artifacts = impatient(dir.path(), &origin.source).await;
        let mut object = artifacts.open("b", "k", Want::whole()).await.unwrap();
        let mut got = Vec::new();
        loop {
            match object.body.try_next().await {
                Ok(Some(bytes)) => got.extend_from_slice(&bytes),
                Ok(None) => panic!("{case}: a good end"),
                Err(_) => break,
            }
        }
        assert!(
            got.len() <= 40_000 && body.starts_with(&got),
            "{case}: {} bytes",
            got.len()
        );
        drop(object);
        nothing_is_left(&artifacts, dir.path()).await;
        is_well.store(true, Ordering::SeqCst);
        // A name that was gone a moment ago is not asked for again at once.
        artifacts.warm("/b/k").await.unwrap();
        assert!(get(&artifacts, "k").await.unwrap() == body, "{case}");
        until_kept(&artifacts, 1).await;
    }
}

#[tokio::test]
async fn what_has_a_weak_tag_is_not_continued() {
    let origin = Origin::start(|_, head| {
        let lines = |more: &[&str]| {
            [&["etag: W/\"v1\""], more]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        if !head.contains("range: ") {
            return vec![says("200 OK", &lines(&["content-length: 10"]), b"0123")];
        }
        let lines = lines(&["content-length: 6", "content-range: bytes 4-9/10"]);
        vec![says("206 Partial Content", &lines, b"xxxxxx")]
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let artifacts = over(dir.path(), &origin.source, None).await;
    let read = get(&artifacts, "k").await;
    assert!(read.is_err(), "{read:?}");
    nothing_is_left(&artifacts, dir.path()).await;
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_a_fetch_that_passes_costs_nobody_anything() {
    for status in ["403 Forbidden", "500 No", "503 Later"] {
        let dir = tempfile::tempdir().unwrap();
        let body = image(100_000);
        let whole = body.clone();
        let origin = Origin::start(move |number, head| match number {
            0 => vec![head_of(&whole, head).0, Act::Says(whole[..99_000].to_vec())],
            1 | 2 => vec![says(status, &["content-length: 0".into()], b"")],
            _ => all(&whole, head),
        })
        .await;
        let artifacts = over(dir.path(), &origin.source, None).await;
        assert!(get(&artifacts, "k").await.unwrap() == body, "{status}");
        until_kept(&artifacts, 1).await;
        nothing_is_left(&artifacts, dir.path()).await;
    }
}

#[tokio::test]
async fn an_answer_without_a_length_or_with_a_wrong_one_is_never_a_short_object() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(|_, head| {
        let body = b"0123456789";
        match head {
            head if head.contains("/none") => vec![says("200 OK", &["etag: \"v\"".into()], body)],
            head if head.contains("/long") => {
                vec![says(
                    "200 OK",
                    &[
                        "content-length: 11".into(),
                        "last-modified: Sun, 06 Nov 1994 08:49:37 GMT".into(),
                    ],
                    body,
                )]
            }
            head if head.contains("/absurd") => {
                vec![says(
                    "200 OK",
                    &["content-length: 99999999999999999999".into(), "etag: \"v\"".into()],
                    body,
                )]
            }
            head if head.contains("/two") => vec![says(
                "200 OK",
                &[
                    "content-length: 10".into(),
                    "content-length: 5".into(),
                    "etag: \"v\"".into(),
                ],
                body,
            )],
            head if head.contains("/chunked") => vec![says(
                "200 OK",
                &["transfer-encoding: chunked".into(), "etag: \"v\"".into()],
                b"5\r\n01234\r\n",
            )],
            _ => vec![Act::Says(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())],
        }
    })
    .await;
    let artifacts = impatient(dir.path(), &origin.source).await;
    for key in ["none", "long", "absurd", "two", "chunked", "no-http"] {
        let read = get(&artifacts, key).await;
        assert!(read.is_err(), "{key}: {read:?}");
    }
    assert_eq!(sum(&artifacts).objects, 0);
    nothing_is_left(&artifacts, dir.path()).await;
}

#[tokio::test]
async fn redirects_are_followed_also_in_the_middle_of_a_fetch() {
    let body = image(300_000);
    let whole = body.clone();
    let there = Origin::start(move |number, head| {
        assert!(head.contains(" /there/k?sig=secret "), "{head}");
        if number > 0 {
            return all(&whole, head);
        }
        vec![head_of(&whole, head).0, Act::Says(whole[..100_000].to_vec())]
    })
    .await;
    let Source::Http(url) = &there.source else {
        unreachable!()
    };
    let to = format!("location: {url}/there/k?sig=secret");
    let here = Origin::start(move |number, _| {
        let first = [
            "302 Found",
            "307 Temporary Redirect",
            "301 Moved Permanently",
            "308 Permanent Redirect",
        ][number % 4];
        vec![says(first, &[to.clone(), "content-length: 0".into()], b"")]
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let artifacts = over(dir.path(), &here.source, None).await;
    assert!(get(&artifacts, "k").await.unwrap() == body);
    until_kept(&artifacts, 1).await;
    let asked = there.asked();
    assert_eq!((asked.len(), here.asked().len()), (2, 2));
    assert_eq!(asked_from(&asked[1]), 100_000, "{asked:?}");
}

#[tokio::test]
async fn a_redirect_that_is_not_followed_is_an_error_that_names_the_place() {
    let origin = Origin::start(|_, head| {
        let to = head.split(' ').nth(1).unwrap();
        vec![says(
            "302 Found",
            &[format!("location: {to}?x-sig=secret"), "content-length: 0".into()],
            b"",
        )]
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let artifacts = over(dir.path(), &origin.source, None).await;
    let Source::Http(url) = origin.source.clone() else {
        unreachable!()
    };
    let error = artifacts.open("b", "loop", Want::whole()).await.err().unwrap();
    let text = format!("the origin failed: it redirects more than 5 times, at last to {url}/loop");
    assert_eq!(error.to_string(), text);
    assert_eq!(origin.asked().len(), 6);
    drop(artifacts);

    let keys = dir.path().join("keys");
    std::fs::write(&keys, "AKIDEXAMPLE\nwJalrXUtnFEMI\n").unwrap();
    let signed = Source::S3 {
        endpoint: url.clone(),
        region: "us-east-1".into(),
        credentials: Credentials::File(keys, None),
    };
    let artifacts = over(dir.path(), &signed, None).await;
    let error = artifacts.open("b", "k", Want::whole()).await.err().unwrap();
    let text = format!("the origin failed: it redirects a signed request to {url}/b/k");
    assert_eq!(error.to_string(), text);
    assert_eq!(origin.asked().len(), 7);
}

/// Folders that take nothing, from nobody, until it is dropped.
struct ReadOnly(Vec<std::path::PathBuf>);

impl ReadOnly {
    fn set(folders: Vec<std::path::PathBuf>) -> Self {
        let set = Self(folders);
        set.change(true);
        for folder in &set.0 {
            let refused = std::fs::File::create(folder.join("probe"));
            assert!(refused.is_err(), "{} is not read-only", folder.display());
        }
        set
    }

    /// The whole cache folder.
    fn all(dir: &Path) -> Self {
        let mut folders = vec![dir.to_owned(), dir.join("tmp"), dir.join("objects")];
        let objects = std::fs::read_dir(dir.join("objects")).unwrap();
        folders.extend(objects.map(|entry| entry.unwrap().path()));
        Self::set(folders)
    }

    fn change(&self, is_read_only: bool) {
        use std::os::unix::fs::PermissionsExt;
        for folder in &self.0 {
            let mode = if is_read_only { 0o500 } else { 0o700 };
            if rustix::process::geteuid().is_root() {
                let flag = if is_read_only { "+i" } else { "-i" };
                let done = std::process::Command::new("chattr").arg(flag).arg(folder).status();
                assert!(done.unwrap().success(), "chattr {flag} {}", folder.display());
            } else {
                std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        self.change(false);
    }
}

#[tokio::test]
async fn a_folder_that_becomes_read_only_serves_what_is_kept_and_passes_the_rest_through() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(300_000);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    assert_eq!(get(&artifacts, "kept").await.unwrap(), body);
    until_kept(&artifacts, 1).await;
    let read_only = ReadOnly::all(dir.path());
    for key in ["kept", "new", "new", "kept"] {
        assert_eq!(get(&artifacts, key).await.unwrap(), body, "{key}");
    }
    assert_eq!((sum(&artifacts).objects, sum(&artifacts).fills), (1, 0));
    assert_eq!(refused(&artifacts, "disk_write_failed"), 1);
    let warnings = artifacts.warnings();
    assert!(warnings[0].starts_with("cache: the disk failed "), "{warnings:?}");
    // What is removed is off the shelf; its file lies there until the next start.
    assert!(artifacts.remove("/b/kept").unwrap());
    assert_eq!(sum(&artifacts).objects, 0);
    drop(artifacts);
    drop(read_only);
    let artifacts = over(dir.path(), &source, None).await;
    assert_eq!(get(&artifacts, "kept").await.unwrap(), body);
}

#[tokio::test]
async fn an_object_that_cannot_be_sealed_is_whole_for_its_readers_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(300_000);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    let artifacts = over(dir.path(), &source, None).await;
    let read_only = ReadOnly::set(vec![dir.path().join("objects")]);
    assert_eq!(get(&artifacts, "k").await.unwrap(), body);
    eventually("counted", async || refused(&artifacts, "disk_write_failed") == 1).await;
    nothing_is_left(&artifacts, dir.path()).await;
    assert_eq!((sum(&artifacts).objects, web.gets()), (0, 1));
    drop(read_only);
}

/// As a fetch of that time would have left it.
fn sealed(disk: &Disk, source: &Source, key: &str, etag: &str, fetched: Duration, body: &[u8]) {
    let record = Record {
        bucket: "b".into(),
        key: key.into(),
        origin: source.to_string(),
        len: body.len() as u64,
        etag: Some(etag.into()),
        modified: None,
        content_type: None,
        fetched: u64::try_from(fetched.as_nanos()).unwrap(),
        sha256: None,
        blocks: Vec::new(),
    };
    let mut draft = disk.draft(Number(0), record.len).unwrap();
    draft.write(body).unwrap();
    let (id, _) = disk.seal(&mut draft, record).unwrap();
    for file in disk.files(&id) {
        let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + fetched).unwrap();
    }
}

#[tokio::test]
async fn what_was_fetched_before_a_jump_of_the_clock_is_served_and_found_to_be_old_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let body = image(300_000);
    let web = Web::new(body.clone());
    let (source, _serving) = web.start().await;
    let (year_2100, old) = (Duration::from_secs(4_102_444_800), vec![3; 300_000]);
    let disk = Disk::open(dir.path()).unwrap();
    sealed(&disk, &source, "future", "\"v1\"", year_2100, &body);
    sealed(&disk, &source, "past", "\"v1\"", Duration::ZERO, &body);
    // A crash left both versions, and the clock was wrong when the older one was fetched.
    sealed(&disk, &source, "both", "\"v0\"", year_2100, &old);
    sealed(
        &disk,
        &source,
        "both",
        "\"v1\"",
        Duration::from_secs(1_000_000_000),
        &body,
    );
    disk.end().unwrap();
    drop(disk);

    let artifacts = over(dir.path(), &source, Some(1_000_000)).await;
    assert_eq!(sum(&artifacts).objects, 3);
    let ages: Vec<Option<u64>> = artifacts.cached().unwrap().iter().map(|object| object.age_s).collect();
    assert_eq!(
        (ages[0], ages[1]),
        (None, None),
        "nothing has an age in the future: {ages:?}"
    );
    for key in ["future", "past"] {
        assert_eq!(get(&artifacts, key).await.unwrap(), body, "{key}");
    }
    assert_eq!(web.gets(), 0);
    eventually("the new one", async || {
        let read = get(&artifacts, "both").await.unwrap();
        assert!(read == body || read == old);
        read == body
    })
    .await;
    eventually("fetched", async || sum(&artifacts).fills == 0).await;
    // Room is made all the same.
    assert_eq!(get(&artifacts, "fourth").await.unwrap(), body);
    eventually("fetched", async || sum(&artifacts).fills == 0).await;
    assert_eq!((sum(&artifacts).objects, web.gets()), (3, 2));
}
