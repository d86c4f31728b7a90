//! The OpenAPI documents that bootd serves, each handed to schemathesis: whatever it makes of them, no 5xx.
//!
//! It asks under a node's address and with a token, so that nothing is closed to it. It is not part of every run:
//! `tests/run --long` installs the program and names it in the variable `SCHEMATHESIS`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::ochami::commands::{self, Image};
use bootd_tests::ochami::{Answer, Line, Ochami, Request};
use bootd_tests::wire::Client;
use bootd_tests::{Bootd, Rack, SERVER, tail};
use serde_json::Value;

/// Each document, and the paths of it that may answer 5xx by contract: `<group>.yaml` is 500 for an address that is no
/// node's, and none is when all components were deleted.
const DOCUMENTS: [(&str, Option<&str>); 3] = [
    ("/hsm/v2/openapi.json", None),
    ("/boot/v1/openapi.json", None),
    (
        "/cloud-init/openapi.json",
        Some(r"^(/cloud-init)?/\{[A-Za-z_-]+\}\.yaml$"),
    ),
];

/// Seconds for each document.
const SECONDS: &str = "90";

#[test]
fn each_service_serves_an_openapi_document_that_names_what_it_serves() {
    in_rack(|| {
        let rack = Rack::new()?;
        rack.write("bootd.toml", &rack.bare_config())?;
        let mut bootd = rack.start_bootd()?;
        for (target, _) in DOCUMENTS {
            let answer = Line::open()?.ask(&Request::open(target).bytes(""))?;
            ensure!(answer.status == 200, "{target}: {answer:?}");
            let document = answer.json().with_context(|| target.to_owned())?;
            let version = document["openapi"].as_str().unwrap_or_default();
            ensure!(version.starts_with("3."), "{target}: version {version}");
            let paths = document["paths"].as_object().context("no paths")?;
            ensure!(paths.len() > 5, "{target}: {} paths", paths.len());
        }
        bootd.must_run()
    });
}

#[test]
#[ignore = "takes five minutes and needs schemathesis; its path is in the variable SCHEMATHESIS"]
fn no_request_that_schemathesis_makes_of_the_documents_is_answered_5xx() {
    in_rack(|| {
        let program = std::env::var_os("SCHEMATHESIS").context("SCHEMATHESIS=/path/to/schemathesis is not set")?;
        let rack = Rack::new()?;
        rack.write("bootd.toml", &rack.bare_config())?;
        let mut bootd = rack.start_bootd()?;
        let node = Client::plug(&rack)?;
        node.ip("addr add 172.16.0.1/24 dev cable0")?;
        let ochami = Ochami::log_in(&rack)?;
        let mut found = Vec::new();
        for (target, but) in DOCUMENTS {
            set_up(&ochami)?;
            let mut command = Command::new(&program);
            command
                .current_dir(&rack.dir)
                .env("HOME", &rack.dir)
                .args(["run", &format!("http://{SERVER}:8081{target}")])
                .args(["--header", &format!("Authorization: Bearer {}", ochami.token())])
                .args(["--checks", "not_a_server_error", "--max-time", SECONDS])
                .args([
                    "--request-timeout",
                    "20",
                    "--seed",
                    "1",
                    "--warnings",
                    "off",
                    "--no-color",
                ])
                // What the documents look like to it is not the question.
                .args(["--suppress-health-check", "all"]);
            if let Some(paths) = but {
                command.args(["--exclude-path-regex", paths]);
            }
            let output = node.at(|| command.output().context("start schemathesis"))?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(
                said.contains("not_a_server_error") || output.status.success(),
                "{target}: {said}"
            );
            // What it says when it found something, and not how it got there.
            if !output.status.success() {
                let from = said.find("FAILURES").or(said.find("ERRORS")).unwrap_or(0);
                found.push(format!("{target}: {}\n{}", output.status, &said[from..]));
            }
            goes_on(&mut bootd).with_context(|| format!("after {target}"))?;
        }
        ensure!(found.is_empty(), "{}", found.join("\n"));
        Ok(())
    });
}

/// The tutorial's data, whatever was made of it before.
fn set_up(ochami: &Ochami) -> Result<()> {
    for command in [
        commands::discover_overwrite(),
        commands::boot_params("set", Image::Base),
        commands::defaults_set(),
        commands::ci_group_set(),
    ] {
        let refused = |answer: &&Answer| answer.status >= 500;
        let answers = ochami.run(&command)?;
        ensure!(!answers.iter().any(|one| refused(&one)), "{answers:?}");
    }
    Ok(())
}

/// bootd runs, all plugins do, and none of them panicked.
fn goes_on(bootd: &mut Bootd) -> Result<()> {
    bootd.must_run()?;
    for name in ["smd", "bss", "cloud-init"] {
        let plugin: Value = bootd.plugin(name)?;
        ensure!(plugin["state"] == "running", "{plugin:#}");
    }
    let log = fs::read_to_string(bootd.log())?;
    ensure!(
        !log.contains("panicked"),
        "a plugin panicked:\n{}",
        tail(&bootd.log(), 40)
    );
    Ok(())
}
