//! What boot scripts name is in the cache before a node asks for it, and an operator sees and decides what is there.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::process::Child;
use bootd_tests::{Rack, eventually_true, server};
use serde_json::Value;

#[test]
fn a_boot_parameter_that_is_set_has_its_files_fetched_with_no_client_involved() {
    in_rack(|| {
        let rack = Rack::new()?;
        let bucket = rack.path("store");
        let there = rack.images.bucket();
        let mut copy = Command::new("cp");
        ensure!(copy.arg("-rL").args([&there, &bucket]).status()?.success(), "cp");
        fs::write(bucket.join("other-kernel"), "another kernel")?;
        let store = store(&rack, &bucket)?;
        let folder = format!("dir = \"{}\"", there.display());
        let config = rack.config();
        ensure!(config.contains(&folder), "the configuration has another origin");
        rack.write(
            "bootd.toml",
            &(config.replace(&folder, "http = \"http://127.0.0.1:9009\"") + "\n[cache]\nhold_back = \"10m\"\n"),
        )?;
        let mut bootd = rack.start_bootd()?;
        let bootd_is = |words: &[&str]| said(&rack, words);

        eventually_true(TIME, "the images are here", || {
            bootd_is(&["status"]).is_ok_and(|text| text.contains("boot files: all 3 are here"))
        })?;
        let first = objects(&rack)?;
        ensure!(
            first.len() == 3 && first.iter().all(|(_, state)| state == "kept"),
            "{first:?}"
        );

        let parameters = r#"{"macs": ["52:54:00:be:ef:01"], "kernel": "http://172.16.0.254:9000/boot-images/other-kernel", "params": "quiet"}"#;
        let set = [
            "-X",
            "PUT",
            "-d",
            parameters,
            "http://127.0.0.1:8081/boot/v1/bootparameters",
        ];
        curl(&set)?;
        let other = ("/boot-images/other-kernel".to_owned(), "kept".to_owned());
        eventually_true(TIME, "the other kernel is here", || {
            objects(&rack).is_ok_and(|all| all.contains(&other))
        })?;

        eventually_true(TIME, "the rack is ready", || {
            curl(&["http://127.0.0.1:8081/bootd/v1/ready"])
                .is_ok_and(|ready| ready.contains("nodes boot without their origins"))
        })?;
        let script = || curl(&["http://127.0.0.1:8081/boot/v1/bootscript?mac=52:54:00:be:ef:01"]);
        ensure!(
            script()?.contains("http://127.0.0.1:9000/boot-images/other-kernel"),
            "{}",
            script()?
        );
        // Files that are nowhere: the node keeps its former script, and does not wait.
        curl(&set.map(|word| if word == parameters { NOWHERE } else { word }))?;
        let former = script()?;
        ensure!(former.contains("/boot-images/other-kernel"), "{former}");
        ensure!(
            said(&rack, &["explain", "--mac", "52:54:00:be:ef:01"])?.contains("/boot-images/nowhere"),
            "the boot parameters are the former ones"
        );
        curl(&set)?;
        // The store may go now; and come with nothing, for what is pinned and removed by its operator.
        drop(store);
        ensure!(curl(&["http://127.0.0.1:9000/boot-images/other-kernel"])? == "another kernel");
        ensure!(bootd_is(&["cache", "pin", "s3://boot-images/other-kernel"])?.contains("pinned"));
        ensure!(
            bootd_is(&["cache", "ls"])?
                .lines()
                .any(|line| line.contains("other-kernel") && line.contains("yes"))
        );
        let warm = bootd_is(&["cache", "warm", "/boot-images/other-kernel"])?;
        ensure!(warm.contains("/boot-images/other-kernel: 14 bytes"), "{warm}");
        ensure!(bootd_is(&["cache", "rm", "/boot-images/other-kernel"])?.contains("removed"));
        let gone = bootd_is(&["cache", "warm", "/boot-images/other-kernel"]);
        ensure!(
            gone.is_err_and(|error| error.to_string().contains("the origin cannot be reached")),
            "it is there"
        );
        // A node waits for what is not here any more.
        let held = script()?;
        ensure!(
            held.contains("1 file is being fetched") && held.contains("&held=1 "),
            "{held}"
        );
        bootd.must_run()
    });
}

/// A web server over the bucket.
fn store(rack: &Rack, bucket: &Path) -> Result<Child> {
    let dir = rack.path("nginx");
    fs::create_dir_all(&dir)?;
    let (at, root) = (dir.display(), bucket.display());
    let config = format!(
        "user root root; daemon off; master_process off; pid {at}/pid; error_log {at}/error.log warn;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log {at}/access.log; client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c;\n\
         uwsgi_temp_path {at}/d; scgi_temp_path {at}/e; server {{ listen 127.0.0.1:9009; root {root}; }} }}\n"
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = Child::command("nginx");
    command
        .arg("-p")
        .arg(&dir)
        .arg("-c")
        .arg(&file)
        .arg("-e")
        .arg(dir.join("error.log"));
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdout(Stdio::null()).stderr(File::create(dir.join("log"))?);
    Child::spawn("nginx", &mut command).context("install the Debian package nginx-light")
}

/// Paths and states of `bootd cache ls`.
fn objects(rack: &Rack) -> Result<Vec<(String, String)>> {
    let view: Value = serde_json::from_str(&said(rack, &["cache", "ls", "--json"])?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = view["objects"].as_array().context("no objects")?;
    Ok(all
        .iter()
        .map(|object| (text(&object["path"]), text(&object["state"])))
        .collect())
}

fn said(rack: &Rack, words: &[&str]) -> Result<String> {
    let config = rack.path("bootd.toml").display().to_string();
    let output = server::command(&[words, &["--config", &config]].concat())?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn curl(args: &[&str]) -> Result<String> {
    let output = Command::new("curl").args(["-sSf", "-m", "10"]).args(args).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

const NOWHERE: &str =
    r#"{"macs": ["52:54:00:be:ef:01"], "kernel": "http://172.16.0.254:9000/boot-images/nowhere", "params": "quiet"}"#;
const TIME: Duration = Duration::from_secs(60);
