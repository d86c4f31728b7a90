//! The boot board in a browser: a node that boots moves on it, ten thousand move smoothly, and it can be used without a mouse and read by anyone.
//!
//! With `BOOTD_SCREENSHOTS=FOLDER` what the browser sees is left there.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bootd_tests::browser::Scheme;
use bootd_tests::namespace::in_rack;
use bootd_tests::network::ip;
use bootd_tests::wire::{Client, DISCOVER, REQUEST, header, xid};
use bootd_tests::{BOOT_LIMIT, BOOT_STAGES, Bootd, Browser, Rack, SERVER, Step, eventually};
use serde_json::Value;

#[test]
fn a_node_that_boots_moves_over_the_board_and_its_timeline_is_a_picture() {
    in_rack(|| {
        let rack = rack("none")?;
        let mut bootd = rack.start_bootd()?;
        let mut browser = Browser::start(&rack.dir)?;
        browser.open(BOARD)?;
        browser.wait(TIME, &is_figure("unseen", 5))?;
        browser.value(&format!(
            "window.seen = [];
             document.addEventListener('board-painted', (event) => {{
                 for (const {{ who, summary }} of event.detail) if (who === '{NODE}') seen.push(`${{summary.state}} ${{summary.stage}}`);
             }})"
        ))?;
        let before = cell(&mut browser, "board-before")?;

        let mut node = rack.power_on(1)?;
        node.wait(Step::Login, BOOT_LIMIT)?;
        browser.wait(TIME, &is_figure("booted", 1))?;
        // Its configuration asks for no phone-home, so it is booted before; it phones home all the same.
        browser.wait(TIME, "window.seen.at(-1) === 'booted phone-home'")?;
        let seen = browser.value("seen")?;
        for stage in BOOT_STAGES {
            let all = seen.as_array().into_iter().flatten().filter_map(Value::as_str);
            ensure!(
                all.clone().any(|text| text.ends_with(stage)),
                "{stage} was not painted: {seen}"
            );
        }

        let booted = cell(&mut browser, "board-booted")?;
        let wanted = browser.value(&colour("--booted"))?;
        ensure!(
            serde_json::json!(booted) == wanted && booted != before,
            "the cell is {booted:?}, not {wanted}; before it was {before:?}"
        );

        // By its link, as somebody sends it to somebody.
        browser.open(&format!("{BOARD}#node={NODE}"))?;
        browser.wait(
            TIME,
            "document.querySelectorAll('#timeline[open] svg.picture rect.bar').length >= 8",
        )?;
        let drawn = "[...document.querySelectorAll('rect.bar')].every((bar) => bar.getBoundingClientRect().width >= 1)";
        ensure!(browser.value(drawn)? == true, "a bar is empty");
        for text in ["Root image", "Booted in ", "52:54:00:be:ef:01", "x86_64-efi"] {
            let is_there = format!("document.getElementById('timeline').innerText.includes('{text}')");
            ensure!(browser.value(&is_there)? == true, "the timeline does not say {text}");
        }
        let rows = browser.value("document.querySelectorAll('#timeline tbody tr').length")?;
        let bars = browser.value("document.querySelectorAll('#timeline rect.bar').length")?;
        ensure!(rows == bars, "{bars} bars and {rows} rows");
        browser.screenshot("timeline-booted")?;

        // Whoever looks is told that nothing is heard, and sees all of it again afterwards.
        bootd.kill_minus_nine();
        browser.wait(
            TIME,
            "document.getElementById('link').innerText.startsWith('connection lost')",
        )?;
        bootd.start_again()?;
        browser.wait(BOOT_LIMIT, "document.getElementById('link').className === 'live'")?;
        browser.wait(TIME, &is_figure("unseen", 4))?;
        bootd.must_run()
    });
}

#[test]
fn ten_thousand_nodes_with_a_thousand_events_a_second_are_on_the_screen_within_a_second() {
    in_rack(|| {
        let rack = rack("none")?;
        ip(&format!("addr add {SERVER}/16 brd + dev br0"))?;
        rack.write("nodes.yaml", &many_nodes()?)?;
        let config = std::fs::read_to_string(rack.path("bootd.toml"))?;
        let config = config.lines().filter(|line| !line.starts_with("pool = "));
        let config: String = config.flat_map(|line| [line, "\n"]).collect();
        rack.write("bootd.toml", &config.replace("172.16.0.0/24", "172.16.0.0/16"))?;
        let mut bootd = rack.start_bootd()?;
        let relay = Client::plug(&rack)?;
        relay.ip(&format!("addr add {RELAY}/16 dev cable0"))?;

        let mut browser = Browser::start(&rack.dir)?;
        browser.window(1440, 1000)?;
        let begin = Instant::now();
        browser.open(BOARD)?;
        browser.wait(TIME, &is_figure("unseen", NODES))?;
        println!("{NODES} cells were there after {:?}", begin.elapsed());
        browser.value(MEASURE)?;
        let begin = Instant::now();
        relay.at(|| send(&[(DISCOVER, &PC), (REQUEST, &PC), (DISCOVER, &IPXE)]))?;
        println!("{} packets were sent in {:?}", 3 * NODES, begin.elapsed());
        let most = NODES - NODES / 100;
        browser.wait(TIME, &format!("{} >= {most}", figure("ipxe")))?;
        let said = browser.value("measured()")?;
        println!("{said:#}");
        browser.screenshot("board-10000")?;

        let number = |name: &str| said[name].as_f64().with_context(|| format!("no {name}: {said:#}"));
        ensure!(
            number("painted")? >= 2.9 * f64::from(NODES),
            "changes are missing: {said:#}"
        );
        ensure!(number("median_ms")? < 1000.0, "event to screen: {said:#}");
        ensure!(number("frame_median_ms")? < 100.0, "it is not smooth: {said:#}");
        ensure!(browser.complaints()?.is_empty(), "{:?}", browser.complaints()?);
        bootd.must_run()
    });
}

#[test]
fn behind_a_token_a_timeline_is_opened_and_closed_with_keys_alone_and_what_a_node_says_is_text() {
    in_rack(|| {
        let rack = rack("token")?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        // Firmware that says something else than its name.
        let evil = b"PXEClient<img src=x onerror=document.title=1>";
        let length = u8::try_from(evil.len())?;
        let options = [&[93, 2, 0, 7, 60, length], &evil[..]].concat();
        discover(&client, 2, &options)?;

        let mut browser = Browser::start(&rack.dir)?;
        browser.open(BOARD)?;
        browser.wait(TIME, "document.activeElement?.id === 'token'")?;
        browser.screenshot("board-token")?;
        browser.type_text("not a token")?;
        browser.key("Enter")?;
        browser.wait(
            TIME,
            "document.getElementById('login-why').innerText.startsWith('The token is not taken')",
        )?;
        browser.type_text(&token(&bootd)?)?;
        browser.key("Enter")?;
        browser.wait(TIME, &is_figure("firmware", 1))?;
        ensure!(browser.value("location.href")? == BOARD, "the address has changed");

        // The list.
        browser.key("/")?;
        browser.type_text("c0s0b1")?;
        let found = format!(
            "document.querySelectorAll('#list a').length === 1 && document.querySelector('#list .who').innerText === '{NODE_2}'"
        );
        browser.wait(TIME, &found)?;
        browser.key("Tab")?;
        browser.key("Enter")?;
        browser.wait(TIME, &is_open(NODE_2))?;
        browser.wait(TIME, "document.querySelectorAll('#timeline rect.bar').length > 0")?;
        ensure!(browser.value("location.hash")? == format!("#node={NODE_2}"));
        let text = String::from_utf8_lossy(evil);
        let is_text = format!(
            "document.getElementById('timeline').innerText.includes({text:?}) && !document.querySelector('img')"
        );
        ensure!(
            browser.value(&is_text)? == true,
            "{}",
            browser.value("document.getElementById('timeline').innerHTML")?
        );
        browser.key("Escape")?;
        browser.wait(
            TIME,
            "!document.getElementById('timeline').open && document.activeElement.matches('#list a')",
        )?;
        browser.wait(TIME, "location.hash === ''")?;

        // The rack.
        let mut tabs = 0;
        while browser.value("document.activeElement.id")? != "cursor" {
            tabs += 1;
            ensure!(tabs < 10, "the rack is not reached with Tab");
            browser.key("Tab")?;
        }
        for key in ["End", "Home", "ArrowRight"] {
            browser.key(key)?;
        }
        let name = browser.value("document.activeElement.ariaLabel")?;
        let name = name.as_str().unwrap_or_default();
        ensure!(name.starts_with(&format!("{NODE_2}: Firmware address")), "{name}");
        browser.key("Enter")?;
        browser.wait(TIME, &is_open(NODE_2))?;
        browser.key("Escape")?;
        browser.wait(
            TIME,
            "!document.getElementById('timeline').open && document.activeElement.id === 'cursor'",
        )?;
        // Two requests were refused before the token was there, and told as errors by the browser.
        let complaints = browser.complaints()?.iter();
        let others: Vec<_> = complaints.filter(|text| !text.contains("status of 401")).collect();
        ensure!(others.is_empty(), "{others:?}");
        bootd.must_run()
    });
}

#[test]
fn all_text_of_the_board_stands_out_from_what_is_behind_it_in_both_schemes_and_on_a_phone() {
    in_rack(|| {
        let rack = rack("none")?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        discover(&client, 1, &PC)?;
        let mut browser = Browser::start(&rack.dir)?;
        browser.open(BOARD)?;
        browser.wait(TIME, &is_figure("firmware", 1))?;
        // It takes nothing that it is offered: after a time it is stuck, and why is on the page.
        browser.wait(Duration::from_secs(60), &is_figure("stuck", 1))?;
        browser.wait(TIME, "document.querySelectorAll('.warnings li').length > 0")?;
        browser.wait(TIME, "document.querySelectorAll('#plugins tbody tr').length === 3")?;
        for (width, device) in [(1280, "desktop"), (390, "phone")] {
            browser.window(width, 844)?;
            for (scheme, name) in [(Scheme::Light, "light"), (Scheme::Dark, "dark")] {
                browser.scheme(scheme)?;
                browser.value("location.hash = ''")?;
                browser.wait(TIME, "!document.getElementById('timeline').open")?;
                browser.screenshot(&format!("board-{device}-{name}"))?;
                println!("{}", contrast(&mut browser, &format!("{device}, {name}"))?);
                let wide = browser.value("document.documentElement.scrollWidth")?;
                ensure!(wide.as_u64() <= Some(width.into()), "{device}: the page is {wide} wide");
                browser.value(&format!("location.hash = 'node={NODE}'"))?;
                browser.wait(TIME, "document.querySelectorAll('#timeline rect.bar').length > 0")?;
                browser.screenshot(&format!("timeline-{device}-{name}"))?;
                println!("{}", contrast(&mut browser, &format!("{device}, {name}, timeline"))?);
            }
        }
        ensure!(browser.complaints()?.is_empty(), "{:?}", browser.complaints()?);
        bootd.must_run()
    });
}

/// A rack with the board at [`BOARD`].
fn rack(auth: &str) -> Result<Rack> {
    let rack = Rack::new()?;
    let more = format!("\n[[http.listener]]\naddress = \"{SERVER}:8090\"\nserve = [\"admin\"]\nauth = \"{auth}\"\n");
    rack.write("bootd.toml", &(rack.config() + &more))?;
    Ok(rack)
}

fn token(bootd: &Bootd) -> Result<String> {
    let output = bootd.ask(&["token"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Asks for an address under a node's hardware address until one is offered, and does not take it.
fn discover(client: &Client, node: u8, options: &[u8]) -> Result<()> {
    let socket = client.dhcp_socket()?;
    let offered = || {
        let id = xid();
        let packet = packet(DISCOVER, id, [0x52, 0x54, 0, 0xbe, 0xef, node], options);
        socket.send(&packet).ok()?;
        socket.receive(id, Duration::from_secs(1)).ok()
    };
    eventually(TIME, "an address is offered", offered).map(drop)
}

/// How many nodes the board says are of a kind.
fn figure(kind: &str) -> String {
    format!("Number(document.querySelector('#figures .{kind} + .number')?.innerText.replaceAll(',', ''))")
}

fn is_figure(kind: &str, count: u32) -> String {
    format!("{} === {count}", figure(kind))
}

fn is_open(who: &str) -> String {
    format!(
        "document.getElementById('timeline').open && document.getElementById('timeline-title').innerText === '{who}'"
    )
}

/// The colour in the middle of the first cell, as it is on the screen.
fn cell(browser: &mut Browser, name: &str) -> Result<[u8; 3]> {
    browser.value("document.getElementById('cursor').focus()")?;
    browser.key("Home")?;
    let place = browser.value(
        "(({ x, y, width }) => [x + width / 2, y + width / 2])(document.activeElement.getBoundingClientRect())",
    )?;
    let png = browser.screenshot(name)?;
    let at = |at: usize| place[at].as_f64().context("no place");
    browser.pixel(&png, at(0)?.floor(), at(1)?.floor())
}

/// A colour of the page's style, as red, green and blue.
fn colour(name: &str) -> String {
    format!(
        "getComputedStyle(document.documentElement).getPropertyValue('{name}').trim().match(/[0-9a-f]{{2}}/g).map((part) => parseInt(part, 16))"
    )
}

/// An error when some of the text, or a mark, is too faint; else what was measured.
fn contrast(browser: &mut Browser, what: &str) -> Result<String> {
    let said = browser.value(CONTRAST)?;
    let count = said["texts"].as_u64().unwrap_or_default();
    ensure!(count > 15, "{what}: only {count} texts were looked at");
    ensure!(said["bad"] == serde_json::json!([]), "{what}: {:#}", said["bad"]);
    let (least, mark) = (&said["least"], &said["least_mark"]);
    Ok(format!(
        "{what}: {count} texts, the least contrast is {least}; of marks {mark}"
    ))
}

fn packet(kind: u8, id: u32, mac: [u8; 6], options: &[u8]) -> Vec<u8> {
    let mut packet = header(id, mac);
    packet.extend([99, 130, 83, 99, 53, 1, kind]);
    packet.extend([options, &[255]].concat());
    packet.resize(packet.len().max(300), 0);
    packet
}

/// From a relay, for each kind of message one of each node, a thousand a second.
fn send(rounds: &[(u8, &[u8])]) -> Result<()> {
    let socket = UdpSocket::bind((RELAY, 67))?;
    let begin = Instant::now();
    for (round, (kind, options)) in (0..).zip(rounds) {
        for node in 0..NODES {
            let due = Duration::from_millis(u64::from(round * NODES + node));
            if let Some(wait) = due.checked_sub(begin.elapsed()) {
                std::thread::sleep(wait);
            }
            let mut options = options.to_vec();
            if *kind == REQUEST {
                options.extend([50, 4]);
                options.extend(address(node).octets());
                options.extend([54, 4]);
                options.extend(SERVER.octets());
            }
            let mut packet = packet(*kind, xid(), mac(node), &options);
            packet[24..28].copy_from_slice(&RELAY.octets());
            socket.send_to(&packet, (SERVER, 67))?;
        }
    }
    Ok(())
}

fn mac(node: u32) -> [u8; 6] {
    let [_, _, high, low] = node.to_be_bytes();
    [0x52, 0x54, 0, 1, high, low]
}

fn address(node: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(172, 16, 1, 0).to_bits() + node)
}

/// Ten thousand, 256 in each cabinet.
fn many_nodes() -> Result<String> {
    let mut text = String::from("nodes:\n");
    for node in 0..NODES {
        let mac = mac(node).map(|byte| format!("{byte:02x}")).join(":");
        let [_, _, high, low] = node.to_be_bytes();
        let (cabinet, chassis, slot) = (1000 + node / 256, node / 32 % 8, node / 4 % 8);
        writeln!(
            text,
            "- name: compute{node}\n  nid: {}\n  xname: x{cabinet}c{chassis}s{slot}b{}n0\n  bmc_mac: de:ca:fc:00:{high:02x}:{low:02x}\n  \
             bmc_ip: 172.17.{high}.{low}\n  group: compute\n  interfaces:\n  - mac_addr: {mac}\n    ip_addrs:\n    - name: management\n      ip_addr: {}",
            node + 1,
            node % 4,
            address(node)
        )?;
    }
    Ok(text)
}

const BOARD: &str = "http://172.16.0.254:8090/";
const NODE: &str = "x1000c0s0b0n0";
const NODE_2: &str = "x1000c0s0b1n0";
const TIME: Duration = Duration::from_secs(30);
const NODES: u32 = 10_000;
const RELAY: Ipv4Addr = Ipv4Addr::new(172, 16, 255, 1);
const PC: [u8; 15] = *b"\x5d\x02\0\x07\x3c\x09PXEClient";
const IPXE: [u8; 10] = *b"\x5d\x02\0\x07\x4d\x04iPXE";

/// From the moment that bootd heard something to the first frame behind the one that shows it; and how evenly frames come.
const MEASURE: &str = r"(() => {
    const waits = [], frames = [], tasks = [];
    document.addEventListener('board-painted', ({ detail }) => {
        const heard = detail.filter((node) => node.summary).map((node) => node.summary.heard_ms);
        requestAnimationFrame(() => { const now = Date.now(); for (const at of heard) waits.push(now - at); });
    });
    new PerformanceObserver((list) => tasks.push(...list.getEntries().map((task) => task.duration))).observe({ entryTypes: ['longtask'] });
    let last = performance.now();
    const frame = (now) => { frames.push(now - last); last = now; requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
    const share = (list, part) => Math.round(list.sort((a, b) => a - b)[Math.floor((list.length - 1) * part)] ?? 0);
    window.measured = () => ({
        painted: waits.length, median_ms: share(waits, 0.5), p99_ms: share(waits, 0.99), most_ms: share(waits, 1),
        frames: frames.length, frame_median_ms: share(frames, 0.5), frame_p99_ms: share(frames, 0.99), frame_most_ms: share(frames, 1),
        long_tasks: tasks.length, long_task_median_ms: share(tasks, 0.5), long_task_most_ms: share(tasks, 1),
        heap_mb: Math.round(performance.memory.usedJSHeapSize / 1e6),
    });
})()";

/// The contrast of each text that is seen, and of the colours of cells; what is less than it must be.
const CONTRAST: &str = r"(() => {
    const parse = (text) => {
        if (text.startsWith('#')) return [...text.match(/[0-9a-f]{2}/g).map((part) => parseInt(part, 16)), 1];
        const parts = text.match(/[\d.]+/g).map(Number);
        return text.startsWith('color(') ? [...parts.slice(0, 3).map((part) => part * 255), parts[3] ?? 1] : [...parts.slice(0, 3), parts[3] ?? 1];
    };
    const light = ([r, g, b]) => {
        const part = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = parse(getComputedStyle(at).backgroundColor);
            if (colour[3] === 1) return colour;
            if (colour[3] > 0) throw new Error('a background that shines through');
        }
        return [255, 255, 255, 1];
    };
    const dialog = document.querySelector('dialog[open]');
    const walker = document.createTreeWalker(dialog ?? document.body, NodeFilter.SHOW_TEXT);
    const bad = [];
    let texts = 0, least = 21;
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.parentElement;
        const words = node.textContent.trim();
        if (!words || !element.checkVisibility() || element.closest('.unseen-text, .skip, option, noscript')) continue;
        const style = getComputedStyle(element);
        const colour = parse(element instanceof SVGElement ? style.fill : style.color);
        const found = ratio(colour, behind(element));
        texts++;
        least = Math.min(least, found);
        if (found < 4.5) bad.push(`${words.slice(0, 40)}: ${found.toFixed(2)}`);
    }
    const root = getComputedStyle(document.documentElement);
    const read = (name) => parse(root.getPropertyValue(`--${name}`).trim());
    let least_mark = 21;
    for (const name of ['firmware', 'ipxe', 'files', 'system', 'cloud', 'booted', 'stuck', 'given-up', 'unseen', 'late', 'edge', 'focus']) {
        const found = ratio(read(name), read('panel'));
        least_mark = Math.min(least_mark, found);
        if (found < 3) bad.push(`--${name}: ${found.toFixed(2)}`);
    }
    if (ratio(read('cross'), read('stuck')) < 3) bad.push('--cross');
    return { texts, least: least.toFixed(2), least_mark: least_mark.toFixed(2), bad };
})()";
