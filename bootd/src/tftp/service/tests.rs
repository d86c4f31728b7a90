//! The service against a small client of our own, over loopback.

use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::tftp::testing::config;

const LOADER: &str = "ipxe.efi";

struct Rack {
    service: Service,
    metrics: Arc<Metrics>,
    loader: Vec<u8>,
    _dir: tempfile::TempDir,
}

impl Rack {
    fn new() -> Self {
        Self::with(|_, _| {})
    }

    fn with(change: impl FnOnce(&mut Config, &mut Limits)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let loader: Vec<u8> = (0..100_000_u32).map(|i| (i * 7 % 251) as u8).collect();
        std::fs::write(root.join(LOADER), &loader).unwrap();
        std::fs::write(root.join("even"), &loader[..1024]).unwrap();
        std::fs::write(root.join("empty"), "").unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink("../secret", root.join("outside")).unwrap();
        let mut config = config(&root);
        let mut limits = limits(&config);
        change(&mut config, &mut limits);
        if config.tftp.single_port {
            limits.ports = Ports::Shared;
        }
        let (files, _) = Files::load(&config);
        let metrics = Arc::new(Metrics::default());
        let files = Arc::new(ArcSwap::from_pointee(files));
        let service = start_with(
            &config,
            files,
            Arc::clone(&metrics),
            Watch::default(),
            limits,
            &Sockets::default(),
        )
        .unwrap();
        Self {
            service,
            metrics,
            loader,
            _dir: dir,
        }
    }

    fn client(&self) -> Client {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        Client {
            socket,
            server: self.service.address(),
        }
    }

    fn read(&self, name: &str, options: &[(&str, &str)]) -> Result<Read, (u16, String)> {
        self.client().read(name, options)
    }

    fn still_serves(&self) {
        assert_eq!(self.read(LOADER, &[]).unwrap().bytes, self.loader);
    }

    fn eventually(&self, line: &str) {
        let started = Instant::now();
        while !self.metrics.text().contains(line) {
            let text = self.metrics.text();
            assert!(started.elapsed() < Duration::from_secs(5), "no {line} in {text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[derive(Debug)]
struct Read {
    options: Vec<(String, String)>,
    bytes: Vec<u8>,
}

struct Client {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Client {
    fn ask(&self, opcode: u16, name: &[u8], options: &[(&str, &str)]) {
        let mut packet = opcode.to_be_bytes().to_vec();
        packet.extend(name);
        packet.extend(b"\0octet\0");
        for (key, value) in options {
            packet.extend(format!("{key}\0{value}\0").into_bytes());
        }
        self.socket.send_to(&packet, self.server).unwrap();
    }

    fn receive(&self) -> (u16, Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 65536];
        let (len, from) = self.hear(&mut buffer).unwrap();
        let opcode = u16::from_be_bytes([buffer[0], buffer[1]]);
        (opcode, buffer[2..len].to_vec(), from)
    }

    fn hear(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        // An answer may take longer than a request is worth waiting for.
        (0..10)
            .find_map(|_| self.socket.recv_from(buffer).ok())
            .ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    /// Asks until there is an answer, as clients do: a flood may have pushed a request out of the server's buffer.
    fn ask_until_heard(&self, name: &str, options: &[(&str, &str)]) {
        let heard = (0..20).any(|_| {
            self.ask(1, name.as_bytes(), options);
            self.socket.peek_from(&mut [0; 4]).is_ok()
        });
        assert!(heard, "no answer for {name}");
    }

    fn acknowledge(&self, block: u16, to: SocketAddr) {
        let packet = [4_u16.to_be_bytes(), block.to_be_bytes()].concat();
        self.socket.send_to(&packet, to).unwrap();
    }

    fn read(&self, name: &str, options: &[(&str, &str)]) -> Result<Read, (u16, String)> {
        self.ask_until_heard(name, options);
        let mut read = Read {
            options: Vec::new(),
            bytes: Vec::new(),
        };
        let (mut blksize, mut window, mut next) = (512, 1, 1_u16);
        loop {
            let (opcode, body, from) = self.receive();
            match opcode {
                3 => {
                    let block = u16::from_be_bytes([body[0], body[1]]);
                    if block == next.wrapping_sub(1) && !read.bytes.is_empty() {
                        // Sent again, because the machine was slow.
                        self.acknowledge(block, from);
                        continue;
                    }
                    assert_eq!(block, next);
                    let data = &body[2..];
                    read.bytes.extend(data);
                    let last = data.len() < blksize;
                    if last || next.is_multiple_of(window) {
                        self.acknowledge(next, from);
                    }
                    if last {
                        return Ok(read);
                    }
                    next = next.wrapping_add(1);
                }
                5 => {
                    let text = String::from_utf8_lossy(&body[2..body.len() - 1]).into_owned();
                    return Err((u16::from_be_bytes([body[0], body[1]]), text));
                }
                6 => {
                    let mut words = body.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned());
                    while let (Some(key), Some(value)) = (words.next(), words.next()) {
                        match key.as_str() {
                            "blksize" => blksize = value.parse().unwrap(),
                            "windowsize" => window = value.parse().unwrap(),
                            _ => {}
                        }
                        read.options.push((key, value));
                    }
                    self.acknowledge(0, from);
                }
                other => panic!("opcode {other}"),
            }
        }
    }
}

fn options(read: &Read) -> Vec<(&str, &str)> {
    read.options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
}

#[test]
fn a_plain_read_gets_the_whole_file() {
    let rack = Rack::new();
    rack.still_serves();
    assert_eq!(rack.read("even", &[]).unwrap().bytes, rack.loader[..1024]);
    assert_eq!(rack.read("empty", &[]).unwrap().bytes, b"");
    assert_eq!(rack.read("default", &[]).unwrap().bytes, b"#!ipxe\nreboot\n");
    rack.eventually("bootd_done_total{part=\"tftp\",what=\"read\"} 4");
    rack.eventually("bootd_sent_bytes_total{part=\"tftp\",what=\"file\"} 101024");
    rack.service.stop();
}

#[test]
fn options_are_negotiated_within_the_limits() {
    let rack = Rack::new();
    let read = rack.read(LOADER, &[("tsize", "0"), ("blksize", "1000")]).unwrap();
    assert_eq!(options(&read), [("blksize", "1000"), ("tsize", "100000")]);
    assert_eq!(read.bytes, rack.loader);

    let read = rack
        .read(
            LOADER,
            &[("BLKSIZE", "65464"), ("windowsize", "500"), ("timeout", "200")],
        )
        .unwrap();
    assert_eq!(
        options(&read),
        [("blksize", "1468"), ("timeout", "200"), ("windowsize", "16")]
    );
    assert_eq!(read.bytes, rack.loader);

    let read = rack.read("default", &[("tsize", "0")]).unwrap();
    assert_eq!(options(&read), [("tsize", "14")]);

    let odd = [
        ("blksize", "4"),
        ("windowsize", "0"),
        ("tsize", "-1"),
        ("multicast", ""),
    ];
    let read = rack.read(LOADER, &odd).unwrap();
    assert_eq!(options(&read), []);
    assert_eq!(read.bytes, rack.loader);
}

#[test]
fn names_that_lead_elsewhere_get_an_error_and_nothing_else() {
    let rack = Rack::new();
    let long = "a".repeat(2000);
    let refused = [
        ("../secret", 2),
        ("..\\secret", 2),
        ("a/../../secret", 2),
        (&long, 2),
        ("line\nfeed", 2),
        ("/etc/passwd", 1),
        ("outside", 1),
        ("", 1),
        ("unknown.efi", 1),
    ];
    for (name, code) in refused {
        assert_eq!(rack.read(name, &[("tsize", "0")]).unwrap_err().0, code, "{name:?}");
        rack.still_serves();
    }
    for label in [
        "dots_in_name",
        "long_name",
        "control_in_name",
        "empty_name",
        "no_such_file",
    ] {
        rack.eventually(&format!("bootd_refused_total{{part=\"tftp\",what=\"{label}\"}}"));
    }
}

#[test]
fn names_of_other_worlds_are_understood() {
    let rack = Rack::new();
    for name in ["/ipxe.efi", "\\ipxe.efi", "\\\\ipxe.efi"] {
        assert_eq!(rack.read(name, &[]).unwrap().bytes, rack.loader, "{name}");
    }
}

#[test]
fn a_write_is_refused() {
    let rack = Rack::new();
    let client = rack.client();
    client.ask(2, b"ipxe.efi", &[("tsize", "4")]);
    let (opcode, body, _) = client.receive();
    assert_eq!((opcode, &body[..2]), (5, &[0, 4][..]));
    rack.still_serves();
    rack.eventually("bootd_refused_total{part=\"tftp\",what=\"write\"} 1");
}

#[test]
fn datagrams_that_are_no_requests_change_nothing() {
    let rack = Rack::new();
    let client = rack.client();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut datagrams: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0, 1],
        vec![0, 1, 0],
        b"\0\x01ipxe.efi".to_vec(),
        b"\0\x01ipxe.efi\0".to_vec(),
        b"\0\x01ipxe.efi\0binary\0".to_vec(),
        b"\0\x01ipxe.efi\0octet\0blksize\0".to_vec(),
        b"\0\x01\xff\xfe\0octet\0".to_vec(),
        b"\0\x03\0\x01data".to_vec(),
        b"\0\x04\0\0".to_vec(),
        b"\0\x05\0\x08User aborted\0".to_vec(),
        [b"\0\x01".to_vec(), vec![b'a'; 65_000], b"\0octet\0".to_vec()].concat(),
    ];
    for len in 0..200 {
        let mut datagram = vec![0, (len % 8) as u8];
        for _ in 0..len {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            datagram.push(seed as u8);
        }
        datagrams.push(datagram);
    }
    for datagram in datagrams {
        client.socket.send_to(&datagram, client.server).unwrap();
    }
    rack.still_serves();
}

#[test]
fn nothing_is_sent_after_a_firmware_asked_for_the_size_and_aborted() {
    for single_port in [false, true] {
        let rack = Rack::with(|config, _| config.tftp.single_port = single_port);
        for name in [LOADER, "default"] {
            let client = rack.client();
            client.ask(1, name.as_bytes(), &[("tsize", "0"), ("blksize", "1468")]);
            let (opcode, _, from) = client.receive();
            assert_eq!(opcode, 6);
            client.socket.send_to(b"\0\x05\0\x08User aborted\0", from).unwrap();
            // An acknowledgement that is late brings nothing back.
            client.acknowledge(0, from);
            client
                .socket
                .set_read_timeout(Some(Duration::from_millis(1200)))
                .unwrap();
            let heard = client.socket.recv_from(&mut [0; 2048]);
            assert!(heard.is_err(), "{heard:?}");
        }
        rack.eventually("bootd_done_total{part=\"tftp\",what=\"aborted\"} 2");
        rack.eventually("bootd_amount{part=\"tftp\",what=\"transfers\"} 0");
        assert!(!rack.metrics.text().contains("what=\"read\""));
        rack.still_serves();
    }
}

#[test]
fn a_transfer_has_a_port_of_its_own_or_none() {
    for single_port in [false, true] {
        let rack = Rack::with(|config, _| config.tftp.single_port = single_port);
        let clients = [rack.client(), rack.client()];
        let ports = clients.each_ref().map(|client| {
            client.ask(1, LOADER.as_bytes(), &[("blksize", "1400")]);
            client.receive().2.port()
        });
        let listens = rack.service.address().port();
        match single_port {
            true => assert_eq!(ports, [listens, listens]),
            false => assert!(ports[0] != ports[1] && !ports.contains(&listens)),
        }
        let read = rack.read(LOADER, &[("blksize", "1400"), ("windowsize", "8")]).unwrap();
        assert_eq!(options(&read), [("blksize", "1400"), ("windowsize", "8")]);
        assert_eq!(read.bytes, rack.loader);
    }
}

#[test]
fn answers_leave_from_the_address_that_was_asked_over_either_family() {
    for single_port in [false, true] {
        let rack = Rack::with(|config, _| {
            config.tftp.address = Some(Ipv6Addr::UNSPECIFIED.into());
            config.tftp.single_port = single_port;
        });
        let port = rack.service.address().port();
        for (own, asked) in [
            ("127.0.0.1:0", "127.0.0.9"),
            ("127.0.0.3:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
        ] {
            let Ok(socket) = UdpSocket::bind(own) else { continue };
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let asked: IpAddr = asked.parse().unwrap();
            let client = Client {
                socket,
                server: (asked, port).into(),
            };
            assert_eq!(client.read(LOADER, &[("windowsize", "4")]).unwrap().bytes, rack.loader);
            client.ask(1, b"unknown", &[]);
            let (opcode, _, from) = client.receive();
            assert_eq!((opcode, from.ip()), (5, asked));
            client.ask(1, LOADER.as_bytes(), &[]);
            assert_eq!(client.receive().2.ip(), asked);
        }
    }
}

#[test]
fn a_client_that_is_gone_is_waited_for_no_longer() {
    for single_port in [false, true] {
        let rack = Rack::with(|config, _| config.tftp.single_port = single_port);
        let client = rack.client();
        client.ask(1, LOADER.as_bytes(), &[]);
        let (_, _, from) = client.receive();
        client.acknowledge(1, from);
        drop(client);
        rack.eventually("bootd_done_total{part=\"tftp\",what=\"gone\"} 1");
        rack.still_serves();
    }
}

#[test]
fn more_reads_than_fit_are_told_to_come_back() {
    for single_port in [false, true] {
        let rack = Rack::with(|config, limits| {
            limits.reads = 2;
            config.tftp.single_port = single_port;
        });
        let silent = [rack.client(), rack.client()];
        for client in &silent {
            client.ask(1, LOADER.as_bytes(), &[]);
            let (kind, _, from) = client.receive();
            assert_eq!(kind, 3);
            // Who is never heard would make room.
            client.acknowledge(1, from);
            assert_eq!(client.receive().0, 3);
        }
        let (code, text) = rack.read(LOADER, &[]).map(|_| ()).unwrap_err();
        assert_eq!((code, text.as_str()), (0, "too many transfers, try again"));
        for client in &silent {
            // The same again is no third one.
            client.ask(1, b"default", &[]);
            assert_eq!(client.receive().0, 3);
        }
    }
}

#[test]
fn one_client_takes_no_more_than_its_share() {
    let rack = Rack::with(|_, limits| limits.each = 2);
    let silent = [rack.client(), rack.client()];
    for client in &silent {
        client.ask(1, LOADER.as_bytes(), &[]);
        let (kind, _, from) = client.receive();
        assert_eq!(kind, 3);
        client.acknowledge(1, from);
        assert_eq!(client.receive().0, 3);
    }
    let (code, text) = rack.read(LOADER, &[]).unwrap_err();
    assert_eq!((code, text.as_str()), (0, "too many transfers of yours, try again"));
    let mut other = rack.client();
    other.socket = UdpSocket::bind("127.0.0.2:0").unwrap();
    other.socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert_eq!(other.read(LOADER, &[]).unwrap().bytes, rack.loader);
    rack.eventually("bootd_refused_total{part=\"tftp\",what=\"too_many_reads_of_client\"}");
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let rack = Rack::new();
    let mut config = config(Path::new("/nowhere"));
    config.tftp.port = rack.service.address().port();
    let error = start(
        &config,
        Arc::default(),
        Arc::default(),
        Watch::default(),
        &Sockets::default(),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains(&rack.service.address().to_string()),
        "{error}"
    );
}

#[test]
fn a_stopped_service_frees_its_port() {
    let rack = Rack::new();
    let address = rack.service.address();
    rack.service.stop();
    UdpSocket::bind(address).unwrap();
}

#[test]
fn a_service_that_fails_or_panics_is_started_again() {
    let metrics = Metrics::default();
    let (stopped, _stop) = io::pipe().unwrap();
    let mut starts = 0;
    supervise(&metrics, &stopped, Duration::ZERO, || {
        starts += 1;
        match starts {
            1 => Err(io::ErrorKind::Other.into()),
            2 => panic!("in the service"),
            _ => Ok(Stopped),
        }
    });
    assert_eq!(starts, 3);
    let text = metrics.text();
    assert!(
        text.contains("bootd_done_total{part=\"tftp\",what=\"restarted\"} 2"),
        "{text}"
    );
}

#[test]
fn a_panic_costs_what_it_was_about() {
    let config = config(Path::new("/nowhere"));
    let listening = listen(&config, &Sockets::default()).unwrap();
    let files = ArcSwap::from_pointee(Files::of([(LOADER, "loader")]));
    let metrics = Arc::new(Metrics::default());
    let trouble = Trouble::new(1);
    let watch = Watch::default();
    let granted = ArcSwap::from_pointee(Granted::of(&config));
    let mut desk = Desk::new(
        &listening,
        &files,
        &metrics,
        &watch,
        limits(&config),
        (&trouble, &granted),
    )
    .unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let met = Met {
        peer: client.local_addr().unwrap(),
        ours: "127.0.0.1".parse().unwrap(),
        interface: 0,
        is_ours_alone: true,
    };
    desk.asked(0, &met, Some(b"\0\x01ipxe.efi\0octet\0"), Duration::ZERO);
    let id = desk.engine.of(&met.peer).unwrap();
    desk.guarded(Some(id), |_| panic!("in a transfer"));
    desk.tell();
    assert!(desk.engine.is_empty() && desk.ways.is_empty());
    let text = metrics.text();
    assert!(
        text.contains("bootd_refused_total{part=\"tftp\",what=\"panic\"} 1"),
        "{text}"
    );
    desk.asked(0, &met, Some(b"\0\x01ipxe.efi\0octet\0"), Duration::ZERO);
    assert_eq!(desk.engine.len(), 1);
}

#[test]
fn a_port_that_cannot_be_had_says_what_to_do_and_says_it_once() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut config = config(std::path::Path::new("/nowhere"));
    config.tftp.port = taken.local_addr().unwrap().port();
    let files = Arc::new(ArcSwap::from_pointee(Files::load(&config).0));
    let error = start(&config, files, Arc::default(), Watch::default(), &Sockets::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("another program listens there"), "{text}");
    assert_eq!(text.matches("in use").count(), 1, "{text}");
    assert!(std::error::Error::source(&error).is_none());
    for (kind, wanted) in [
        (io::ErrorKind::AddrNotAvailable, "no interface"),
        (io::ErrorKind::PermissionDenied, "CAP_NET_BIND_SERVICE"),
    ] {
        assert!(hint(&kind.into()).contains(wanted));
    }
    assert_eq!(hint(&io::ErrorKind::OutOfMemory.into()), "");
}
