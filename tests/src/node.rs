//! A node: a QEMU machine with UEFI firmware, an empty disk bay, one network interface and a serial console.
//!
//! It boots what the network gives it and nothing else: under UEFI the interface carries no option ROM, so the firmware's own PXE
//! asks first ([`Firmware`] has the other ways). The console goes to `console<N>.log` and line by line into the journal;
//! `console<N>.sock` takes input. The machine ends with the [`Node`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::journal::{Event, Journal};
use crate::process::Child;
use crate::timeline::{Step, Timeline};
use crate::{Escapes, eventually, tail};

/// What a machine begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// UEFI, which boots by PXE.
    Uefi,
    /// UEFI, which boots by HTTP before anything else.
    UefiByHttp,
    /// UEFI, which boots by PXE over IPv6 before anything else.
    Uefi6,
    /// UEFI, which boots by HTTP over IPv6 before anything else, where its build can.
    UefiByHttp6,
    /// A BIOS with QEMU's own iPXE in the interface's ROM: the second stage at once.
    Bios,
}

/// A running machine.
pub struct Node {
    /// Its number; the last byte of its MAC.
    pub number: u8,
    /// When it was switched on.
    pub since: Instant,
    /// Where its console's output goes.
    pub console: PathBuf,
    from: usize,
    keyboard: Option<UnixStream>,
    child: Child,
    journal: Journal,
    stop: Arc<AtomicBool>,
}

impl Node {
    /// Switches a machine with UEFI on whose interface is the tap `tap`.
    pub fn power_on(number: u8, tap: &str, dir: &Path, journal: &Journal) -> Result<Self> {
        Self::power_on_with(Firmware::Uefi, number, tap, dir, journal)
    }

    /// [`Node::power_on`] with this firmware.
    pub fn power_on_with(firmware: Firmware, number: u8, tap: &str, dir: &Path, journal: &Journal) -> Result<Self> {
        let console = dir.join(format!("console{number}.log"));
        File::create(&console).with_context(|| format!("make {}", console.display()))?;
        let said = dir.join(format!("qemu{number}.log"));

        let mut command = Child::command("qemu-system-x86_64");
        command
            .current_dir(dir)
            .args(["-machine", &format!("q35,accel={}", accelerator(dir)?)])
            .args([
                "-m",
                "1024",
                "-smp",
                "1",
                "-nodefaults",
                "-display",
                "none",
                "-monitor",
                "none",
            ])
            .args(firmware_args(firmware, number, dir)?)
            .args(["-netdev", &format!("tap,id=n0,ifname={tap},script=no,downscript=no")])
            .args(["-device", "virtio-rng-pci"])
            .arg("-chardev")
            .arg(format!(
                "socket,id=s0,path=console{number}.sock,server=on,wait=off,logfile=console{number}.log"
            ))
            .args(["-serial", "chardev:s0"])
            .stdout(Stdio::null())
            .stderr(File::create(&said).with_context(|| format!("make {}", said.display()))?);
        let from = journal.len();
        let since = Instant::now();
        let child = Child::spawn("qemu-system-x86_64", &mut command)?;
        let stop = Arc::new(AtomicBool::new(false));
        let reader = ConsoleReader {
            node: number,
            file: console.clone(),
            journal: journal.clone(),
            stop: Arc::clone(&stop),
        };
        thread::spawn(move || reader.run());
        Ok(Self {
            number,
            since,
            console,
            from,
            keyboard: None,
            child,
            journal: journal.clone(),
            stop,
        })
    }

    /// Its MAC.
    pub fn mac(&self) -> String {
        mac(self.number)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The place in the journal at which it was switched on.
    pub fn from(&self) -> usize {
        self.from
    }

    /// The steps of its boot so far.
    pub fn timeline(&self) -> Timeline {
        Timeline::of(&self.journal, self)
    }

    /// Waits for a step of the boot; the limit counts from power-on. The error has the end of the console.
    pub fn wait(&mut self, step: Step, within: Duration) -> Result<Timeline> {
        self.watch(step, within, |_, _| {})
    }

    /// [`Node::wait`] that tells each step as it comes.
    pub fn watch(&mut self, step: Step, within: Duration, mut tell: impl FnMut(Step, Duration)) -> Result<Timeline> {
        let mut told = BTreeMap::new();
        let qemu = self.console.with_file_name(format!("qemu{}.log", self.number));
        let left = within.saturating_sub(self.since.elapsed());
        let result = eventually(left, &format!("node {}: {}", self.number, step.words()), || {
            let timeline = self.timeline();
            for (step, at) in timeline.steps() {
                if told.insert(step, at).is_none() {
                    tell(step, at);
                }
            }
            if timeline.at(step).is_some() {
                return Some(Ok(timeline));
            }
            self.failed().map(|why| Err(anyhow::anyhow!(why)))
        });
        result.and_then(|inner| inner).with_context(|| {
            format!(
                "node {} did not come to: {}\n--- end of its console ---\n{}\n--- QEMU ---\n{}\n--- bootd ---\n{}",
                self.number,
                step.words(),
                tail(&self.console, 40),
                tail(&qemu, 10),
                tail(&self.console.with_file_name("bootd.log"), 40)
            )
        })
    }

    /// Why it will not boot any more, when that is certain.
    pub fn failed(&mut self) -> Option<String> {
        if let Some(status) = self.child.ended() {
            return Some(format!("QEMU ended: {status}"));
        }
        self.journal.console(self.from, self.number, "bootd-demo: failed:")
    }

    /// Types at the console. The keyboard stays plugged in until [`Node::let_go`]: there is one at a time.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        let keyboard = match &mut self.keyboard {
            Some(keyboard) => keyboard,
            None => {
                let socket = self.console.with_file_name(format!("console{}.sock", self.number));
                let stream = UnixStream::connect(&socket).with_context(|| format!("connect {}", socket.display()))?;
                self.keyboard.insert(stream)
            }
        };
        keyboard.write_all(text.as_bytes()).context("write to the console")
    }

    /// Leaves the keyboard to somebody else.
    pub fn let_go(&mut self) {
        self.keyboard = None;
    }

    /// Waits for a text on the console.
    pub fn wait_console(&self, text: &str, within: Duration) -> Result<String> {
        eventually(
            within,
            &format!("node {}: \"{text}\" on the console", self.number),
            || self.journal.console(self.from, self.number, text),
        )
        .with_context(|| format!("--- end of the console ---\n{}", tail(&self.console, 40)))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The MAC of node `number`.
pub fn mac(number: u8) -> String {
    format!("52:54:00:be:ef:{number:02x}")
}

/// Follows the console's file.
struct ConsoleReader {
    node: u8,
    file: PathBuf,
    journal: Journal,
    stop: Arc<AtomicBool>,
}

impl ConsoleReader {
    fn run(self) {
        let Ok(mut file) = File::open(&self.file) else {
            return;
        };
        let mut line = Vec::new();
        let mut chunk = [0; 4096];
        let mut prompt_told = false;
        let mut escapes = Escapes::default();
        while !self.stop.load(Ordering::Relaxed) {
            match file.read(&mut chunk) {
                Ok(0) | Err(_) => thread::sleep(Duration::from_millis(20)),
                Ok(n) => {
                    for &byte in chunk[..n].iter().filter(|byte| escapes.is_text(**byte)) {
                        if byte == b'\n' || byte == b'\r' {
                            if !line.is_empty() && !prompt_told {
                                self.tell(&line);
                            }
                            line.clear();
                            prompt_told = false;
                        } else {
                            line.push(byte);
                        }
                    }
                    // Prompts do not end in a line feed.
                    if [&b"login: "[..], b"assword: ", b"$ ", b"# "]
                        .iter()
                        .any(|p| line.ends_with(p))
                    {
                        self.tell(&line);
                        prompt_told = true;
                    }
                }
            }
        }
    }

    fn tell(&self, line: &[u8]) {
        self.journal.write(Event::Console {
            node: self.node,
            line: String::from_utf8_lossy(line).into_owned(),
        });
    }
}

/// The firmware and the interface that it boots from.
fn firmware_args(firmware: Firmware, number: u8, dir: &Path) -> Result<Vec<String>> {
    let interface = |more: &str| format!("virtio-net-pci,netdev=n0,mac={}{more}", mac(number));
    if firmware == Firmware::Bios {
        return Ok(vec!["-boot".into(), "n".into(), "-device".into(), interface("")]);
    }
    let (code, template) = uefi()?;
    let vars = dir.join(format!("vars{number}.fd"));
    fs::copy(template, &vars).with_context(|| format!("copy {template} to {}", vars.display()))?;
    let mut args = vec![
        "-drive".into(),
        format!("if=pflash,format=raw,unit=0,readonly=on,file={code}"),
        "-drive".into(),
        format!("if=pflash,format=raw,unit=1,file=vars{number}.fd"),
        "-device".into(),
        interface(",romfile="),
    ];
    // Without its PXE, OVMF comes to HTTP at once; without IPv4, to IPv6.
    let off: &[&str] = match firmware {
        Firmware::UefiByHttp | Firmware::Uefi6 => &["IPv4PXESupport"],
        Firmware::UefiByHttp6 => &["IPv4PXESupport", "IPv6PXESupport"],
        Firmware::Uefi | Firmware::Bios => &[],
    };
    for name in off {
        args.push("-fw_cfg".into());
        args.push(format!("name=opt/org.tianocore/{name},string=n"));
    }
    Ok(args)
}

/// The code of a UEFI firmware and the template of its variables.
fn uefi() -> Result<(&'static str, &'static str)> {
    const PAIRS: [(&str, &str); 2] = [
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ];
    let found = PAIRS
        .into_iter()
        .find(|(code, vars)| Path::new(code).exists() && Path::new(vars).exists());
    match found {
        Some(pair) => Ok(pair),
        None => bail!("no UEFI firmware: install the Debian package ovmf"),
    }
}

/// How QEMU runs the machine's processor: by the host's own virtualisation where that works, else emulated.
///
/// A `/dev/kvm` that opens may still fail at the first instruction of a firmware (nested and paravirtual hosts), so it
/// is tried: with a firmware, until that says something.
fn accelerator(dir: &Path) -> Result<&'static str> {
    static CHOICE: OnceLock<&str> = OnceLock::new();
    if let Some(choice) = CHOICE.get() {
        return Ok(choice);
    }
    let wanted = std::env::var("BOOTD_RACK_ACCEL").unwrap_or_default();
    let kvm = match wanted.as_str() {
        "kvm" => true,
        "tcg" => false,
        _ => File::options().read(true).write(true).open("/dev/kvm").is_ok() && kvm_works(dir)?,
    };
    Ok(CHOICE.get_or_init(|| if kvm { "kvm" } else { "tcg" }))
}

fn kvm_works(dir: &Path) -> Result<bool> {
    let (code, _) = uefi()?;
    let said = dir.join("kvm-probe.log");
    let mut command = Child::command("qemu-system-x86_64");
    command
        .current_dir(dir)
        .args([
            "-machine",
            "q35,accel=kvm",
            "-m",
            "128",
            "-nodefaults",
            "-display",
            "none",
            "-monitor",
            "none",
        ])
        .args([
            "-drive",
            &format!("if=pflash,format=raw,unit=0,readonly=on,file={code}"),
        ])
        .args(["-serial", "file:kvm-probe.serial"])
        .stdout(Stdio::null())
        .stderr(File::create(&said).with_context(|| format!("make {}", said.display()))?);
    let mut child = Child::spawn("qemu-system-x86_64", &mut command)?;
    let works = eventually(Duration::from_secs(8), "a word from the firmware", || {
        let failed = child.ended().is_some() || tail(&said, 50).contains("KVM internal error");
        let spoke = fs::metadata(dir.join("kvm-probe.serial")).is_ok_and(|meta| meta.len() > 0);
        (failed || spoke).then_some(!failed)
    });
    Ok(works.unwrap_or(false))
}
