//! What bootd counts, as Prometheus reads it: `promtool` finds nothing to say about it, each number is explained in `conf/metrics.md`, the dashboard
//! and the alert rules name none that does not exist; and `/livez` and `/readyz` tell who watches how bootd is.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::process::run;
use bootd_tests::wire::Client;
use bootd_tests::{Rack, eventually_true};

/// A plugin that mirrors a site which is not there, an origin that is not there, and a listener for operators.
const MORE: &str = r#"
[[http.listener]]
address = "0.0.0.0:8082"
serve = ["admin"]
auth = "none"
[[http.listener]]
address = "0.0.0.0:8083"
serve = ["admin"]
[[origin]]
bucket = "far"
http = "http://127.0.0.1:9/"
"#;

#[test]
fn promtool_accepts_all_of_it_and_each_number_is_explained() {
    in_rack(|| {
        let rack = Rack::new()?;
        let config = rack.config().replace(
            "name = \"cloud-init\"\n",
            "name = \"cloud-init\"\nmode = \"upstream\"\nconfig.url = \"http://127.0.0.1:9\"\n",
        );
        let config = config
            .lines()
            .filter(|line| !line.starts_with("config.defaults") && !line.starts_with("config.groups"));
        rack.write("bootd.toml", &(config.collect::<Vec<_>>().join("\n") + MORE))?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        socket.lease([0x52, 0x54, 0, 0xbe, 0xef, 1], PATIENCE)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        client.get("/boot/v1/bootscript?mac=52:54:00:be:ef:01")?;
        // Something is wrong with its boot.
        client.get("/boot/v1/bootscript?mac=${net9/mac}")?;
        let url = |port: u16, path: &str| format!("http://172.16.0.254:{port}{path}");
        let get = |words: &[&str]| -> Result<String> {
            client.at(|| run("curl", &[&["-s", "--max-time", "20"], words].concat()))
        };
        get(&[&url(9000, "/far/object")])?;

        // What is told of boots is counted a moment later.
        let mut text = String::new();
        let explained = families(&std::fs::read_to_string(conf("metrics.md"))?, |line| {
            line.strip_prefix("| `bootd_")?.split_once("` | ").filter(|(_, rest)| {
                ["counter", "gauge", "histogram"]
                    .iter()
                    .any(|kind| rest.starts_with(kind))
            })
        });
        let _ = eventually_true(PATIENCE, "all numbers are there", || {
            text = get(&[&url(8082, "/metrics")]).unwrap_or_default();
            shown(&text) == explained
        });
        let shown = shown(&text);
        let (unexplained, absent): (Vec<_>, Vec<_>) = (
            shown.difference(&explained).collect(),
            explained.difference(&shown).collect(),
        );
        ensure!(
            unexplained.is_empty() && absent.is_empty(),
            "not in conf/metrics.md: {unexplained:?}; there, but not in what bootd shows: {absent:?}\n{text}"
        );
        promtool(&["check", "metrics"], &text)?;
        ensure!(
            text.contains("bootd_boot_diagnoses_total{diagnosis=\"script-refused\"} 1"),
            "{text}"
        );
        ensure!(
            text.contains("bootd_boots{state=\"stuck\",stage=\"script\"} 1"),
            "{text}"
        );
        ensure!(
            text.contains("bootd_dhcp_answer_duration_seconds_count{part=\"dhcp4\"} 2"),
            "{text}"
        );
        ensure!(
            text.contains("bootd_http_request_duration_seconds_count{listener=\"boot\",class=\"script\"} 2"),
            "{text}"
        );

        // The same for who knows OpenMetrics, and over the socket.
        let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        let open = get(&["-i", "-H", accept, &url(8082, "/metrics")])?;
        ensure!(
            open.contains("content-type: application/openmetrics-text; version=1.0.0"),
            "{open}"
        );
        ensure!(
            open.contains("# TYPE bootd_done counter\n") && open.ends_with("# EOF\n"),
            "{open}"
        );
        let plain = bootd.metrics()?;
        ensure!(plain.contains("content-type: text/plain; version=0.0.4"), "{plain}");

        // cloud-init's site is not there, but the plugin is in service.
        for words in [["-i", &url(8083, "/livez")], ["-i", &url(8083, "/readyz")]] {
            let said = get(&words)?;
            ensure!(
                said.starts_with("HTTP/1.1 200 ") && said.ends_with("\r\n\r\nok\n"),
                "{said}"
            );
        }
        let closed = get(&["-i", &url(8083, "/metrics")])?;
        ensure!(closed.starts_with("HTTP/1.1 401 "), "{closed}");
        bootd.must_run()
    });
}

#[test]
fn who_lacks_a_plugin_is_alive_and_not_ready_and_says_why() {
    in_rack(|| {
        let rack = Rack::new()?;
        let config = rack.config() + "\n[[plugin]]\nname = \"lost\"\nfile = \"/nonexistent.so\"\n";
        rack.write("bootd.toml", &config)?;
        let mut bootd = rack.start_bootd()?;
        let socket = rack.path("admin.sock").display().to_string();
        let get = |path: &str| {
            run(
                "curl",
                &["-si", "--unix-socket", &socket, &format!("http://bootd{path}")],
            )
        };
        let live = get("/livez")?;
        ensure!(live.starts_with("HTTP/1.1 200 "), "{live}");
        let ready = get("/readyz")?;
        ensure!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
        let (_, reasons) = ready.split_once("\r\n\r\n").context("no body")?;
        ensure!(
            reasons.lines().count() == 1 && reasons.starts_with("plugin lost is out of service: "),
            "{reasons}"
        );
        bootd.must_run()
    });
}

#[test]
fn the_dashboard_and_the_alert_rules_name_only_what_is_there() -> Result<()> {
    let explained = families(&std::fs::read_to_string(conf("metrics.md"))?, |line| {
        line.strip_prefix("| `bootd_")?.split_once("` | ")
    });
    for file in ["grafana-dashboard.json", "alerts.yml"] {
        let text = std::fs::read_to_string(conf(file))?;
        let mut named = BTreeSet::new();
        for part in text.split("bootd_").skip(1) {
            let name: String = part
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
                .collect();
            let known = |suffix: &str| name.strip_suffix(suffix).is_some_and(|name| explained.contains(name));
            ensure!(
                explained.contains(&name) || ["_bucket", "_sum", "_count"].into_iter().any(known),
                "{file}: there is no bootd_{name}"
            );
            named.insert(name);
        }
        ensure!(named.len() > 10, "{file} names {named:?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(conf("grafana-dashboard.json"))?)?;
    ensure!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 20));
    let rules = conf("alerts.yml").display().to_string();
    promtool(&["check", "rules", &rules], "").map(drop)
}

/// The names of families in a text, without `bootd_`.
fn families<'a>(text: &'a str, name: impl Fn(&'a str) -> Option<(&'a str, &'a str)>) -> BTreeSet<String> {
    text.lines().filter_map(|line| Some(name(line)?.0.to_owned())).collect()
}

fn shown(text: &str) -> BTreeSet<String> {
    families(text, |line| line.strip_prefix("# TYPE bootd_")?.split_once(' '))
}

/// Runs promtool, which must have nothing to say but that all is well.
fn promtool(args: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(find_promtool())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool is missing; tests/install fetches it")?;
    child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let is_silent = args[1] != "metrics" || said.is_empty();
    ensure!(
        output.status.success() && is_silent,
        "promtool: {} {said}",
        output.status
    );
    Ok(said)
}

/// The one of `tests/install`, beside the tests' programs, or the system's.
fn find_promtool() -> PathBuf {
    let me = std::env::current_exe().unwrap_or_default();
    let mut beside = me
        .ancestors()
        .map(|folder| folder.join("rack/prometheus/usr/bin/promtool"));
    beside.find(|path| path.exists()).unwrap_or_else(|| "promtool".into())
}

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf").join(name)
}

const PATIENCE: Duration = Duration::from_secs(30);
