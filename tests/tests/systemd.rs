//! What systemd and bootd say to each other: that it is ready, that its threads move, and the sockets that outlive it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::process::Child;
use bootd_tests::server::{READY_LIMIT, binary};
use bootd_tests::{Rack, eventually, eventually_true, tail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[test]
fn the_watchdog_is_fed_until_a_packet_thread_hangs_and_again_when_it_goes_on() {
    in_rack(|| {
        let rack = Rack::new()?;
        let systemd = Systemd::new(&rack)?;
        let bootd = systemd.start(&rack, None)?;
        systemd.hear("WATCHDOG=1", LIMIT)?;
        for (thread, waits_in) in [("dhcp-", "recvmmsg"), ("tftp", "epoll_wait,epoll_pwait,epoll_pwait2")] {
            let (id, name) = thread_of(bootd.id(), thread)?;
            // It is held where it waits for packets; nothing else is touched.
            let mut hold = Child::command("strace");
            hold.args(["-qq", "-p", &id, "-o", "/dev/null", "-e", &format!("trace={waits_in}")])
                .args(["-e", &format!("inject={waits_in}:delay_enter=60s")]);
            let hold = Child::spawn("strace", &mut hold)?;
            let log = rack.path("systemd.log");
            eventually_true(LIMIT * 2, "the log names the thread that hangs", || {
                tail(&log, 20)
                    .lines()
                    .any(|line| line.contains("stands still") && line.contains(&name))
            })?;
            systemd.forget();
            ensure!(
                systemd.hear("WATCHDOG=1", LIMIT).is_err(),
                "the watchdog is fed although {name} hangs"
            );
            drop(hold);
            systemd
                .hear("WATCHDOG=1", LIMIT * 2)
                .with_context(|| format!("{name} goes on"))?;
        }
        Ok(())
    });
}

#[test]
fn a_restart_refuses_no_connection_when_its_socket_is_handed_over() {
    in_rack(|| {
        let rack = Rack::new()?;
        let systemd = Systemd::new(&rack)?;
        let socket = TcpListener::bind("0.0.0.0:8081")?;
        let mut bootd = systemd.start(&rack, Some(&socket))?;
        let answer = ask()?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "the first one says {answer}");
        let log = tail(&rack.path("systemd.log"), 50);
        ensure!(log.contains("its socket was handed over"), "{log}");
        let id = i32::try_from(bootd.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("process id")?;
        kill_process(id, Signal::TERM)?;
        let ended = eventually(READY_LIMIT, "bootd ends", || bootd.ended())?;
        ensure!(ended.success(), "{ended}");
        // Nobody is there now, and somebody asks.
        let answer = std::thread::spawn(ask);
        let _bootd = systemd.start(&rack, Some(&socket))?;
        let Ok(answer) = answer.join() else {
            bail!("who asked panicked")
        };
        let answer = answer?;
        ensure!(
            answer.starts_with("HTTP/1.1 200"),
            "the second one says {answer} to who asked before it was there"
        );
        Ok(())
    });
}

#[test]
fn an_upgrade_says_who_the_main_process_is_which_is_ready_and_feeds_the_watchdog() {
    in_rack(|| {
        let rack = Rack::new()?;
        let systemd = Systemd::new(&rack)?;
        let socket = TcpListener::bind("0.0.0.0:8081")?;
        let mut bootd = systemd.start(&rack, Some(&socket))?;
        drop(socket);
        let mut upgrade = Command::new(binary()?);
        upgrade
            .args(["upgrade", "--json", "--config"])
            .arg(rack.path("bootd.toml"));
        let output = upgrade.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{said}\n{}",
            tail(&rack.path("systemd.log"), 30)
        );
        let upgraded: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(upgraded["was"] == bootd.id(), "{upgraded}");
        let new = upgraded["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw);
        let new = Ends(new.context("process id")?);
        systemd.hear(&format!("MAINPID={}", upgraded["pid"]), LIMIT)?;
        systemd.hear("READY=1", LIMIT)?;
        let ended = eventually(READY_LIMIT, "the old one ends", || bootd.ended())?;
        ensure!(ended.success(), "{ended}");
        systemd.forget();
        systemd.hear("WATCHDOG=1", LIMIT)?;
        ensure!(
            ask()?.starts_with("HTTP/1.1 200"),
            "the new one answers at the socket of systemd"
        );
        drop(new);
        Ok(())
    });
}

/// A process that this one did not start, and that ends with it.
struct Ends(Pid);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

fn ask() -> Result<String> {
    let mut stream = TcpStream::connect("172.16.0.254:8081").context("connect")?;
    stream.set_read_timeout(Some(READY_LIMIT))?;
    stream
        .write_all(b"GET /boot/v1/bootscript?mac=52:54:00:be:ef:01 HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Systemd's side of its socket.
struct Systemd(UnixDatagram);

/// WATCHDOG_USEC below is 6 s: looks are 2 s apart.
const LIMIT: Duration = Duration::from_secs(6);

impl Systemd {
    fn new(rack: &Rack) -> Result<Self> {
        Ok(Self(UnixDatagram::bind(rack.path("notify"))?))
    }

    /// Starts bootd as systemd does, with this socket handed over, and waits until it is ready.
    fn start(&self, rack: &Rack, socket: Option<&TcpListener>) -> Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(rack.path("systemd.log"))?;
        let mut command = Child::command("sh");
        let descriptors = if socket.is_some() {
            "LISTEN_PID=$$ LISTEN_FDS=1"
        } else {
            ""
        };
        command
            .args([
                "-c",
                &format!("{descriptors} WATCHDOG_PID=$$ exec \"$0\" serve --config \"$1\" 3<&0 </dev/null"),
            ])
            .arg(binary()?)
            .arg(rack.path("bootd.toml"))
            .env("NOTIFY_SOCKET", rack.path("notify"))
            .env("WATCHDOG_USEC", LIMIT.as_micros().to_string())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(socket) = socket {
            command.stdin(OwnedFd::from(socket.try_clone()?));
        }
        let child = Child::spawn("bootd", &mut command)?;
        self.hear("READY=1", READY_LIMIT)
            .with_context(|| tail(&rack.path("systemd.log"), 30))?;
        Ok(child)
    }

    /// Waits for these words.
    fn hear(&self, words: &str, within: Duration) -> Result<()> {
        let end = Instant::now() + within;
        let mut buffer = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "bootd did not say {words} within {within:?}");
            self.0.set_read_timeout(Some(left))?;
            if let Ok(length) = self.0.recv(&mut buffer)
                && String::from_utf8_lossy(&buffer[..length])
                    .lines()
                    .any(|line| line == words)
            {
                return Ok(());
            }
        }
    }

    /// What was said until now.
    fn forget(&self) {
        let _ = self.0.set_read_timeout(Some(Duration::from_millis(1)));
        while self.0.recv(&mut [0; 4096]).is_ok() {}
    }
}

/// The first thread whose name begins so.
fn thread_of(process: u32, name: &str) -> Result<(String, String)> {
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let thread = thread?;
        let named = std::fs::read_to_string(thread.path().join("comm"))?;
        let named = named.trim();
        // The one that follows interfaces waits for no packets.
        if named.starts_with(name) && !named.starts_with("dhcp-interfaces") {
            return Ok((thread.file_name().to_string_lossy().into_owned(), named.into()));
        }
    }
    bail!("bootd has no thread {name}")
}
