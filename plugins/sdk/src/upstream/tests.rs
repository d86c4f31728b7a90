use base64::Engine;
use std::sync::Arc;

use super::*;
use crate::fake::FakeHost;

const LISTED: &[Listed] = &[
    Listed {
        path: "/things",
        rows: "things",
    },
    Listed {
        path: "/others",
        rows: "others",
    },
];

/// A mirror of two lists of numbers.
#[derive(Default)]
struct Lists {
    lists: Mutex<[Vec<u64>; 2]>,
    taken: Mutex<u32>,
}

impl Mirror for Lists {
    type Change = Vec<u64>;

    fn read(&self, collection: usize, body: &str) -> Result<(Loss, Vec<u64>), String> {
        let list: Vec<u64> = serde_json::from_str(body).map_err(|error| error.to_string())?;
        let had = &self.lists.lock().unwrap()[collection];
        let lost = had.iter().filter(|row| !list.contains(row)).count();
        let (had, has) = (had.len(), list.len());
        Ok((Loss { had, lost, has }, list))
    }

    fn take(&self, collection: usize, change: Vec<u64>) -> Result<(), HostError> {
        self.lists.lock().unwrap()[collection] = change;
        *self.taken.lock().unwrap() += 1;
        Ok(())
    }
}

impl Lists {
    fn has(&self) -> [Vec<u64>; 2] {
        self.lists.lock().unwrap().clone()
    }
}

fn settings(more: serde_json::Value) -> Settings {
    Settings {
        url: serde_json::from_value("http://site:1/".into()).unwrap(),
        ca: None,
        token: serde_json::from_value(more).ok(),
        refresh: Refresh::default(),
        hold_back: HoldBack::default(),
    }
}

fn site(host: &'static FakeHost) -> Site {
    Site::new(
        host.host(),
        &settings(serde_json::Value::Null),
        Path::new("/"),
        "/v1",
        LISTED,
    )
}

fn answers(host: &'static FakeHost, things: &'static str, others: &'static str) {
    host.answer_fetches(move |fetch| {
        let body = if fetch.url.ends_with("/v1/things") {
            things
        } else {
            others
        };
        Ok(Fetched {
            status: 200,
            body: body.into(),
            ..Fetched::default()
        })
    });
}

/// A mirror that was filled.
fn filled() -> (&'static FakeHost, Site, Lists) {
    let (host, lists) = (FakeHost::new(), Lists::default());
    let site = site(host);
    answers(host, "[1,2,3,4,5]", "[7]");
    site.refresh(&lists, Trust::Guarded);
    assert_eq!(lists.has(), [vec![1, 2, 3, 4, 5], vec![7]]);
    (host, site, lists)
}

#[test]
fn what_is_unchanged_is_not_read_again() {
    let (host, site, lists) = filled();
    site.refresh(&lists, Trust::Guarded);
    assert_eq!(*lists.taken.lock().unwrap(), 2);
    assert_eq!(host.metric("upstream_unchanged"), Some(2));
    assert_eq!(host.metric("upstream_as_of_unix_s"), Some(1_700_000_000));
    let health = site.health("6 rows", Vec::new());
    assert_eq!(
        health.text,
        "6 rows, mirrored from http://site:1/v1 as of 2023-11-14T22:13:20Z"
    );
    assert!(health.mistakes.is_empty());
    assert!(site.mark(Answer::default()).headers.is_empty());
}

#[test]
fn no_answer_of_a_broken_site_changes_what_is_mirrored_and_each_is_told() {
    let of = |status, body: &str| {
        Ok(Fetched {
            status,
            body: body.into(),
            headers: vec![("location".into(), "http://login.site/".into())],
            ..Fetched::default()
        })
    };
    let bad: [(Result<Fetched, String>, &str); 11] = [
        (
            of(500, "<html>the database is down</html>"),
            "status 500 <html>the database is down</html>",
        ),
        (of(302, ""), "leads to http://login.site/: set config.url"),
        (
            of(401, "{\"detail\": \"the token has expired\"}"),
            "status 401: the token is refused (the token has expired); see config.token",
        ),
        (of(204, ""), "status 204"),
        (of(404, "no such page"), "status 404 no such page"),
        (of(200, "{\"error\": 1}"), "the answer is not understood"),
        (of(200, "null"), "the answer is not understood"),
        (of(200, "[1,"), "the answer is not understood"),
        (
            of(200, "<html>Maintenance until 18:00"),
            "the answer is no JSON: <html>Maintenance until 18:00",
        ),
        (of(200, ""), "the answer is empty"),
        (Err("no whole answer within 30s".into()), "no whole answer within 30s"),
    ];
    for (answer, told) in bad {
        let (host, site, lists) = filled();
        let bad = answer.clone();
        host.answer_fetches(move |_| bad.clone());
        site.refresh(&lists, Trust::Guarded);
        assert_eq!(lists.has(), [vec![1, 2, 3, 4, 5], vec![7]], "{told}");
        let mistake = &site.health("", Vec::new()).mistakes[0];
        assert!(mistake.to_string().starts_with("http://site:1/v1"), "{mistake}");
        assert!(
            mistake.text.contains(told) && mistake.text.contains("since 2023-"),
            "{mistake}"
        );
        assert_eq!(host.metric("upstream_stale"), Some(1));
        assert_eq!(host.bumps(), 1, "kept answers are made anew, with the header");
        let (name, value) = site.mark(Answer::default()).headers.remove(0);
        assert_eq!(
            (&*name, &*value),
            ("warning", "110 bootd \"may be old since 2023-11-14T22:13:20Z\"")
        );
        answers(host, "[1,2,3,4,5,6]", "[7]");
        site.refresh(&lists, Trust::Guarded);
        assert_eq!(lists.has()[0].len(), 6);
        assert_eq!((host.metric("upstream_stale"), host.bumps()), (Some(0), 2));
    }
}

#[test]
fn a_large_loss_waits_until_the_site_says_something_else_or_the_operator_accepts_it() {
    let (host, site, lists) = filled();
    answers(host, "[1]", "[7]");
    site.refresh(&lists, Trust::Guarded);
    site.refresh(&lists, Trust::Obeyed);
    assert_eq!(lists.has()[0].len(), 5);
    let told = site.health("", Vec::new()).mistakes[0].text.clone();
    assert!(
        told.starts_with("the site has lost 4 of 5 things: held back since 2023-"),
        "{told}"
    );
    assert!(told.contains("bootd nodes accept"));
    assert_eq!(host.metric("upstream_held_back"), Some(1));

    answers(host, "[]", "[7]");
    let worse = site.accept(&lists).body;
    assert!(
        worse.starts_with(r#"{"accepted":[],"left":["/things: the site has lost 5 of 5 things by now"#),
        "{worse}"
    );
    assert_eq!(lists.has()[0].len(), 5, "nobody saw that loss");
    let done = site.accept(&lists).body;
    assert!(done.starts_with(r#"{"accepted":["/things: 5 of 5 things"#), "{done}");
    assert!(lists.has()[0].is_empty());
    assert_eq!(site.accept(&lists).body, r#"{"accepted":[],"left":[]}"#);
    assert_eq!(host.metric("upstream_held_back"), Some(0));

    answers(host, "[1,2,3,4,5]", "[7]");
    site.refresh(&lists, Trust::Guarded);
    answers(host, "[1]", "[7]");
    site.refresh(&lists, Trust::Guarded);
    answers(host, "[1,2,3,4]", "[7]");
    site.refresh(&lists, Trust::Guarded);
    assert_eq!(lists.has()[0].len(), 4);
    assert!(site.health("", Vec::new()).mistakes.is_empty());
}

#[test]
fn an_answer_that_nothing_changed_is_believed_only_when_something_is_known() {
    let (host, lists) = (FakeHost::new(), Lists::default());
    let site = site(host);
    host.answer_fetches(|_| {
        Ok(Fetched {
            status: 304,
            ..Fetched::default()
        })
    });
    site.refresh(&lists, Trust::Guarded);
    assert!(
        site.health("", Vec::new()).mistakes[0]
            .text
            .starts_with("status 304, since")
    );
}

#[test]
fn how_old_the_mirror_is_and_since_when_its_site_is_dead_is_known_after_a_restart() {
    let (host, before, lists) = filled();
    host.answer_fetches(|_| Err("cannot connect: connection refused".into()));
    before.refresh(&lists, Trust::Guarded);
    drop(before);
    let site = site(host);
    assert_eq!(host.metric("upstream_as_of_unix_s"), Some(1_700_000_000));
    assert_eq!(host.metric("upstream_stale"), Some(1));
    let health = site.health("6 rows", Vec::new());
    assert_eq!(
        health.text,
        "6 rows, mirrored from http://site:1/v1 as of 2023-11-14T22:13:20Z"
    );
    assert!(
        health.mistakes[0].text.contains("since 2023-11-14T22:13:20Z"),
        "{health:?}"
    );
    assert!(
        site.mark(Answer::default()).headers[0]
            .1
            .contains("may be old since 2023-11-14")
    );
    assert!(site.is_due());
}

#[test]
fn what_files_say_of_a_site_is_looked_at_before_it_is_asked() {
    let (host, folder) = (FakeHost::new(), tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("ca.pem"), "-----BEGIN PRIVATE KEY-----").unwrap();
    let settings = Settings {
        url: serde_json::from_value("http://site:1/v1".into()).unwrap(),
        ca: Some("ca.pem".into()),
        ..settings(serde_json::json!({"file": "site.token"}))
    };
    let site = Site::new(host.host(), &settings, folder.path(), "/v1", LISTED);
    let told: Vec<String> = site
        .health("", Vec::new())
        .mistakes
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told[0].starts_with("config.ca: ") && told[0].ends_with("holds no certificate in PEM form"),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("config.token: ") && told[1].contains("site.token"),
        "{told:?}"
    );
    assert!(told[2].starts_with("config.url: /v1 is appended"), "{told:?}");
}

#[test]
fn a_site_that_does_not_answer_is_asked_once_a_refresh_and_told_once() {
    let (host, site, lists) = filled();
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    host.answer_fetches(move |_| {
        *count.lock().unwrap() += 1;
        Err("no whole answer within 30s".into())
    });
    site.refresh(&lists, Trust::Guarded);
    assert_eq!(*asked.lock().unwrap(), 1);
    let mistakes = site.health("", Vec::new()).mistakes;
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(
        mistakes[0].to_string().ends_with("is served (all of /things, /others)"),
        "{mistakes:?}"
    );
}

#[test]
fn what_is_deleted_through_this_box_is_obeyed() {
    let (host, site, lists) = filled();
    answers(host, "[]", "[7]");
    site.refresh(&lists, Trust::Obeyed);
    assert!(lists.has()[0].is_empty());
}

#[test]
fn a_write_is_passed_on_with_the_clients_token_and_without_its_other_fields() {
    let (host, site, _) = filled();
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    host.answer_fetches(move |fetch| {
        *keep.lock().unwrap() = Some(fetch.clone());
        Ok(Fetched {
            status: 201,
            headers: vec![
                ("set-cookie".into(), "a=b".into()),
                ("location".into(), "/v1/things/7".into()),
            ],
            body: "made".into(),
            ..Fetched::default()
        })
    });
    let request = Request {
        method: "PUT".into(),
        query: "a=%20b".into(),
        body: "{}".into(),
        headers: vec![
            ("authorization".into(), "Bearer of-the-client".into()),
            ("x-forwarded-for".into(), "1.2.3.4".into()),
        ],
        ..Request::default()
    };
    let answer = site.pass_on(&request, "/things/a b");
    assert_eq!((answer.status, answer.body.as_str()), (201, "made"));
    assert_eq!(answer.headers, [("location".into(), "/v1/things/7".into())]);
    let fetch = seen.lock().unwrap().clone().unwrap();
    assert_eq!(
        (fetch.method.as_str(), fetch.url.as_str()),
        ("PUT", "http://site:1/v1/things/a%20b?a=%20b")
    );
    assert_eq!(fetch.headers, [("authorization".into(), "Bearer of-the-client".into())]);
    assert_eq!(site.pass_on(&request, "/things/../admin").status, 400);
    host.answer_fetches(|_| Err("connection refused".into()));
    let dead = site.pass_on(&request, "/things/7");
    assert_eq!(dead.status, 502);
    assert!(
        dead.body.contains("connection refused") && dead.body.contains("http://site:1/v1"),
        "{}",
        dead.body
    );
}

#[test]
fn the_token_is_read_from_its_file_each_time_and_a_missing_one_is_named() {
    let (host, folder) = (FakeHost::new(), tempfile::tempdir().unwrap());
    let settings = settings(serde_json::json!({"file": "site.token"}));
    let site = Site::new(host.host(), &settings, folder.path(), "/v1", LISTED);
    let lists = Lists::default();
    let shown = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&shown);
    host.answer_fetches(move |fetch| {
        keep.lock().unwrap().extend(fetch.headers.clone());
        Err("gone".into())
    });
    site.refresh(&lists, Trust::Guarded);
    let told = site.health("", Vec::new()).mistakes[0].text.clone();
    assert!(
        told.starts_with("config.token: ") && told.contains("site.token: "),
        "{told}"
    );
    for token in ["one\n", "two"] {
        std::fs::write(folder.path().join("site.token"), token).unwrap();
        site.refresh(&lists, Trust::Guarded);
    }
    std::fs::write(folder.path().join("site.token"), "two words").unwrap();
    site.refresh(&lists, Trust::Guarded);
    let shown: Vec<String> = shown.lock().unwrap().iter().map(|(_, value)| value.clone()).collect();
    assert_eq!(shown, ["Bearer one", "Bearer two"]);
}

#[test]
fn a_token_that_ends_soon_is_told_before_it_is_refused() {
    let (host, folder) = (FakeHost::new(), tempfile::tempdir().unwrap());
    let site = Site::new(
        host.host(),
        &settings(serde_json::json!({"file": "site.token"})),
        folder.path(),
        "/v1",
        LISTED,
    );
    let told = |claims: &str| {
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
        std::fs::write(folder.path().join("site.token"), format!("e30.{payload}.c2ln")).unwrap();
        site.health("", Vec::new()).mistakes
    };
    // The fake clock stands at 1,700,000,000.
    let soon = told(r#"{"exp": 1700000200}"#);
    assert_eq!(
        soon[0].to_string(),
        "config.token: the token ends at 2023-11-14T22:16:40Z: write a newer one in its place"
    );
    for claims in [
        r#"{"exp": 1700007200}"#,
        r#"{"exp": 1600000000}"#,
        r#"{"sub": "a"}"#,
        "[]",
        "nonsense",
    ] {
        assert_eq!(told(claims), [], "{claims}");
    }
}
