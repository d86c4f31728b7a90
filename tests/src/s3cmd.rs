//! `s3cmd`, the client with which the tutorial fills and looks at buckets.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// What it said, and whether it was content.
#[derive(Debug)]
pub struct Said {
    /// Whether it ended well.
    pub good: bool,
    /// Its output, and its errors behind that.
    pub text: String,
}

/// Runs it at this host and port, with an access key id and a secret key, and nobody's configuration.
pub fn run(host: &str, keys: (&str, &str), args: &[&str]) -> Result<Said> {
    let mut command = Command::new("s3cmd");
    command.args(["--config=/dev/null", "--no-ssl", "--no-progress", "--region=us-east-1"]);
    command.args([format!("--access_key={}", keys.0), format!("--secret_key={}", keys.1)]);
    command.args([format!("--host={host}"), format!("--host-bucket={host}")]);
    let output = command.args(args).stdin(Stdio::null()).output();
    let output = output.context("install the Debian package s3cmd")?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Said {
        good: output.status.success(),
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}
