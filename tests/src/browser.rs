//! A browser without a window: Chromium, driven through its DevTools protocol over a pair of pipes.
//!
//! One page each. What the page complains of, errors of scripts and refusals of its policy, is gathered in [`Browser::complaints`]. Keys and the
//! pointer go the way of real ones; waiting is polling with a bound. The browser and its profile end with it, and it loads nothing from elsewhere:
//! in a rack there is no elsewhere.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::eventually_true;
use crate::process::Child;

/// A running browser with one page.
pub struct Browser {
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    next: u64,
    complaints: Vec<String>,
    _child: Child,
}

/// Light or dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `prefers-color-scheme: light`
    Light,
    /// `prefers-color-scheme: dark`
    Dark,
}

impl Browser {
    /// Starts one whose files are in this folder.
    pub fn start(dir: &Path) -> Result<Self> {
        // The protocol's pipes are descriptors 3 and 4. Inside the rack's namespace its own sandbox cannot be made.
        let mut command = Child::command("sh");
        command
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>&2", "chromium"])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", dir.join("browser").display()))
            .arg("about:blank")
            .env("HOME", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.join("browser.log"))?);
        let mut child = Child::spawn("chromium", &mut command)?;
        let commands = child.streams().stdin.take().context("the browser's pipe")?;
        let answers = child.streams().stdout.take().context("the browser's pipe")?;
        let (sender, messages) = channel();
        thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).unwrap_or_default();
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Self {
            commands,
            messages,
            session: None,
            next: 0,
            complaints: Vec::new(),
            _child: child,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach)?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        browser.window(1280, 900)?;
        Ok(browser)
    }

    /// Goes to a page.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let gone = self.call("Page.navigate", json!({ "url": url }))?;
        ensure!(gone["errorText"].is_null(), "{url}: {gone}");
        Ok(())
    }

    /// How large the page is, in pixels of CSS.
    pub fn window(&mut self, width: u32, height: u32) -> Result<()> {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", size).map(drop)
    }

    /// Whether its user likes it light or dark.
    pub fn scheme(&mut self, scheme: Scheme) -> Result<()> {
        let value = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.call("Emulation.setEmulatedMedia", features).map(drop)
    }

    /// The value of an expression in the page; of a promise, when it is kept.
    pub fn value(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", asked)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("{expression}: {thrown}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression is true. The error has what is on the page.
    pub fn wait(&mut self, within: Duration, expression: &str) -> Result<()> {
        let waited = eventually_true(within, expression, || {
            matches!(self.value(expression), Ok(Value::Bool(true)))
        });
        waited.with_context(|| {
            let text = self.value("document.body.innerText").unwrap_or_default();
            format!(
                "--- the page ---\n{}\n{:?}",
                text.as_str().unwrap_or_default(),
                self.complaints
            )
        })
    }

    /// Presses a key and lets it go: a character, or a name such as `Enter`.
    pub fn key(&mut self, key: &str) -> Result<()> {
        let (code, text) = match key {
            "Enter" => (13, Some("\r")),
            "Tab" => (9, None),
            "Escape" => (27, None),
            "End" => (35, None),
            "Home" => (36, None),
            "ArrowLeft" => (37, None),
            "ArrowUp" => (38, None),
            "ArrowRight" => (39, None),
            "ArrowDown" => (40, None),
            text => (0, Some(text)),
        };
        let mut event = json!({"type": "keyDown", "key": key, "windowsVirtualKeyCode": code});
        if let Some(text) = text {
            event["text"] = text.into();
        }
        self.call("Input.dispatchKeyEvent", event)?;
        let up = json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code});
        self.call("Input.dispatchKeyEvent", up).map(drop)
    }

    /// Types a text, key by key.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        text.chars().try_for_each(|letter| self.key(&letter.to_string()))
    }

    /// What is on the screen, as a PNG. It is also left in the folder that `BOOTD_SCREENSHOTS` names, under this name.
    pub fn screenshot(&mut self, name: &str) -> Result<Vec<u8>> {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}))?;
        let png = BASE64_STANDARD.decode(answer["data"].as_str().unwrap_or_default())?;
        if let Some(dir) = std::env::var_os("BOOTD_SCREENSHOTS") {
            std::fs::write(Path::new(&dir).join(format!("{name}.png")), &png)?;
        }
        Ok(png)
    }

    /// The colour of a pixel of a screenshot, as red, green and blue.
    pub fn pixel(&mut self, png: &[u8], x: f64, y: f64) -> Result<[u8; 3]> {
        let data = BASE64_STANDARD.encode(png);
        let colour = self.value(&format!(
            "(async () => {{
                const image = new Image();
                image.src = 'data:image/png;base64,{data}';
                await image.decode();
                const pen = new OffscreenCanvas(image.width, image.height).getContext('2d');
                pen.drawImage(image, 0, 0);
                return [...pen.getImageData({x}, {y}, 1, 1).data];
            }})()"
        ))?;
        let part = |at: usize| colour[at].as_u64().and_then(|part| u8::try_from(part).ok());
        match (part(0), part(1), part(2)) {
            (Some(red), Some(green), Some(blue)) => Ok([red, green, blue]),
            _ => bail!("no pixel: {colour}"),
        }
    }

    /// Errors of scripts and refusals of the page's policy so far.
    pub fn complaints(&mut self) -> Result<&[String]> {
        // What was said before this answer is here with it.
        self.value("0")?;
        Ok(&self.complaints)
    }

    fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.commands.write_all(&bytes).context("write to the browser")?;
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let said = self.messages.recv_timeout(left);
            let mut said = said.with_context(|| format!("the browser does not answer {method}; see browser.log"))?;
            if said["id"] == self.next {
                ensure!(said.get("error").is_none(), "{method}: {}", said["error"]);
                return Ok(said["result"].take());
            }
            match said["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.complaints.push(said["params"]["exceptionDetails"].to_string()),
                Some("Log.entryAdded") if said["params"]["entry"]["level"] == "error" => {
                    self.complaints.push(said["params"]["entry"].to_string());
                }
                _ => {}
            }
        }
    }
}

/// For an answer of the browser, whose machine may be busy with others.
const PATIENCE: Duration = Duration::from_secs(60);
