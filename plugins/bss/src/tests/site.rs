//! Upstream mode: what a site says becomes the book, and nothing that it says breaks it.

use std::sync::{Arc, Mutex};

use bootd_sdk::wire::{Fetch, Fetched};

use super::*;

const PATH: &str = "/boot/v1/bootparameters";
const URL: &str = "http://site:8081";
const LIST: &str = "http://site:8081/boot/v1/bootparameters";

/// The answer to a fetch.
type Reply = Result<Fetched, String>;

/// A site that says what the test wants, and remembers what it was asked.
#[derive(Clone)]
struct Site {
    list: Arc<Mutex<Reply>>,
    write: Arc<Mutex<Reply>>,
    asked: Arc<Mutex<Vec<Fetch>>>,
}

impl Site {
    fn on(host: &'static FakeHost, body: &Value) -> Self {
        let site = Self {
            list: Arc::new(Mutex::new(reply(200, &body.to_string()))),
            write: Arc::new(Mutex::new(reply(200, ""))),
            asked: Arc::default(),
        };
        let (list, write, asked) = (site.list.clone(), site.write.clone(), site.asked.clone());
        host.answer_fetches(move |fetch| {
            asked.lock().unwrap().push(fetch.clone());
            let reply = if fetch.method == "GET" { &list } else { &write };
            reply.lock().unwrap().clone()
        });
        site
    }

    fn says(&self, reply: Reply) {
        *self.list.lock().unwrap() = reply;
    }

    fn lists(&self, body: &Value) {
        self.says(reply(200, &body.to_string()));
    }

    /// What it was asked since the last time.
    fn asked(&self) -> Vec<Fetch> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn reply(status: u16, body: &str) -> Reply {
    Ok(Fetched {
        status,
        body: body.into(),
        ..Fetched::default()
    })
}

/// Five nodes with a kernel each.
fn five() -> Value {
    (1..=5)
        .map(|n| json!({"macs": [format!("52:54:00:be:ef:0{n}")], "kernel": format!("http://h/{n}"), "params": "ro"}))
        .collect()
}

fn config() -> Value {
    json!({"url": URL, "refresh_s": 1})
}

fn started(host: &'static FakeHost, config: &Value) -> Instance {
    host.set_nodes((1..=5).map(node).collect());
    host.start_in::<Bss>("upstream", config.clone()).unwrap()
}

/// A mirror of five nodes.
fn mirrored() -> (&'static FakeHost, Instance, Site) {
    let host = FakeHost::new();
    let site = Site::on(host, &five());
    let bss = started(host, &config());
    look(host, &bss);
    assert_eq!(list(&bss, "").as_array().unwrap().len(), 5);
    site.asked();
    (host, bss, site)
}

/// As long as until the next refresh, of a site that is asked each second and may have failed once or twice.
fn look(host: &FakeHost, bss: &Instance) {
    host.sleeps(4);
    assert!(bss.run());
}

fn kernels(bss: &Instance) -> Vec<String> {
    let all = bss.get(PATH, None).unwrap().body;
    let all: Value = serde_json::from_str(&all).unwrap();
    let all = all.as_array().cloned().unwrap_or_default();
    all.iter()
        .map(|entry| entry["kernel"].as_str().unwrap().to_owned())
        .collect()
}

fn warned(answer: &Answer) -> Option<&str> {
    let warning = answer.headers.iter().find(|(name, _)| name == "warning");
    warning.map(|(_, text)| text.as_str())
}

#[test]
fn a_sites_list_is_served_as_the_site_serves_it() {
    let (host, bss, _) = mirrored();
    let site = five();
    for (got, expected) in list(&bss, "").as_array().unwrap().iter().zip(site.as_array().unwrap()) {
        assert_eq!(got["macs"], expected["macs"]);
        assert_eq!(
            (&got["kernel"], &got["params"]),
            (&expected["kernel"], &expected["params"])
        );
    }
    let answer = bss.get("/boot/v1/bootscript?mac=52:54:00:be:ef:03", None).unwrap();
    assert!(
        answer.body.contains("kernel --name kernel http://h/3 ro xname="),
        "{}",
        answer.body
    );
    assert!(answer.keep && warned(&answer).is_none());
    assert_eq!(
        host.health().text,
        "5 sets of boot parameters for 5 targets, mirrored from http://site:8081/boot/v1 as of 2023-11-14T22:13:20Z"
    );
    assert_eq!(host.health().mistakes, []);
}

#[test]
fn what_is_unchanged_writes_and_bumps_nothing() {
    let (host, bss, site) = mirrored();
    let (bumps, stored) = (host.bumps(), host.stored());
    look(host, &bss);
    let asked = site.asked();
    assert!(!asked.is_empty());
    assert!(
        asked
            .iter()
            .all(|fetch| fetch.url == LIST && !fetch.known.as_deref().unwrap().is_empty())
    );
    // The same in other words.
    site.says(reply(200, &serde_json::to_string_pretty(&five()).unwrap()));
    look(host, &bss);
    assert_eq!((host.bumps(), host.stored()), (bumps, stored));
    assert_eq!(host.health().mistakes, []);
}

#[test]
fn what_the_site_changes_is_changed_here() {
    let (host, bss, site) = mirrored();
    let mut list = five();
    list[1]["kernel"] = "http://h/new".into();
    list.as_array_mut().unwrap().remove(4);
    list.as_array_mut()
        .unwrap()
        .push(json!({"hosts": ["Default"], "kernel": "http://h/default"}));
    site.lists(&list);
    let bumps = host.bumps();
    look(host, &bss);
    assert_eq!(
        kernels(&bss),
        [
            "http://h/1",
            "http://h/new",
            "http://h/3",
            "http://h/4",
            "http://h/default"
        ]
    );
    assert!(script(&bss, "mac=52:54:00:be:ef:05").contains(" http://h/default "));
    assert_eq!(host.bumps(), bumps + 1);
}

#[test]
fn no_answer_of_a_broken_site_changes_anything_and_each_is_told() {
    let half = five().to_string().split_off(0)[..200].to_owned();
    let bad: [(Reply, &str); 15] = [
        (reply(500, "<html>down</html>"), "status 500 <html>down</html>"),
        (reply(503, ""), "status 503"),
        (
            reply(200, r#"{"error":"no database"}"#),
            "it is no list: invalid type: map",
        ),
        (
            reply(200, r#"{"type":"about:blank","title":"Unauthorized","status":401}"#),
            "it is no list",
        ),
        (reply(200, "<html>login</html>"), "the answer is no JSON"),
        (reply(200, "garbage"), "the answer is no JSON"),
        (reply(200, &half), "it is no list"),
        (reply(200, ""), "the answer is empty"),
        (
            reply(200, "[1,2]"),
            "none of its 2 entries can be used; the first: entry 1: ",
        ),
        (
            reply(200, r#"[{"macs":["525400beef01"],"kernel":"a b"}]"#),
            "none of its 1 entries can be used",
        ),
        (reply(204, ""), "status 204"),
        (
            Ok(Fetched {
                status: 302,
                headers: vec![("location".into(), "http://login/".into())],
                ..Fetched::default()
            }),
            "status 302 leads to http://login/: set config.url to where the service is",
        ),
        (reply(401, ""), "status 401: the token is refused; see config.token"),
        (
            Err("the answer has more than 67108864 bytes".into()),
            "more than 67108864 bytes",
        ),
        (
            Err("invalid peer certificate: Expired".into()),
            "invalid peer certificate: Expired",
        ),
    ];
    for (reply, told) in bad {
        let (host, bss, site) = mirrored();
        let stored = host.stored();
        let good = site.list.lock().unwrap().clone();
        site.says(reply);
        look(host, &bss);
        assert_eq!(kernels(&bss).len(), 5, "{told}");
        assert_eq!(host.stored(), stored, "{told}");
        let mistakes: Vec<String> = host.health().mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(
            mistakes[0].starts_with(&format!("{LIST}: ")) && mistakes[0].contains(told),
            "{mistakes:?}"
        );
        assert!(mistakes[0].contains("since 2023-11-14T22:13:20Z"), "{mistakes:?}");
        assert_eq!(host.metric("upstream_stale"), Some(1));
        for path in [
            PATH,
            "/boot/v1/hosts",
            "/boot/v1/dumpstate",
            "/boot/v1/bootscript?nid=1",
            "/bootd/v1/export/bss",
        ] {
            let answer = bss.get(path, None).unwrap();
            assert_eq!((answer.status, warned(&answer).is_some()), (200, true), "{path}");
        }
        site.says(good);
        for _ in 0..3 {
            look(host, &bss);
        }
        assert_eq!(host.health().mistakes, [], "{told}");
        assert!(warned(&bss.get(PATH, None).unwrap()).is_none());
    }
}

#[test]
fn a_large_loss_is_held_back_until_the_operator_accepts_it() {
    for (list, lost) in [
        (
            json!([{"macs": ["52:54:00:be:ef:01"], "kernel": "http://h/1", "params": "ro"}]),
            4,
        ),
        (json!([]), 5),
        (Value::Null, 5),
        (json!([{"macs": ["52:54:00:00:00:99"], "kernel": "http://h/1"}]), 5),
    ] {
        let (host, bss, site) = mirrored();
        site.lists(&list);
        look(host, &bss);
        assert_eq!(kernels(&bss).len(), 5, "{list}");
        let told = host.health().mistakes[0].to_string();
        let expected = format!("{LIST}: the site has lost {lost} of 5 targets of boot parameters: held back since ");
        assert!(told.starts_with(&expected), "{told}");
        assert_eq!(host.metric("upstream_held_back"), Some(1));
        assert!(warned(&bss.get(PATH, None).unwrap()).is_some());
        let answer = send(&bss, "POST", "/bootd/v1/accept/bss", "");
        assert_eq!(answer.status, 200);
        assert!(
            answer.body.contains(&format!("/bootparameters: {lost} of 5 targets")),
            "{}",
            answer.body
        );
        assert_eq!(kernels(&bss).len(), list.as_array().map_or(0, Vec::len));
        assert_eq!(host.health().mistakes, []);
        assert_eq!(host.metric("upstream_held_back"), Some(0));
    }
}

#[test]
fn what_is_held_back_is_let_go_when_the_site_recovers() {
    let (host, bss, site) = mirrored();
    site.lists(&json!([]));
    look(host, &bss);
    site.lists(&five());
    look(host, &bss);
    assert_eq!(host.health().mistakes, []);
    assert_eq!(kernels(&bss).len(), 5);
}

#[test]
fn a_bad_entry_costs_only_itself_and_is_told() {
    let (host, bss, site) = mirrored();
    let mut list = five();
    list[0]["kernel"] = "two words".into();
    list[1]["macs"] = json!(["52:54:00:be:ef:02", "nonsense"]);
    list[2]["kernel"] = "http://h/new".into();
    site.lists(&list);
    look(host, &bss);
    assert_eq!(
        kernels(&bss),
        ["http://h/1", "http://h/2", "http://h/new", "http://h/4", "http://h/5"]
    );
    let told: Vec<String> = host.health().mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            format!("{LIST}: entry 1: kernel must be a URL, without white space, quotes or control characters in it"),
            format!("{LIST}: entry 2: macs: '\"nonsense\"' is no MAC address")
        ]
    );
    assert!(
        warned(&bss.get(PATH, None).unwrap()).is_none(),
        "what the site says is mirrored"
    );
    site.lists(&five());
    look(host, &bss);
    assert_eq!(host.health().mistakes, []);
}

#[test]
fn everything_is_there_after_a_start_with_the_site_dead() {
    let (host, bss, site) = mirrored();
    drop(bss);
    site.says(Err("connection refused".into()));
    let bss = started(host, &config());
    assert_eq!(kernels(&bss).len(), 5, "before the first look");
    assert!(script(&bss, "mac=52:54:00:be:ef:04").contains(" http://h/4 "));
    look(host, &bss);
    assert_eq!(kernels(&bss).len(), 5);
    assert!(
        host.health().text.ends_with(" as of 2023-11-14T22:13:20Z"),
        "{}",
        host.health().text
    );
    assert!(host.health().mistakes[0].text.starts_with("connection refused, since "));
}

#[test]
fn a_write_is_passed_on_with_its_token_and_read_back() {
    let (host, bss, site) = mirrored();
    let write = |method: &str, prefix: &str| {
        let request = Request {
            method: method.into(),
            path: format!("{prefix}{PATH}"),
            body: "{\"macs\":[]}".into(),
            headers: vec![
                ("authorization".into(), "Bearer of-the-client".into()),
                ("cookie".into(), "x".into()),
            ],
            claims: Some(json!({"sub": "test"})),
            ..Request::default()
        };
        bss.handle(&request).unwrap()
    };
    let mut list = five();
    for (number, (method, prefix)) in [("POST", ""), ("PUT", "/apis/bss"), ("PATCH", "")]
        .into_iter()
        .enumerate()
    {
        let kernel = format!("http://h/written-{number}");
        list[0]["kernel"] = kernel.clone().into();
        site.lists(&list);
        *site.write.lock().unwrap() = Ok(Fetched {
            status: 201,
            headers: vec![
                ("bss-referral-token".into(), "t".into()),
                ("set-cookie".into(), "x".into()),
            ],
            ..Fetched::default()
        });
        let answer = write(method, prefix);
        assert_eq!(
            (answer.status, answer.headers),
            (201, vec![("bss-referral-token".into(), "t".into())])
        );
        let asked = site.asked();
        assert_eq!((asked[0].method.as_str(), asked[0].url.as_str()), (method, LIST));
        assert_eq!(
            asked[0].headers,
            [("authorization".into(), "Bearer of-the-client".into())]
        );
        assert_eq!(asked[0].body, "{\"macs\":[]}");
        assert_eq!(asked[1].method, "GET");
        assert_eq!(kernels(&bss)[0], kernel, "read back before the answer");
    }
    // Somebody who deletes all means it.
    site.lists(&Value::Null);
    assert_eq!(write("DELETE", "").status, 201);
    assert_eq!(bss.get(PATH, None).unwrap().body, "null");
    assert_eq!(host.health().mistakes, []);
}

#[test]
fn a_write_that_the_site_refuses_or_never_hears_of_changes_nothing() {
    let (host, bss, site) = mirrored();
    let stored = host.stored();
    let refusal = r#"{"type":"about:blank","title":"Bad Request","detail":"Bad Request: no","status":400}"#;
    *site.write.lock().unwrap() = reply(400, refusal);
    let body = r#"{"macs":["525400beef01"],"kernel":"http://h/x"}"#;
    let answer = send(&bss, "PUT", PATH, body);
    assert_eq!((answer.status, answer.body.as_str()), (400, refusal));
    *site.write.lock().unwrap() = Err("connection refused".into());
    let (status, detail) = told(&send(&bss, "PUT", PATH, body));
    assert_eq!(status, 502);
    assert!(
        detail.contains("connection refused") && detail.contains("http://site:8081/boot/v1"),
        "{detail}"
    );
    assert_eq!(host.stored(), stored);
}

#[test]
fn routes_that_write_wait_for_the_site_and_pass_tokens() {
    let (_, bss, _) = mirrored();
    let (_, local) = start(json!({}));
    let of = |bss: &Instance, method: &str, prefix: &str| {
        let route = bss
            .setup
            .routes
            .iter()
            .find(|route| route.method == method && route.prefix == prefix);
        route.map(|route| (route.deadline_ms.is_some(), route.passes_token))
    };
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for prefix in ["", "/apis/bss"] {
            assert_eq!(of(&bss, method, &format!("{prefix}{PATH}")), Some((true, true)));
            assert_eq!(of(&local, method, &format!("{prefix}{PATH}")), Some((false, false)));
        }
    }
    assert_eq!(of(&bss, "GET", PATH), Some((false, false)));
    assert_eq!(of(&bss, "POST", "/bootd/v1/accept/bss"), Some((true, false)));
    assert_eq!(of(&local, "POST", "/bootd/v1/accept/bss"), None);
}

#[test]
fn an_import_is_refused_and_an_export_is_what_the_site_has() {
    let (host, bss, _) = mirrored();
    let stored = host.stored();
    let (status, detail) = told(&send(&bss, "POST", "/bootd/v1/import/bss", "[]\n"));
    assert_eq!(status, 409);
    assert!(detail.contains("write them there"), "{detail}");
    assert_eq!(host.stored(), stored);
    let exported = bss.get("/bootd/v1/export/bss", None).unwrap().body;
    let (_, other) = start(json!({}));
    assert_eq!(send(&other, "POST", "/bootd/v1/import/bss", &exported).status, 204);
    assert_eq!(list(&other, ""), list(&bss, ""));
}

#[test]
fn a_site_that_does_not_answer_holds_up_nothing_else() {
    let host = FakeHost::new();
    let (release, released) = std::sync::mpsc::channel::<()>();
    host.answer_fetches(move |_| {
        let _ = released.recv();
        reply(200, "null")
    });
    let bss = started(host, &config());
    let mut one = node(1);
    one.interfaces[0].ips = vec![bootd_sdk::wire::Address {
        network: String::new(),
        ip: "10.1.0.7".parse().unwrap(),
    }];
    host.set_nodes(vec![one]);
    host.happens(Happening::Http {
        peer: "10.1.0.7".parse().unwrap(),
        method: "GET".into(),
        path: "/boot/v1/bootscript".into(),
        status: 200,
    });
    host.sleeps(u64::MAX);
    std::thread::scope(|threads| {
        threads.spawn(|| assert!(bss.run()));
        let history = || bss.get("/boot/v1/endpoint-history", None).unwrap().body;
        while history() == "[]" {
            std::thread::yield_now();
        }
        assert!(history().contains("x1000c0s0b0n0"));
        host.sleeps(0);
        drop(release);
    });
}

#[test]
fn a_node_without_parameters_hurries_the_next_refresh() {
    let host = FakeHost::new();
    let site = Site::on(host, &five());
    let bss = started(host, &json!({"url": URL, "refresh_s": 3600}));
    look(host, &bss);
    assert_eq!(site.asked().len(), 1);
    look(host, &bss);
    assert_eq!(site.asked().len(), 0);
    script(&bss, "mac=52:54:00:be:ef:01");
    look(host, &bss);
    assert_eq!(site.asked().len(), 0, "it has parameters");
    for _ in 0..100 {
        script(&bss, "mac=52:54:00:00:00:99");
    }
    look(host, &bss);
    assert_eq!(site.asked().len(), 1);
}

#[test]
fn the_token_and_the_certificates_are_shown_and_used() {
    let (host, dir) = (FakeHost::new(), tempfile::tempdir().unwrap());
    let (token, ca) = (dir.path().join("token"), dir.path().join("ca.pem"));
    fs::write(&token, "secret\n").unwrap();
    let site = Site::on(host, &five());
    let bss = started(
        host,
        &json!({"url": "https://site:8443/", "token": {"file": token}, "ca": ca, "refresh_s": 60}),
    );
    look(host, &bss);
    let asked = site.asked();
    assert_eq!(asked[0].url, "https://site:8443/boot/v1/bootparameters");
    assert_eq!(asked[0].headers, [("authorization".into(), "Bearer secret".into())]);
    assert_eq!(asked[0].ca.as_deref(), Some(ca.to_str().unwrap()));
}

#[test]
fn urls_that_name_the_site_lead_to_this_box_in_scripts_only() {
    let host = FakeHost::new();
    let params = "ro root=live:http://172.16.0.254:9000/boot-images/root ds=nocloud-net;s=http://172.16.0.254:8081/cloud-init \
                  a=http://site:8081/x b=http://172.16.0.254:8081/y c=http://else:8081/cloud-init";
    let list =
        json!([{"hosts": ["Default"], "kernel": "http://site:8081/k", "initrd": "http://else/i", "params": params}]);
    let _site = Site::on(host, &list);
    let config = |rewrite: bool| json!({"url": URL, "from": ["http://172.16.0.254:8081/"], "rewrite": rewrite});
    let bss = started(host, &config(true));
    look(host, &bss);
    let ask = |bss: &Instance, query: &str, leads_here: bool| {
        let request = Request {
            method: "GET".into(),
            path: "/boot/v1/bootscript".into(),
            query: query.into(),
            scheme: "http".into(),
            host: "10.1.0.1:8081".into(),
            rewrites: vec![Rewrite {
                from: "http://172.16.0.254:9000/".into(),
                to: "http://10.1.0.1:9000/".into(),
            }],
            leads_here,
            ..Request::default()
        };
        bss.handle(&request).unwrap().body
    };
    let led = "ro root=live:http://10.1.0.1:9000/boot-images/root ds=nocloud-net;s=http://10.1.0.1:8081/cloud-init \
               a=http://10.1.0.1:8081/x b=http://10.1.0.1:8081/y c=http://else:8081/cloud-init";
    let script = ask(&bss, "mac=52:54:00:be:ef:01", true);
    assert!(
        script.contains(&format!(
            "kernel --name kernel http://10.1.0.1:8081/k initrd=initrd {led} xname="
        )),
        "{script}"
    );
    assert!(script.contains("\ninitrd --name initrd http://else/i ||"), "{script}");
    assert!(
        script.contains("\nchain http://10.1.0.1:8081/boot/v1/bootscript?mac="),
        "{script}"
    );
    let json: Value = serde_json::from_str(&ask(&bss, "mac=52:54:00:be:ef:01&json=1", true)).unwrap();
    assert!(json["params"].as_str().unwrap().contains(led));
    assert_eq!(json["kernel"]["params"], params);
    assert_eq!(super::list(&bss, "")[0]["params"], params);
    // What stands there, for `bootd explain`.
    assert!(ask(&bss, "nid=1", false).contains("s=http://172.16.0.254:8081/cloud-init a=http://site:8081/x"));
    let off = started(host, &config(false));
    let script = ask(&off, "mac=52:54:00:be:ef:01", true);
    assert!(script.contains(
        "root=live:http://10.1.0.1:9000/boot-images/root ds=nocloud-net;s=http://172.16.0.254:8081/cloud-init"
    ));
    assert!(script.contains("kernel --name kernel http://site:8081/k "), "{script}");
}

#[test]
fn a_boot_service_is_mirrored_and_not_written() {
    let configuration =
        |name: &str, spec: Value| json!({"kind": "BootConfiguration", "metadata": {"name": name}, "spec": spec});
    let list = json!([
        configuration(
            "any",
            json!({"kernel": "http://h/any", "params": "ds=nocloud;s=http://gw/metadata-service/"})
        ),
        configuration("group", json!({"kernel": "http://h/group", "groups": ["compute"]})),
        configuration(
            "one",
            json!({"kernel": "http://h/one", "macs": ["52:54:00:BE:EF:01"], "priority": 9})
        ),
    ]);
    for (url, expected) in [
        ("https://gw:8443", "https://gw:8443/boot-service/bootconfigurations"),
        (
            "https://gw:8443/boot-service",
            "https://gw:8443/boot-service/bootconfigurations",
        ),
        (
            "http://boot-service:8081/",
            "http://boot-service:8081/bootconfigurations",
        ),
    ] {
        let host = FakeHost::new();
        let site = Site::on(host, &list);
        let bss = started(host, &json!({"url": url, "api": "boot-service", "refresh_s": 1}));
        look(host, &bss);
        assert_eq!(site.asked()[0].url, expected);
        assert!(script(&bss, "nid=1").contains(" http://h/one "));
        assert!(script(&bss, "nid=2").contains(" http://h/group "));
        let mut six = node(6);
        six.groups.clear();
        host.set_nodes(vec![six]);
        let script = script(&bss, "nid=6");
        assert!(
            script.contains(" http://h/any ds=nocloud;s=http://172.16.0.254:8081/cloud-init/ "),
            "{script}"
        );
        let answer = send(&bss, "PUT", PATH, r#"{"nids":[1],"kernel":"http://h/x"}"#);
        let (status, detail) = told(&answer);
        assert_eq!(status, 405);
        assert!(
            detail.contains("write BootConfigurations there (ochami boot config)"),
            "{detail}"
        );
        assert!(site.asked().iter().all(|fetch| fetch.method == "GET"));
        site.says(reply(200, r#"{"error":"failed to load","code":500}"#));
        look(host, &bss);
        assert_eq!(kernels(&bss).len(), 3);
        assert!(host.health().mistakes[0].text.contains("it is no list"));
        site.lists(&json!([]));
        for _ in 0..3 {
            look(host, &bss);
        }
        assert_eq!(kernels(&bss).len(), 3);
        assert!(host.health().mistakes[0].text.starts_with("the site has lost 3 of 3"));
    }
}

#[test]
fn from_local_to_upstream_and_back_nothing_is_lost_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("boot.yaml");
    fs::write(&path, "- {kernel: http://h/file, nids: [1, 2]}\n").unwrap();
    let (host, bss) = start(json!({"boot": path}));
    assert_eq!(
        send(&bss, "PUT", PATH, r#"{"nids":[3],"kernel":"http://h/api"}"#).status,
        200
    );
    drop(bss);
    // A site without any of them is not believed at once.
    let site = Site::on(host, &five());
    let bss = started(host, &config());
    assert_eq!(kernels(&bss), ["http://h/file", "http://h/api"]);
    look(host, &bss);
    assert_eq!(kernels(&bss), ["http://h/file", "http://h/api"]);
    assert!(
        host.health().mistakes[0]
            .text
            .starts_with("the site has lost 3 of 3 targets")
    );
    assert_eq!(send(&bss, "POST", "/bootd/v1/accept/bss", "").status, 200);
    assert_eq!(kernels(&bss).len(), 5);
    site.lists(&json!([{"nids": [2, 7], "kernel": "http://h/site"}, five()[0], five()[1], five()[2]]));
    look(host, &bss);
    drop(bss);
    // What the files say counts again, all else stays as the site said it last.
    let bss = host.start::<Bss>(json!({"boot": path})).unwrap();
    let kernel = |nid: u64| list(&bss, &format!("?nid={nid}"))[0]["kernel"].clone();
    assert_eq!(
        (kernel(1), kernel(2), kernel(7)),
        ("http://h/file".into(), "http://h/file".into(), "http://h/site".into())
    );
    assert_eq!(send(&bss, "DELETE", PATH, r#"{"nids":[7]}"#).status, 200);
    assert_eq!(list(&bss, "").as_array().unwrap().len(), 4);
}

#[test]
fn a_local_list_has_a_tag_that_changes_with_it() {
    let (host, bss) = start(json!({}));
    let ask = |bss: &Instance, query: &str, known: Option<&str>, body: &str| {
        let request = Request {
            method: "GET".into(),
            path: PATH.into(),
            query: query.into(),
            body: body.into(),
            headers: known
                .map(|known| ("if-none-match".into(), known.into()))
                .into_iter()
                .collect(),
            claims: Some(json!({"sub": "test"})),
            ..Request::default()
        };
        let answer = bss.handle(&request).unwrap();
        let tag = answer
            .headers
            .iter()
            .find(|(name, _)| name == "etag")
            .map(|(_, tag)| tag.clone());
        (answer.status, answer.body, tag)
    };
    let (status, body, empty) = ask(&bss, "", None, "");
    assert_eq!((status, body.as_str()), (200, "null"));
    assert_eq!(
        send(&bss, "PUT", PATH, r#"{"nids":[1],"kernel":"http://h/k"}"#).status,
        200
    );
    let (status, full, tag) = ask(&bss, "", empty.as_deref(), "");
    assert_eq!(status, 200);
    assert_ne!(tag, empty);
    assert_eq!(ask(&bss, "", tag.as_deref(), ""), (304, String::new(), tag.clone()));
    assert_eq!(ask(&bss, "nid=1", tag.as_deref(), "").0, 304);
    assert_eq!(ask(&bss, "", tag.as_deref(), r#"{"nids":[1]}"#), (200, full, None));
    assert_eq!(ask(&bss, "nid=2", None, "").0, 404);
    // As it was, by a write of nothing new.
    assert_eq!(
        send(&bss, "PUT", PATH, r#"{"nids":[1],"kernel":"http://h/k"}"#).status,
        200
    );
    assert_eq!(ask(&bss, "", tag.as_deref(), "").0, 304);
    drop(bss);
    let again = host.start::<Bss>(json!({})).unwrap();
    assert_eq!(
        ask(&again, "", tag.as_deref(), "").0,
        200,
        "another instance has tags of its own"
    );
}

#[test]
fn a_bootd_in_local_mode_is_a_site() {
    let (_, upstream) = start(json!({"boot": data("boot-compute.yaml")}));
    let (host, answers) = (FakeHost::new(), Arc::new(Mutex::new(Vec::new())));
    let keep = Arc::clone(&answers);
    let upstream = Arc::new(upstream);
    let site = Arc::clone(&upstream);
    host.answer_fetches(move |fetch| {
        let known = fetch
            .known
            .as_deref()
            .and_then(|known| known.split_once(' '))
            .map(|(_, tag)| tag);
        let mut headers = fetch.headers.clone();
        headers.extend(
            known
                .filter(|tag| !tag.is_empty())
                .map(|tag| ("if-none-match".into(), tag.to_owned())),
        );
        let answer = site
            .handle(&Request {
                method: fetch.method.clone(),
                path: fetch.url.trim_start_matches(URL).into(),
                body: fetch.body.clone(),
                headers,
                claims: Some(json!({"sub": "rack"})),
                ..Request::default()
            })
            .map_err(|error| error.to_string())?;
        keep.lock().unwrap().push((fetch.method.clone(), answer.status));
        Ok(Fetched {
            status: answer.status,
            headers: answer.headers,
            body: answer.body,
            ..Fetched::default()
        })
    });
    let bss = started(host, &config());
    look(host, &bss);
    look(host, &bss);
    assert_eq!(list(&bss, ""), list(&upstream, ""));
    let asked = std::mem::take(&mut *answers.lock().unwrap());
    assert_eq!(asked[0], ("GET".into(), 200));
    assert!(
        asked.len() > 1 && asked[1..].iter().all(|asked| *asked == ("GET".into(), 304)),
        "{asked:?}"
    );
    assert_eq!(
        arguments(&bss, "mac=52:54:00:be:ef:01"),
        arguments(&upstream, "mac=52:54:00:be:ef:01")
    );
    let body = r#"{"macs":["52:54:00:be:ef:01"],"params":"quiet"}"#;
    let answer = send(&bss, "PATCH", PATH, body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(list(&bss, ""), list(&upstream, ""));
    assert_eq!(list(&bss, "?mac=52:54:00:be:ef:01")[0]["params"], "quiet");
    let (status, detail) = told(&send(&bss, "POST", PATH, body));
    assert_eq!(
        (status, detail.contains("data already exists")),
        (400, true),
        "{detail}"
    );
}

#[test]
fn ten_thousand_unchanged_nodes_cost_next_to_nothing() {
    let host = FakeHost::new();
    let all: Value = (0..10_000_u32)
        .map(|n| {
            let [_, a, b, c] = n.to_be_bytes();
            json!({"macs": [Mac([0x52, 0x54, 1, a, b, c])], "kernel": format!("http://h/{n}"), "params": "ro"})
        })
        .collect();
    let site = Site::on(host, &all);
    let bss = started(host, &config());
    look(host, &bss);
    assert_eq!(list(&bss, "").as_array().unwrap().len(), 10_000);
    let (bumps, stored) = (host.bumps(), host.stored().len());
    assert_eq!(stored, 20_001);
    site.says(reply(200, &serde_json::to_string_pretty(&all).unwrap()));
    look(host, &bss);
    assert_eq!((host.bumps(), host.stored().len()), (bumps, stored));
}

#[test]
fn what_nodes_say_of_themselves_is_not_written_into_a_mirror() {
    let (host, site) = (FakeHost::new(), five());
    let _site = Site::on(host, &site);
    let bss = started(host, &json!({"url": URL, "legacy_cloud_init": true}));
    look(host, &bss);
    let stored = host.stored();
    let request = Request {
        method: "POST".into(),
        path: "/phone-home".into(),
        body: "instance_id=i-1&hostname=n".into(),
        node: Some(node(1)),
        ..Request::default()
    };
    assert_eq!(bss.handle(&request).unwrap().status, 200);
    assert_eq!(host.stored(), stored);
    assert!(
        bss.get("/boot/v1/endpoint-history", None)
            .unwrap()
            .body
            .contains("phone-home")
    );
}

#[test]
fn settings_of_the_other_mode_and_wrong_ones_are_refused() {
    let start = |mode: &str, config: Value| {
        let error = FakeHost::new().start_in::<Bss>(mode, config).err().unwrap();
        assert!(error.is_bad_argument);
        error.to_string()
    };
    for (mode, config, told) in [
        ("upstream", json!({"url": URL, "boot": "x"}), "unknown field `boot`"),
        ("local", json!({"url": URL}), "did you mean mode = \"upstream\"?"),
        ("upstream", json!({}), "missing field `url`"),
        (
            "upstream",
            json!({"url": "site"}),
            "must begin with http:// or https://",
        ),
        (
            "upstream",
            json!({"url": URL, "token": "eyJ"}),
            "token: it must be { file =",
        ),
        (
            "upstream",
            json!({"url": URL, "api": "smd"}),
            "unknown variant `smd`, expected `bss` or `boot-service`",
        ),
        ("upstream", json!({"url": URL, "from": ["x"]}), "from: "),
        (
            "upstream",
            json!({"url": URL, "refresh_s": 0}),
            "refresh_s: it must be 1 to 86400",
        ),
        ("upstream", json!({"url": URL, "advertise": "x"}), "advertise"),
    ] {
        let error = start(mode, config);
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn no_mutation_of_a_list_panics_or_empties_the_mirror() {
    let (host, bss, site) = mirrored();
    let configurations = json!([{"kind": "BootConfiguration", "metadata": {"name": "a"}, "spec": {"kernel": "k", "macs": ["525400beef01"]}}]);
    let seeds = [five().to_string().into_bytes(), configurations.to_string().into_bytes()];
    bootd_sdk::fake::mutations(&seeds, 2000, |text| {
        let _ = crate::listed::boot_parameters(text);
        let _ = crate::listed::boot_configurations(text);
    });
    bootd_sdk::fake::mutations(&seeds[..1], 50, |text| {
        site.says(reply(200, text));
        look(host, &bss);
        assert!(kernels(&bss).len() >= 2, "{text}");
    });
}

#[test]
fn a_write_at_a_site_that_lost_everything_does_not_empty_the_mirror() {
    let (host, bss, site) = mirrored();
    site.lists(&json!([{"macs": ["52:54:00:be:ef:77"], "kernel": "http://h/new", "params": "ro"}]));
    let answer = send(
        &bss,
        "POST",
        PATH,
        r#"{"macs": ["52:54:00:be:ef:77"], "kernel": "http://h/new"}"#,
    );
    assert!((200..300).contains(&answer.status), "{answer:?}");
    assert_eq!(kernels(&bss).len(), 5);
    assert!(
        host.health()
            .mistakes
            .iter()
            .any(|mistake| mistake.text.contains("held back"))
    );
}
