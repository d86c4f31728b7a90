//! A rack in front of a site, from what the site answers to what a node gets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::api::send;
use super::mirror::{DEFAULTS, GROUPS};
use super::*;

/// A site: what it answers, by method and path, and what it was asked.
#[derive(Clone, Default)]
pub(super) struct Site {
    answers: Arc<Mutex<BTreeMap<String, Result<Fetched, String>>>>,
    asked: Arc<Mutex<Vec<Fetch>>>,
}

impl Site {
    fn says(&self, what: &str, answer: Result<Fetched, String>) {
        self.answers.lock().unwrap().insert(what.into(), answer);
    }

    pub(super) fn has(&self, what: &str, body: &str) {
        self.says(what, of(200, body));
    }

    /// What it was asked since the last time, as `GET /path`.
    fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        let text = |fetch: Fetch| format!("{} {}", fetch.method, fetch.url.strip_prefix(URL).unwrap_or(&fetch.url));
        asked.into_iter().map(text).collect()
    }
}

const URL: &str = "https://demo.openchami.cluster:8443";
const GET_DEFAULTS: &str = "GET /cloud-init/admin/cluster-defaults";
const GET_GROUPS: &str = "GET /cloud-init/admin/groups";
const NODE_1: &str = "GET /cloud-init/admin/impersonation/x1000c0s0b0n0/meta-data";

fn of(status: u16, body: &str) -> Result<Fetched, String> {
    Ok(Fetched {
        status,
        body: body.into(),
        ..Fetched::default()
    })
}

/// A host whose fetches a site answers.
pub(super) fn host_at(site: &Site) -> &'static FakeHost {
    let host = FakeHost::new();
    host.set_nodes(vec![compute1()]);
    let site = site.clone();
    host.answer_fetches(move |fetch| {
        site.asked.lock().unwrap().push(fetch.clone());
        let path = fetch.url.strip_prefix(URL).unwrap_or(&fetch.url);
        let answers = site.answers.lock().unwrap();
        let answer = answers.get(&format!("{} {path}", fetch.method)).cloned();
        answer.unwrap_or_else(|| of(404, "404 page not found\n"))
    });
    host
}

pub(super) fn start_at(host: &'static FakeHost, more: Value) -> Instance {
    let mut config = json!({"url": URL});
    config
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    host.start_in::<CloudInit>("upstream", config).unwrap()
}

/// Some seconds pass.
pub(super) fn pass(host: &'static FakeHost, plugin: &Instance, seconds: u64) {
    host.sleeps(seconds);
    assert!(plugin.run());
}

/// The tutorial's site, mirrored.
fn mirrored(more: Value) -> (Site, &'static FakeHost, Instance) {
    mirrored_from(Site::default(), more)
}

/// The same, of a site that has more.
fn mirrored_from(site: Site, more: Value) -> (Site, &'static FakeHost, Instance) {
    site.has(GET_DEFAULTS, DEFAULTS);
    site.has(GET_GROUPS, GROUPS);
    let host = host_at(&site);
    let plugin = start_at(host, more);
    pass(host, &plugin, 0);
    assert_eq!(told(host), [""; 0]);
    (site, host, plugin)
}

fn own(plugin: &Instance, document: &str) -> Answer {
    plugin
        .get(&format!("/cloud-init/{document}"), Some(compute1()))
        .unwrap()
}

fn warning(answer: &Answer) -> Option<&str> {
    answer
        .headers
        .iter()
        .find(|(name, _)| name == "warning")
        .map(|(_, value)| value.as_str())
}

/// A meta-data document as the site makes it.
fn document(hostname: &str) -> String {
    format!(
        "instance-id: i-site\nlocal-hostname: {hostname}\nhostname: nid001\ncluster-name: demo\ninstance_data:\n  v1:\n    \
         local_ipv4: 172.16.0.1\n    cloud_provider: site\n    public_keys: [k1, own]\n    vendor_data: {{groups: {{}}}}\n"
    )
}

#[test]
fn a_node_gets_what_the_site_says_and_is_not_led_past_the_rack() {
    let (_, host, plugin) = mirrored(json!({}));
    let body = own(&plugin, "meta-data").body;
    assert!(
        body.contains("hostname: nid001\n") && body.contains("      - k1\n"),
        "{body}"
    );
    assert!(
        body.contains("cloud_init_base_url: http://172.16.0.254:8081/cloud-init\n"),
        "{body}"
    );
    assert_eq!(
        own(&plugin, "vendor-data").body,
        "#include\nhttp://172.16.0.254:8081/cloud-init/compute.yaml\n"
    );
    assert_eq!(own(&plugin, "compute.yaml").body, "#a");
    assert_eq!(
        super::api::read(&plugin, "/cloud-init/admin/cluster-defaults")["base-url"],
        "http://10.0.0.1:8081/cloud-init"
    );
    assert_eq!(
        host.health().text,
        "2 groups and 0 node overrides (instance overrides are not mirrored: config.instance = \"none\"), mirrored from \
         https://demo.openchami.cluster:8443/cloud-init as of 2023-11-14T22:13:20Z"
    );
    assert!(own(&plugin, "meta-data").keep);
}

#[test]
fn where_the_operator_wants_it_so_urls_lead_to_the_site() {
    let (_, _, plugin) = mirrored(json!({"rewrite": false}));
    assert_eq!(
        own(&plugin, "vendor-data").body,
        "#include\nhttp://10.0.0.1:8081/cloud-init/compute.yaml\n"
    );
    let (_, _, plugin) = mirrored(json!({}));
    let request = Request {
        method: "GET".into(),
        path: "/cloud-init/vendor-data".into(),
        node: Some(compute1()),
        leads_here: false,
        ..Request::default()
    };
    assert_eq!(
        plugin.handle(&request).unwrap().body,
        "#include\nhttp://10.0.0.1:8081/cloud-init/compute.yaml\n"
    );
}

#[test]
fn urls_of_the_site_in_a_groups_document_lead_here_and_are_read_as_they_are_stored() {
    let text = "#include\nhttp://10.0.0.1:8081/cloud-init/io.yaml\nhttps://demo.openchami.cluster:8443/cloud-init/x.yaml\n\
                HTTP://Head:8081/cloud-init/y.yaml\nhttp://head:8081/other\nhttp://ci:80/cloud-init/z http://ci/cloud-initz\n";
    let groups = json!({"compute": {"name": "compute", "file": {"content": text, "filename": ""}}});
    let (site, host, plugin) = mirrored(json!({"from": ["http://head:8081/", "http://ci"]}));
    site.has(GET_GROUPS, &groups.to_string());
    pass(host, &plugin, 40);
    assert_eq!(
        own(&plugin, "compute.yaml").body,
        "#include\nhttp://172.16.0.254:8081/cloud-init/io.yaml\nhttp://172.16.0.254:8081/cloud-init/x.yaml\n\
         http://172.16.0.254:8081/cloud-init/y.yaml\nhttp://head:8081/other\nhttp://172.16.0.254:8081/cloud-init/z \
         http://ci/cloud-initz\n"
    );
    let stored = super::api::read(&plugin, "/cloud-init/admin/groups/compute");
    assert_eq!(stored["file"]["content"], text);
}

#[test]
fn what_is_unchanged_writes_nothing_and_wakes_nobody() {
    let (site, host, plugin) = mirrored(json!({}));
    let (stored, bumps) = (host.stored(), host.bumps());
    site.asked();
    pass(host, &plugin, 100);
    assert_eq!(site.asked().len(), 6, "two lists, each half a minute");
    // The same in other words.
    site.has(GET_GROUPS, &GROUPS.replace("},", "} ,"));
    pass(host, &plugin, 40);
    assert_eq!((host.stored(), host.bumps()), (stored, bumps));
}

#[test]
fn what_changes_at_the_site_comes_here_and_what_is_gone_there_goes() {
    let (site, host, plugin) = mirrored(json!({}));
    let bumps = host.bumps();
    site.has(GET_DEFAULTS, &DEFAULTS.replace("nid\"", "n\""));
    site.has(
        GET_GROUPS,
        r##"{"compute":{"name":"compute","file":{"content":"#new","filename":""}}}"##,
    );
    pass(host, &plugin, 40);
    assert!(own(&plugin, "meta-data").body.contains("hostname: n001\n"));
    assert_eq!(own(&plugin, "compute.yaml").body, "#new");
    assert_eq!(
        super::api::read(&plugin, "/cloud-init/admin/groups")
            .as_object()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(host.bumps(), bumps + 2);
}

#[test]
fn no_answer_of_a_broken_site_takes_anything_away_and_each_is_told() {
    let bad: [(Result<Fetched, String>, &str); 16] = [
        (
            of(500, "<html>the database is down</html>"),
            "status 500 <html>the database is down</html>",
        ),
        (of(502, ""), "status 502"),
        (of(401, ""), "the token is refused"),
        (of(302, ""), "status 302"),
        (of(204, ""), "status 204"),
        (of(404, "404 page not found\n"), "status 404"),
        (of(200, ""), "the answer is empty"),
        (of(200, "null"), "not an object"),
        (of(200, "[]"), "not an object"),
        (of(200, r#"{"error":"no"}"#), "the answer is not understood"),
        (
            of(200, r#"{"code":500,"message":"no"}"#),
            "the answer is not understood",
        ),
        (of(200, "<html>welcome</html>"), "no JSON"),
        (of(200, &GROUPS[..60]), "not JSON"),
        (
            Err("the answer has more than 67108864 bytes".into()),
            "more than 67108864 bytes",
        ),
        (Err("no whole answer within 30s".into()), "no whole answer"),
        (Err("invalid peer certificate: Expired".into()), "Expired"),
    ];
    for (answer, reason) in bad {
        let (site, host, plugin) = mirrored(json!({}));
        let (stored, meta_data) = (host.stored(), own(&plugin, "meta-data").body);
        site.says(GET_DEFAULTS, answer.clone());
        site.says(GET_GROUPS, answer);
        pass(host, &plugin, 40);
        assert_eq!(host.stored(), stored, "{reason}");
        let answer = own(&plugin, "meta-data");
        assert_eq!(
            (answer.status, &answer.body, answer.keep),
            (200, &meta_data, true),
            "{reason}"
        );
        assert!(
            warning(&answer)
                .unwrap()
                .starts_with("110 bootd \"may be old since 2023-")
        );
        assert!(warning(&send(&plugin, "GET", "/cloud-init/admin/groups", "")).is_some());
        let mistakes = host.health().mistakes;
        let last = mistakes.last().unwrap();
        assert!(
            last.text.contains(reason) && last.text.contains("since 2023-"),
            "{mistakes:?}"
        );
        site.has(GET_DEFAULTS, DEFAULTS);
        site.has(GET_GROUPS, GROUPS);
        pass(host, &plugin, 40);
        assert_eq!(
            (told(host).len(), warning(&own(&plugin, "meta-data"))),
            (0, None),
            "{reason}"
        );
    }
}

#[test]
fn a_site_that_lost_all_is_held_back_until_it_has_it_again_or_the_operator_accepts() {
    let (site, host, plugin) = mirrored(json!({}));
    let stored = host.stored();
    site.has(GET_DEFAULTS, "{}");
    site.has(GET_GROUPS, "{}");
    pass(host, &plugin, 40);
    assert_eq!(
        (host.stored(), own(&plugin, "compute.yaml").body),
        (stored, "#a".into())
    );
    let mistakes = told(host);
    assert!(
        mistakes[0].contains("the site has lost 6 of 6 cluster defaults: held back since 2023-"),
        "{mistakes:?}"
    );
    assert!(
        mistakes[1].contains("lost 2 of 2 groups") && mistakes[1].contains("bootd nodes accept"),
        "{mistakes:?}"
    );
    site.has(GET_DEFAULTS, DEFAULTS);
    pass(host, &plugin, 40);
    assert_eq!(told(host).len(), 1);
    let accepted = send(&plugin, "POST", "/bootd/v1/accept/cloud-init", "");
    assert!(
        accepted
            .body
            .starts_with(r#"{"accepted":["/admin/groups: 2 of 2 groups"#),
        "{}",
        accepted.body
    );
    pass(host, &plugin, 0);
    assert_eq!(told(host), [""; 0]);
    assert_eq!(super::api::read(&plugin, "/cloud-init/admin/groups"), json!({}));
    assert!(own(&plugin, "meta-data").body.contains("- k1\n"));
}

#[test]
fn a_start_with_the_site_dead_serves_all_that_was_mirrored() {
    let site = Site::default();
    site.has(NODE_1, &document("login"));
    let (site, host, plugin) = mirrored_from(site, json!({"instance": "impersonate"}));
    let before: Vec<Answer> = ["meta-data", "vendor-data", "compute.yaml"]
        .map(|name| own(&plugin, name))
        .into();
    assert!(before[0].body.contains("local-hostname: login\n"));
    drop(plugin);
    for what in [GET_DEFAULTS, GET_GROUPS, NODE_1] {
        site.says(what, Err("connection refused".into()));
    }
    let plugin = start_at(host, json!({"instance": "impersonate"}));
    pass(host, &plugin, 5);
    for (name, before) in ["meta-data", "vendor-data", "compute.yaml"].into_iter().zip(before) {
        let after = own(&plugin, name);
        assert_eq!(
            (after.status, after.body, after.keep),
            (200, before.body, before.keep),
            "{name}"
        );
    }
    assert!(host.health().text.contains(" as of 2023-"), "{}", host.health().text);
}

#[test]
fn a_node_that_asks_first_gets_its_override_in_time_and_it_is_kept() {
    let site = Site::default();
    site.has(NODE_1, &document("login"));
    site.has(GET_DEFAULTS, DEFAULTS);
    let host = host_at(&site);
    host.set_nodes(vec![]);
    let plugin = start_at(host, json!({"instance": "impersonate"}));
    site.has(GET_GROUPS, GROUPS);
    host.set_nodes(vec![compute1()]);
    let answer = own(&plugin, "meta-data");
    assert!(
        !answer.keep && site.asked().is_empty(),
        "nobody knows yet which of it is the node's own"
    );
    host.set_nodes(vec![]);
    pass(host, &plugin, 0);
    site.asked();
    let answer = own(&plugin, "meta-data");
    assert_eq!(site.asked(), [NODE_1]);
    assert!(
        answer.keep
            && answer
                .body
                .starts_with("instance-id: i-site\nlocal-hostname: login\nhostname: nid001\n")
    );
    assert!(answer.body.contains("      - k1\n      - own\n"), "{}", answer.body);
    own(&plugin, "meta-data");
    assert!(site.asked().is_empty());
    assert_eq!(host.metric("upstream_overrides_read"), Some(1));
    let stored = &host.stored()["instance/x1000c0s0b0n0"];
    assert_eq!(
        serde_json::from_str::<Value>(stored).unwrap(),
        json!({"by": "site", "value": {"id": "x1000c0s0b0n0", "instance-id": "i-site", "local-hostname": "login", "public-keys": ["own"]}})
    );
}

#[test]
fn while_the_site_is_slow_a_node_gets_its_document_without_its_override_and_that_is_told() {
    let (site, host, plugin) = mirrored_from_well_known();
    host.set_nodes(vec![compute1()]);
    site.says(NODE_1, Err("no whole answer within 1.5s".into()));
    site.asked();
    let answer = own(&plugin, "meta-data");
    assert_eq!((answer.status, answer.keep), (200, false));
    assert!(answer.body.contains("hostname: nid001\n"));
    for _ in 0..100 {
        assert!(!own(&plugin, "meta-data").keep);
    }
    assert_eq!(site.asked(), [NODE_1], "a site that fails is left alone");
    assert_eq!(host.metric("upstream_documents_without_override"), Some(101));
    pass(host, &plugin, 0);
    assert_eq!(
        told(host),
        [
            "0: no whole answer within 1.5s, since 2023-11-14T22:13:20Z; nodes of which nothing was read before get their documents without"
        ]
    );
    assert!(
        host.health().text.contains("those of 1 of 1 nodes not read yet"),
        "{}",
        host.health().text
    );
    site.has(NODE_1, &document("login"));
    pass(host, &plugin, 20);
    assert_eq!(
        (told(host).len(), host.metric("upstream_overrides_unknown")),
        (0, Some(0))
    );
    assert!(own(&plugin, "meta-data").body.contains("local-hostname: login\n"));
}

/// A site that is asked for overrides, of nodes that come later.
fn mirrored_from_well_known() -> (Site, &'static FakeHost, Instance) {
    let site = Site::default();
    site.has(GET_DEFAULTS, DEFAULTS);
    site.has(GET_GROUPS, GROUPS);
    let host = host_at(&site);
    host.set_nodes(vec![]);
    let plugin = start_at(host, json!({"instance": "impersonate"}));
    pass(host, &plugin, 0);
    (site, host, plugin)
}

#[test]
fn overrides_are_asked_for_in_the_nodes_name_where_the_site_believes_that() {
    let site = Site::default();
    site.has("GET /cloud-init/meta-data", &document("login"));
    let (site, host, plugin) = mirrored_from(site, json!({"instance": "forwarded"}));
    let asked = site.asked.lock().unwrap().clone();
    let asked = asked.iter().find(|fetch| fetch.url.ends_with("/meta-data")).unwrap();
    assert_eq!(asked.headers, [("x-forwarded-for".to_owned(), "172.16.0.1".to_owned())]);
    assert!(own(&plugin, "meta-data").body.contains("local-hostname: login\n"));
    site.has(
        "GET /cloud-init/meta-data",
        &document("other").replace("172.16.0.1", "172.16.0.99"),
    );
    pass(host, &plugin, 700);
    assert!(own(&plugin, "meta-data").body.contains("local-hostname: login\n"));
    let mistakes = told(host);
    assert!(
        mistakes[0].contains("the document of another node: it does not believe X-Forwarded-For"),
        "{mistakes:?}"
    );
    site.says("GET /cloud-init/meta-data", of(422, ""));
    pass(host, &plugin, 700);
    let mistakes = told(host);
    assert!(
        mistakes[0].contains(
            "status 422: the site knows no node with the address 172.16.0.1, or does not believe X-Forwarded-For: "
        ) && mistakes[0].contains("trusted_proxies")
            && mistakes[0].contains("config.instance"),
        "{mistakes:?}"
    );
}

#[test]
fn a_refusal_of_a_moment_is_no_trouble_for_a_node_whose_override_is_mirrored() {
    let site = Site::default();
    site.has(NODE_1, &document("login"));
    let (site, host, plugin) = mirrored_from(site, json!({"instance": "impersonate"}));
    let is_served = || own(&plugin, "meta-data").body.contains("local-hostname: login\n");
    site.says(NODE_1, of(404, "node x1000c0s0b0n0 not found in SMD\n"));
    pass(host, &plugin, 620);
    assert!(site.asked().iter().filter(|asked| *asked == NODE_1).count() > 2);
    assert!(is_served() && told(host).is_empty(), "{:?}", told(host));
    site.has(NODE_1, &document("login"));
    pass(host, &plugin, 30);
    assert!(site.asked().contains(&NODE_1.to_owned()));
    assert_eq!(told(host), [""; 0]);

    site.says(NODE_1, of(404, "node x1000c0s0b0n0 not found in SMD\n"));
    pass(host, &plugin, 700);
    assert!(is_served());
    let [told_of] = told(host).try_into().unwrap();
    assert!(
        told_of.contains("/admin/impersonation/x1000c0s0b0n0/meta-data: status 404 node x1000c0s0b0n0 not found in SMD, since 2023-11-14T22:")
            && told_of.contains("; the node gets what was mirrored before; the site is asked again within 10 minutes"),
        "{told_of}"
    );
    // What the site refused is asked for as soon as anything there is another.
    site.has(NODE_1, &document("login"));
    site.has(GET_GROUPS, &GROUPS.replace("#a", "#b"));
    pass(host, &plugin, 40);
    assert_eq!(told(host), [""; 0]);
}

#[test]
fn a_refusal_is_told_when_the_node_has_nothing_and_gone_with_the_node() {
    let (site, host, plugin) = mirrored_from_well_known();
    host.set_nodes(vec![compute1()]);
    pass(host, &plugin, 4);
    assert_eq!(told(host), [""; 0], "refused once: it may be new at the site");
    pass(host, &plugin, 10);
    let [told_of] = told(host).try_into().unwrap();
    assert!(
        told_of.contains("status 404") && told_of.contains("; the node gets its documents without;"),
        "{told_of}"
    );
    site.asked();
    pass(host, &plugin, 25);
    assert!(site.asked().contains(&NODE_1.to_owned()));
    host.set_nodes(vec![]);
    pass(host, &plugin, 80);
    assert_eq!(told(host), [""; 0]);
}

#[test]
fn an_instance_id_alone_is_no_override_and_what_is_mirrored_of_a_node_that_left_goes() {
    let exported = |plugin: &Instance| send(plugin, "GET", "/bootd/v1/export/cloud-init", "").body;
    let site = Site::default();
    site.has(NODE_1, &document("nid001").replace(", own", ""));
    let (site, host, plugin) = mirrored_from(site, json!({"instance": "impersonate"}));
    assert!(own(&plugin, "meta-data").body.starts_with("instance-id: i-site\n"));
    assert!(host.health().text.starts_with("2 groups and 0 node overrides, "));
    assert!(exported(&plugin).ends_with("instances: []\n"), "{}", exported(&plugin));
    site.has(NODE_1, &document("login"));
    pass(host, &plugin, 700);
    assert!(host.health().text.starts_with("2 groups and 1 node override, "));
    assert!(exported(&plugin).contains("i-site"));

    let mut other = compute1();
    other.id = "x1000c0s0b1n0".into();
    host.set_nodes(vec![other.clone()]);
    pass(host, &plugin, 1200);
    assert!(host.stored().contains_key("instance/x1000c0s0b0n0"));
    pass(host, &plugin, 700);
    assert!(!host.stored().contains_key("instance/x1000c0s0b0n0"));
}

#[test]
fn what_an_override_said_goes_when_the_site_says_so_no_more() {
    let site = Site::default();
    site.has(NODE_1, &document("login"));
    let (site, host, plugin) = mirrored_from(site, json!({"instance": "impersonate"}));
    site.has(NODE_1, &document("nid001").replace(", own", ""));
    pass(host, &plugin, 700);
    assert_eq!(
        super::api::read(&plugin, "/cloud-init/admin/instance-info/x1000c0s0b0n0"),
        json!({"id": "x1000c0s0b0n0", "instance-id": "i-site"})
    );
}

#[test]
fn documents_of_a_site_that_lost_its_defaults_say_nothing_of_overrides() {
    let site = Site::default();
    site.has(NODE_1, &document("login"));
    let (site, host, plugin) = mirrored_from(site, json!({"instance": "impersonate"}));
    let lost = "instance-id: i-new\nlocal-hostname: '0001'\nhostname: '0001'\ncluster-name: ''\ninstance_data: {v1: {vendor_data: {groups: {}}}}\n";
    site.has(NODE_1, lost);
    pass(host, &plugin, 700);
    assert!(
        told(host)[0].contains("made of other cluster defaults"),
        "{:?}",
        told(host)
    );
    assert!(
        own(&plugin, "meta-data")
            .body
            .starts_with("instance-id: i-site\nlocal-hostname: login\n")
    );
    // Held back, it is not even asked.
    site.has(GET_DEFAULTS, "{}");
    pass(host, &plugin, 40);
    site.asked();
    pass(host, &plugin, 700);
    assert!(!site.asked().contains(&NODE_1.to_owned()));
}

fn write(plugin: &Instance, method: &str, path: &str, body: &str) -> Answer {
    let request = Request {
        method: method.into(),
        path: format!("/cloud-init/admin/{path}"),
        body: body.into(),
        headers: vec![("authorization".into(), "Bearer clients".into())],
        ..Request::default()
    };
    plugin.handle(&request).unwrap()
}

#[test]
fn writes_are_the_sites_and_are_read_back_at_once() {
    let (site, host, plugin) = mirrored(json!({}));
    site.asked();
    site.says("POST /cloud-init/admin/cluster-defaults", of(201, ""));
    site.has(GET_DEFAULTS, &DEFAULTS.replace("demo", "new"));
    let bumps = host.bumps();
    assert_eq!(
        write(&plugin, "POST", "cluster-defaults", r#"{"cluster-name":"new"}"#).status,
        201
    );
    assert_eq!(
        site.asked.lock().unwrap()[0].headers,
        [("authorization".to_owned(), "Bearer clients".to_owned())]
    );
    assert_eq!(
        site.asked(),
        ["POST /cloud-init/admin/cluster-defaults", GET_DEFAULTS, GET_GROUPS]
    );
    assert!(own(&plugin, "meta-data").body.contains("cluster-name: new\n") && host.bumps() > bumps);

    site.says("PUT /cloud-init/admin/groups/a%20b", of(422, "no such luck\n"));
    let refused = write(&plugin, "PUT", "groups/a b", "{");
    assert_eq!((refused.status, refused.body.as_str()), (422, "no such luck\n"));
    assert_eq!(site.asked(), ["PUT /cloud-init/admin/groups/a%20b"]);

    site.says("DELETE /cloud-init/admin/groups/io", Err("connection refused".into()));
    let unknown = write(&plugin, "DELETE", "groups/io", "");
    assert_eq!(unknown.status, 502);
    assert_eq!(own(&plugin, "compute.yaml").body, "#a");
}

#[test]
fn what_is_deleted_through_this_box_is_gone_and_what_the_site_lost_besides_is_held_back() {
    let (site, host, plugin) = mirrored(json!({}));
    for group in ["io", "compute"] {
        site.says(&format!("DELETE /cloud-init/admin/groups/{group}"), of(200, ""));
    }
    site.has(
        GET_GROUPS,
        r##"{"compute":{"name":"compute","file":{"content":"#a","filename":""}}}"##,
    );
    assert_eq!(write(&plugin, "DELETE", "groups/io", "").status, 200);
    site.has(GET_GROUPS, "{}");
    assert_eq!(write(&plugin, "DELETE", "groups/compute", "").status, 200);
    assert_eq!(super::api::read(&plugin, "/cloud-init/admin/groups"), json!({}));
    assert_eq!(told(host), [""; 0]);

    let (site, host, plugin) = mirrored(json!({}));
    site.says("POST /cloud-init/admin/groups", of(201, ""));
    // It was started anew a moment ago, and nobody here knows yet.
    site.has(GET_DEFAULTS, "{}");
    site.has(
        GET_GROUPS,
        r#"{"new":{"name":"new","file":{"content":"n","filename":""}}}"#,
    );
    assert_eq!(write(&plugin, "POST", "groups", r#"{"name":"new"}"#).status, 201);
    pass(host, &plugin, 0);
    assert_eq!(told(host).len(), 2, "{:?}", told(host));
    assert_eq!(own(&plugin, "compute.yaml").body, "#a");
}

#[test]
fn an_override_that_is_written_through_this_box_counts_at_once() {
    const PUT_1: &str = "PUT /cloud-init/admin/instance-info/x1000c0s0b0n0";
    let (site, host, plugin) = mirrored(json!({}));
    site.says(PUT_1, of(201, ""));
    let body = r#"{"id":"x1000c0s0b0n0","instance-id":"","local-hostname":"login"}"#;
    assert_eq!(write(&plugin, "PUT", "instance-info/x1000c0s0b0n0", body).status, 201);
    assert!(own(&plugin, "meta-data").body.contains("local-hostname: login\n"));
    pass(host, &plugin, 40);
    assert!(own(&plugin, "meta-data").body.contains("local-hostname: login\n"));
    site.says("DELETE /cloud-init/admin/instance-info/x1000c0s0b0n0", of(200, ""));
    assert_eq!(write(&plugin, "DELETE", "instance-info/x1000c0s0b0n0", "").status, 200);
    assert!(own(&plugin, "meta-data").body.contains("local-hostname: nid001\n"));

    let site = Site::default();
    site.has(NODE_1, &document("nid001"));
    let (site, _, plugin) = mirrored_from(site, json!({"instance": "impersonate"}));
    site.says(PUT_1, of(201, ""));
    site.has(NODE_1, &document("as-the-site-has-it"));
    assert_eq!(write(&plugin, "PUT", "instance-info/x1000c0s0b0n0", body).status, 201);
    let body_of = own(&plugin, "meta-data").body;
    assert!(
        body_of.starts_with("instance-id: i-site\nlocal-hostname: as-the-site-has-it\n"),
        "{body_of}"
    );
    site.says(NODE_1, Err("connection reset".into()));
    assert_eq!(write(&plugin, "PUT", "instance-info/x1000c0s0b0n0", body).status, 201);
    let body_of = own(&plugin, "meta-data").body;
    assert!(
        body_of.starts_with("instance-id: i-site\nlocal-hostname: login\n"),
        "{body_of}"
    );
}

#[test]
fn an_import_is_refused_and_an_export_has_what_is_mirrored() {
    let (_, host, plugin) = mirrored(json!({}));
    let stored = host.stored();
    let refused = send(&plugin, "POST", "/bootd/v1/import/cloud-init", "cluster-name: x\n");
    assert_eq!(refused.status, 409);
    assert!(
        refused.body.contains(URL) && refused.body.contains("mode = \\\"local\\\""),
        "{}",
        refused.body
    );
    assert_eq!(host.stored(), stored);
    let exported = send(&plugin, "GET", "/bootd/v1/export/cloud-init", "").body;
    let (_, local) = start(json!({}));
    assert_eq!(
        super::api::status(&local, "POST", "/bootd/v1/import/cloud-init", &exported),
        204
    );
    for path in ["cluster-defaults", "groups"] {
        let path = format!("/cloud-init/admin/{path}");
        assert_eq!(super::api::read(&local, &path), super::api::read(&plugin, &path));
    }
}

#[test]
fn a_node_phones_home_to_this_box() {
    let (site, _, plugin) = mirrored(json!({}));
    site.asked();
    let request = Request {
        method: "POST".into(),
        path: "/cloud-init/phone-home/i-1".into(),
        node: Some(compute1()),
        ..Request::default()
    };
    assert_eq!(plugin.handle(&request).unwrap().status, 200);
    assert!(site.asked().is_empty());
}

#[test]
fn between_the_modes_nothing_is_lost_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("d.yaml");
    fs::write(&file, "cluster-name: mine\nregion: here\n").unwrap();
    let site = Site::default();
    site.has(GET_DEFAULTS, DEFAULTS);
    site.has(GET_GROUPS, GROUPS);
    let host = host_at(&site);
    let local = host.start::<CloudInit>(json!({"defaults": file})).unwrap();
    pass(host, &local, 3);
    for name in ["mine", "mine-too"] {
        assert_eq!(
            super::api::status(
                &local,
                "POST",
                "/cloud-init/admin/groups",
                &json!({"name": name}).to_string()
            ),
            201
        );
    }
    drop(local);

    // A site that never answers changes nothing.
    let stored = host.stored();
    site.says(GET_DEFAULTS, Err("connection refused".into()));
    site.says(GET_GROUPS, of(500, ""));
    let plugin = start_at(host, json!({}));
    pass(host, &plugin, 40);
    drop(plugin);
    assert_eq!(host.stored(), stored);
    site.has(GET_DEFAULTS, DEFAULTS);
    site.has(GET_GROUPS, GROUPS);

    // The site has other groups, and most of the defaults.
    let plugin = start_at(host, json!({}));
    pass(host, &plugin, 0);
    let groups = || super::api::read(&plugin, "/cloud-init/admin/groups");
    assert!(told(host)[0].contains("lost 2 of 2 groups"), "{:?}", told(host));
    assert!(groups().get("mine").is_some() && groups().get("compute").is_none());
    assert!(own(&plugin, "meta-data").body.contains("cluster-name: demo\n"));
    send(&plugin, "POST", "/bootd/v1/accept/cloud-init", "");
    assert!(groups().get("mine").is_none() && groups().get("compute").is_some());
    drop(plugin);

    // What was mirrored stays, and what the files say is new.
    let local = host.start::<CloudInit>(json!({"defaults": file})).unwrap();
    pass(host, &local, 3);
    let defaults = super::api::read(&local, "/cloud-init/admin/cluster-defaults");
    assert_eq!(
        (&defaults["cluster-name"], &defaults["region"], &defaults["short-name"]),
        (&json!("mine"), &json!("here"), &json!("nid"))
    );
    assert!(
        super::api::read(&local, "/cloud-init/admin/groups")
            .get("compute")
            .is_some()
    );
}

#[test]
fn a_key_of_the_other_mode_is_a_mistake() {
    let refused = |mode: &str, config: Value| {
        let error = FakeHost::new().start_in::<CloudInit>(mode, config).err().unwrap();
        assert!(error.is_bad_argument, "{error}");
        error.to_string()
    };
    let bad = refused(
        "upstream",
        json!({"url": URL, "defaults": "d.yaml", "instance": "all", "from": ["site"]}),
    );
    for key in ["defaults", "instance", "from"] {
        assert!(bad.contains(key), "{key}: {bad}");
    }
    assert!(refused("upstream", json!({})).contains("url"));
    assert!(refused("local", json!({"url": URL})).contains("url"));
}

#[test]
fn lists_have_tags_that_change_only_with_what_is_listed() {
    let (_, local) = start(json!({}));
    let (_, _, mirrored) = mirrored(json!({}));
    for plugin in [&local, &mirrored] {
        for path in ["/cloud-init/admin/cluster-defaults", "/cloud-init/admin/groups"] {
            let known = |tag: &str| {
                let request = Request {
                    method: "GET".into(),
                    path: path.into(),
                    headers: vec![("if-none-match".into(), tag.into())],
                    ..Request::default()
                };
                plugin.handle(&request).unwrap()
            };
            let first = known("\"other\"");
            let tag = &first.headers.iter().find(|(name, _)| name == "etag").unwrap().1;
            assert_eq!(
                (first.status, known(tag).status, known(tag).body.as_str()),
                (200, 304, "")
            );
        }
    }
    let tag = |path: &str| {
        let answer = send(&local, "GET", path, "");
        answer.headers.into_iter().find(|(name, _)| name == "etag").unwrap().1
    };
    let (defaults, groups) = ("/cloud-init/admin/cluster-defaults", "/cloud-init/admin/groups");
    let mut seen = (tag(defaults), tag(groups));
    for (method, path, body, is_new) in [
        (
            "PUT",
            "/cloud-init/admin/instance-info/x1000c0s0b0n0",
            r#"{"hostname":"a"}"#,
            (false, false),
        ),
        ("POST", defaults, r#"{"region":"a"}"#, (true, false)),
        ("POST", defaults, r#"{"region":"a"}"#, (false, false)),
        ("POST", groups, r#"{"name":"a"}"#, (false, true)),
        (
            "PUT",
            "/cloud-init/admin/groups/a",
            r#"{"name":"a","description":"d"}"#,
            (false, true),
        ),
        ("DELETE", "/cloud-init/admin/groups/a", "", (false, true)),
    ] {
        assert!(super::api::status(&local, method, path, body) < 300);
        let now = (tag(defaults), tag(groups));
        assert_eq!((now.0 != seen.0, now.1 != seen.1), is_new, "{method} {path}");
        seen = now;
    }
}

#[test]
fn no_mutation_of_what_a_site_says_empties_the_rack() {
    let site = Site::default();
    site.has(NODE_1, &document("login"));
    let (site, host, plugin) = mirrored_from(site, json!({"instance": "impersonate"}));
    let seeds = [DEFAULTS, GROUPS, &document("login")].map(|text| text.as_bytes().to_vec());
    let mut texts = Vec::new();
    bootd_sdk::fake::mutations(&seeds, 300, |text| texts.push(text.to_owned()));
    for text in texts {
        for what in [GET_DEFAULTS, GET_GROUPS, NODE_1] {
            site.has(what, &text);
        }
        pass(host, &plugin, 40);
        send(&plugin, "POST", "/cloud-init/admin/cluster-defaults", "{}");
        let groups = super::api::read(&plugin, "/cloud-init/admin/groups");
        assert!(
            groups.as_object().unwrap().contains_key("compute") || groups.as_object().unwrap().len() > 1,
            "{text}"
        );
        for document in ["meta-data", "vendor-data"] {
            let answer = own(&plugin, document);
            assert_eq!(answer.status, 200, "{text}");
            let parsed = serde_saphyr::from_str::<Value>(&answer.body);
            assert!(
                document == "vendor-data" || parsed.unwrap()["instance-id"].is_string(),
                "{text}"
            );
            assert!(!answer.body.contains("10.0.0.1"), "{text}");
        }
        site.has(GET_DEFAULTS, DEFAULTS);
        site.has(GET_GROUPS, GROUPS);
        site.has(NODE_1, &document("login"));
        pass(host, &plugin, 700);
        assert_eq!(
            super::api::read(&plugin, "/cloud-init/admin/groups")
                .as_object()
                .unwrap()
                .len(),
            2,
            "{text}"
        );
    }
}

#[test]
fn however_many_nodes_ask_at_once_few_wait_for_the_site() {
    let (site, host, plugin) = mirrored_from_well_known();
    host.set_nodes(vec![compute1()]);
    site.has(NODE_1, &document("login"));
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    host.answer_fetches(move |_| {
        tell.send(()).unwrap();
        wait.recv().unwrap();
        of(200, &document("login"))
    });
    std::thread::scope(|scope| {
        let ask = || own(&plugin, "meta-data");
        let first = scope.spawn(ask);
        told.recv().unwrap();
        let others: Vec<_> = (0..10).map(|_| scope.spawn(ask)).collect();
        // One of them has the other place.
        while host.metric("upstream_documents_without_override") < Some(9) {
            std::thread::yield_now();
        }
        for _ in 0..2 {
            release.send(()).unwrap();
        }
        assert!(first.join().unwrap().keep);
        let answers = others.into_iter().map(|other| other.join().unwrap());
        assert_eq!(answers.filter(|answer| answer.keep).count(), 1);
    });
    assert_eq!(host.metric("upstream_documents_without_override"), Some(9));
}
