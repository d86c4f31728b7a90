//! The conformance suite, packet by packet: what CoreDHCP's users rely on, what ought to be better, and what the RFCs say.
//!
//! A case is a sentence with its rule (a section of the contract with its mark, or an RFC) and steps: a packet where the server listens, a packet
//! to the transfer, time that passes, and what each of them gets, to the byte. A run tells all that fail.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::Files;
use super::engine::{End, Limits, Ports};
use super::rehearsal::{Outcome, Rehearsal};

struct Case {
    rule: &'static str,
    says: &'static str,
    limits: Limits,
    room: usize,
    steps: Vec<(Step, Gets)>,
}

enum Step {
    /// From this port to where the server listens.
    Asks(u16, Vec<u8>),
    /// To the transfer that was the last one to send something.
    Says(Vec<u8>),
    Passes(u64),
    /// Other files are there now.
    Files(Vec<(&'static str, Vec<u8>)>),
    /// The client acknowledges all that comes, to the end, and has this content then.
    Reads(Vec<u8>),
}

#[derive(Debug)]
enum Gets {
    Packets(Vec<Vec<u8>>),
    Refused(u8, &'static str),
    Ignored(&'static str),
    Nothing,
    /// Nothing, and the transfer is over: how.
    Over(&'static str),
}

fn case(rule: &'static str, says: &'static str) -> Case {
    Case {
        rule,
        says,
        limits: Limits {
            reads: 4,
            each: 3,
            blksize: 1468,
            windowsize: 16,
            ports: Ports::Own,
        },
        room: 1472,
        steps: Vec::new(),
    }
}

impl Case {
    fn asks(self, packet: Vec<u8>, gets: Gets) -> Self {
        self.asks_from(2000, packet, gets)
    }

    fn asks_from(mut self, port: u16, packet: Vec<u8>, gets: Gets) -> Self {
        self.steps.push((Step::Asks(port, packet), gets));
        self
    }

    fn says(mut self, packet: &[u8], gets: Gets) -> Self {
        self.steps.push((Step::Says(packet.to_vec()), gets));
        self
    }

    fn acknowledges(self, block: u16, gets: Gets) -> Self {
        self.says(&[&[0, 4][..], &block.to_be_bytes()].concat(), gets)
    }

    fn passes(mut self, millis: u64, gets: Gets) -> Self {
        self.steps.push((Step::Passes(millis), gets));
        self
    }

    fn files(mut self, files: Vec<(&'static str, Vec<u8>)>) -> Self {
        self.steps.push((Step::Files(files), Gets::Nothing));
        self
    }

    fn reads(mut self, content: Vec<u8>) -> Self {
        self.steps.push((Step::Reads(content), Gets::Nothing));
        self
    }

    fn room(mut self, room: usize) -> Self {
        self.room = room;
        self
    }

    fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// What is wrong.
    fn run(self) -> Vec<String> {
        let mut server = Rehearsal::new(Files::of(files()), self.limits);
        server.room = self.room;
        let (mut transfer, mut wrong) = (None, Vec::new());
        for (number, (step, gets)) in self.steps.into_iter().enumerate() {
            let over = server.ended.len();
            let outcomes = match step {
                Step::Asks(port, packet) => vec![server.asks(client(port), &packet)],
                Step::Says(packet) => vec![server.says(transfer.unwrap_or(u64::MAX), &packet)],
                Step::Passes(millis) => server.passes(Duration::from_millis(millis)),
                Step::Files(files) => {
                    server.files = Files::of(files);
                    continue;
                }
                Step::Reads(content) => {
                    let got = read(&mut server, transfer.unwrap_or(u64::MAX));
                    if got != content {
                        wrong.push(format!(
                            "step {number}: {} bytes instead of {}",
                            got.len(),
                            content.len()
                        ));
                    }
                    continue;
                }
            };
            for outcome in &outcomes {
                if let Outcome::Sent(id, _) = outcome {
                    transfer = Some(*id);
                }
            }
            let ended: Vec<&str> = server.ended[over..].iter().map(|ended| ended.how.label()).collect();
            let is_good = match &gets {
                Gets::Packets(wanted) => {
                    let sent = outcomes.iter().flat_map(|outcome| match outcome {
                        Outcome::Sent(_, packets) => packets.clone(),
                        _ => Vec::new(),
                    });
                    sent.collect::<Vec<_>>() == *wanted
                }
                Gets::Refused(code, label) => matches!(
                    &outcomes[..],
                    [Outcome::Refused(why, packet)]
                        if why == label && packet[..4] == [0, 5, 0, *code] && packet.ends_with(&[0])
                ),
                Gets::Ignored(label) => outcomes == [Outcome::Ignored(label)],
                Gets::Nothing => outcomes.iter().all(|outcome| *outcome == Outcome::Silence) && ended.is_empty(),
                Gets::Over(label) => outcomes.iter().all(|outcome| *outcome == Outcome::Silence) && ended == [*label],
            };
            if !is_good {
                wrong.push(format!(
                    "step {number}: {} and {ended:?}, not {}",
                    shown(&outcomes),
                    shown(&gets)
                ));
            }
        }
        wrong
    }
}

fn shown(what: &impl std::fmt::Debug) -> String {
    format!("{what:?}").chars().take(400).collect()
}

/// Acknowledges each window until the last block came; the first one is acknowledged already.
fn read(server: &mut Rehearsal, id: u64) -> Vec<u8> {
    let (mut got, mut block, mut blksize) = (Vec::new(), 0_u16, None);
    for _ in 0..100_000 {
        let packet = [&[0, 4][..], &block.to_be_bytes()].concat();
        let Outcome::Sent(_, packets) = server.says(id, &packet) else {
            break;
        };
        for packet in packets {
            block = block.wrapping_add(1);
            assert_eq!(packet[..4], data_head(block));
            got.extend_from_slice(&packet[4..]);
            let first = *blksize.get_or_insert(packet.len());
            assert!(packet.len() <= first);
        }
    }
    assert_eq!(server.of(client(2000)), None, "the transfer is not over");
    got
}

fn client(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

fn loader() -> Vec<u8> {
    (0..10_000_u32).map(|n| (n % 251) as u8).collect()
}

/// What there is, with 65536 blocks of eight bytes and some more in `large`.
fn files() -> Vec<(&'static str, Bytes)> {
    vec![
        ("ipxe.efi", loader().into()),
        ("EFI/BOOT/bootx64.efi", "nested".into()),
        ("even", loader()[..1024].to_vec().into()),
        ("empty", Bytes::new()),
        ("text", "a\nb\rc".into()),
        ("default", "#!ipxe\nreboot\n".into()),
        ("large", large().into()),
    ]
}

fn large() -> Vec<u8> {
    (0..65_600 * 8 + 5).map(|n| (n / 8 % 250) as u8).collect()
}

fn rrq(name: &str, options: &[(&str, &str)]) -> Vec<u8> {
    request(1, name.as_bytes(), "octet", options)
}

fn request(opcode: u8, name: &[u8], mode: &str, options: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = [&[0, opcode], name, &[0], mode.as_bytes(), &[0]].concat();
    for (name, value) in options {
        packet.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    packet
}

fn data_head(block: u16) -> [u8; 4] {
    let [high, low] = block.to_be_bytes();
    [0, 3, high, low]
}

fn block(number: u16, data: &[u8]) -> Vec<u8> {
    [&data_head(number), data].concat()
}

/// Blocks of the loader.
fn blocks(numbers: std::ops::RangeInclusive<u16>, blksize: usize) -> Gets {
    let loader = loader();
    let all = numbers.map(|number| {
        let from = (usize::from(number) - 1) * blksize;
        block(
            number,
            &loader[from.min(loader.len())..loader.len().min(from + blksize)],
        )
    });
    Gets::Packets(all.collect())
}

fn oack(options: &[(&str, &str)]) -> Gets {
    let words: String = options
        .iter()
        .map(|(name, value)| format!("{name}\0{value}\0"))
        .collect();
    Gets::Packets(vec![[b"\0\x06", words.as_bytes()].concat()])
}

fn one(packet: Vec<u8>) -> Gets {
    Gets::Packets(vec![packet])
}

const ABORT: &[u8] = b"\0\x05\0\x08User aborted the transfer\0";
const WINDOW_4: &[(&str, &str)] = &[("blksize", "512"), ("windowsize", "4")];

fn names() -> Vec<Case> {
    vec![
        case("4 M", "a name is found as it stands, with a slash before it too")
            .asks(rrq("/ipxe.efi", &[]), blocks(1..=1, 512)),
        case("4 I", "backslashes are slashes, at the beginning and within")
            .asks(rrq("\\ipxe.efi", &[]), blocks(1..=1, 512))
            .asks(rrq("\\EFI\\BOOT\\bootx64.efi", &[]), one(block(1, b"nested"))),
        case("4 M", "upper and lower case are different").asks(rrq("IPXE.EFI", &[]), Gets::Refused(1, "no_such_file")),
        case("4 I", "a file that is not there is error 1, and no path is told")
            .asks(rrq("nothing", &[]), Gets::Refused(1, "no_such_file")),
        case("4 I", "a folder is no file").asks(rrq("EFI/BOOT", &[]), Gets::Refused(1, "no_such_file")),
        case("4 I", "nobody climbs out: error 2")
            .asks(rrq("../../etc/passwd", &[]), Gets::Refused(2, "dots_in_name"))
            .asks(rrq("..\\..\\etc\\passwd", &[]), Gets::Refused(2, "dots_in_name"))
            .asks(rrq("EFI/../../etc/passwd", &[]), Gets::Refused(2, "dots_in_name")),
        case(
            "4 I",
            "a name with a control character, or of more than 512 bytes, is error 2",
        )
        .asks(rrq("ipxe\n.efi", &[]), Gets::Refused(2, "control_in_name"))
        .asks(rrq(&"a".repeat(513), &[]), Gets::Refused(2, "long_name")),
        case("4 I", "no name is error 1").asks(rrq("", &[]), Gets::Refused(1, "empty_name")),
        case("4 I", "a name that is no UTF-8 names nothing")
            .asks(request(1, b"\xff\xfe", "octet", &[]), Gets::Refused(1, "no_such_file")),
        case("4 M", "`default` is the script that reboots, 14 bytes")
            .asks(rrq("default", &[]), one(block(1, b"#!ipxe\nreboot\n"))),
    ]
}

fn plain() -> Vec<Case> {
    vec![
        case(
            "RFC 1350",
            "without options blocks have 512 bytes, each after the one before was acknowledged",
        )
        .asks(rrq("ipxe.efi", &[]), blocks(1..=1, 512))
        .acknowledges(1, blocks(2..=2, 512))
        .acknowledges(2, blocks(3..=3, 512)),
        case(
            "RFC 1350",
            "a block that is not full is the last one, and its acknowledgement the end",
        )
        .asks(rrq("ipxe.efi", &[("blksize", "1468")]), oack(&[("blksize", "1468")]))
        .acknowledges(0, blocks(1..=1, 1468))
        .acknowledges(1, blocks(2..=2, 1468))
        .acknowledges(2, blocks(3..=3, 1468))
        .acknowledges(3, blocks(4..=4, 1468))
        .acknowledges(4, blocks(5..=5, 1468))
        .acknowledges(5, blocks(6..=6, 1468))
        .acknowledges(6, blocks(7..=7, 1468))
        .acknowledges(7, Gets::Over("read")),
        case("RFC 1350", "a file of whole blocks ends with an empty one")
            .asks(rrq("even", &[]), one(block(1, &loader()[..512])))
            .acknowledges(1, one(block(2, &loader()[512..1024])))
            .acknowledges(2, one(block(3, b"")))
            .acknowledges(3, Gets::Over("read")),
        case("RFC 1350", "an empty file is one empty block")
            .asks(rrq("empty", &[]), one(block(1, b"")))
            .acknowledges(1, Gets::Over("read")),
        case("4 M", "a write is error 4").asks(request(2, b"ipxe.efi", "octet", &[]), Gets::Refused(4, "write")),
        case("4 M", "netascii is converted")
            .asks(request(1, b"text", "NetASCII", &[]), one(block(1, b"a\r\nb\r\0c")))
            .acknowledges(1, Gets::Over("read")),
        case("4 M", "mail is error 4, and so is any other mode")
            .asks(request(1, b"text", "mail", &[]), Gets::Refused(4, "mode"))
            .asks(request(1, b"text", "binary", &[]), Gets::Refused(4, "mode")),
        case("4 M", "block 65536 has number 0")
            .asks(rrq("large", &[("blksize", "8")]), oack(&[("blksize", "8")]))
            .reads(large()),
        case("4 M", "block 65536 has number 0 in a window, too")
            .asks(
                rrq("large", &[("blksize", "8"), ("windowsize", "16")]),
                oack(&[("blksize", "8"), ("windowsize", "16")]),
            )
            .reads(large()),
        case("4 I", "a read gets what the file was when it began")
            .asks(rrq("ipxe.efi", &[]), blocks(1..=1, 512))
            .files(vec![("ipxe.efi", b"another one".to_vec())])
            .acknowledges(1, blocks(2..=2, 512)),
    ]
}

fn options() -> Vec<Case> {
    vec![
        case(
            "RFC 2347",
            "names of options have no case, unknown ones are left out, and the order is always one",
        )
        .asks(
            rrq(
                "ipxe.efi",
                &[
                    ("WindowSize", "8"),
                    ("multicast", ""),
                    ("TSIZE", "0"),
                    ("BlkSize", "1024"),
                    ("timeout", "5"),
                ],
            ),
            oack(&[
                ("blksize", "1024"),
                ("tsize", "10000"),
                ("timeout", "5"),
                ("windowsize", "8"),
            ]),
        ),
        case("RFC 2347", "an option that is there twice counts once").asks(
            rrq("ipxe.efi", &[("blksize", "1024"), ("blksize", "8")]),
            oack(&[("blksize", "1024")]),
        ),
        case("RFC 2347", "a name without a value is none")
            .asks([&rrq("ipxe.efi", &[])[..], b"blksize\0"].concat(), blocks(1..=1, 512)),
        case(
            "RFC 2347",
            "the first block waits for the acknowledgement of the options, which is number 0",
        )
        .asks(rrq("ipxe.efi", &[("tsize", "0")]), oack(&[("tsize", "10000")]))
        .acknowledges(1, Gets::Nothing)
        .acknowledges(0, blocks(1..=1, 512)),
        case("RFC 2347", "options that all cannot be are as none").asks(
            rrq(
                "ipxe.efi",
                &[
                    ("blksize", "7"),
                    ("windowsize", "0"),
                    ("timeout", "256"),
                    ("tsize", "?"),
                ],
            ),
            blocks(1..=1, 512),
        ),
        case("4 I", "blocks from 8 to 65464 bytes are granted, others left out")
            .limits(|limits| limits.blksize = 65464)
            .room(70_000)
            .asks_from(1, rrq("ipxe.efi", &[("blksize", "8")]), oack(&[("blksize", "8")]))
            .asks_from(
                2,
                rrq("ipxe.efi", &[("blksize", "65464")]),
                oack(&[("blksize", "65464")]),
            )
            .asks_from(
                3,
                rrq("ipxe.efi", &[("blksize", "65465"), ("tsize", "0")]),
                oack(&[("tsize", "10000")]),
            ),
        case(
            "4 I",
            "blocks are no larger than what goes to the client in one piece by IPv4",
        )
        .limits(|limits| limits.blksize = 65464)
        .asks(rrq("ipxe.efi", &[("blksize", "65464")]), oack(&[("blksize", "1468")])),
        case("4 I", "and 20 bytes smaller by IPv6")
            .limits(|limits| limits.blksize = 65464)
            .room(1452)
            .asks(rrq("ipxe.efi", &[("blksize", "1468")]), oack(&[("blksize", "1448")])),
        case("4 I", "blocks are no larger than the configuration says")
            .limits(|limits| limits.blksize = 1024)
            .asks(rrq("ipxe.efi", &[("blksize", "1468")]), oack(&[("blksize", "1024")])),
        case("4 I", "the size is told of generated files, too")
            .asks(rrq("default", &[("tsize", "0")]), oack(&[("tsize", "14")])),
        case("RFC 2349", "the size of what is converted is not told").asks(
            request(1, b"text", "netascii", &[("tsize", "0")]),
            one(block(1, b"a\r\nb\r\0c")),
        ),
        case(
            "RFC 2349",
            "who asks for a wait gets it: what is not acknowledged is sent again after that time",
        )
        .asks(rrq("ipxe.efi", &[("timeout", "3")]), oack(&[("timeout", "3")]))
        .acknowledges(0, blocks(1..=1, 512))
        .passes(2999, Gets::Nothing)
        .passes(1, blocks(1..=1, 512))
        .passes(2999, Gets::Nothing)
        .passes(1, blocks(1..=1, 512)),
        case(
            "RFC 7440",
            "windows are no larger than the configuration says, whatever is asked for",
        )
        .asks(
            rrq("ipxe.efi", &[("blksize", "65464"), ("windowsize", "65535")]),
            oack(&[("blksize", "1468"), ("windowsize", "16")]),
        ),
    ]
}

fn windows() -> Vec<Case> {
    let begun = |says| {
        case("RFC 7440", says)
            .asks(rrq("ipxe.efi", WINDOW_4), oack(WINDOW_4))
            .passes(20, Gets::Nothing)
            .acknowledges(0, blocks(1..=4, 512))
            .passes(20, Gets::Nothing)
    };
    vec![
        begun("a window leaves at once, and the next when its last block is acknowledged")
            .acknowledges(4, blocks(5..=8, 512))
            .acknowledges(8, blocks(9..=12, 512)),
        begun("an acknowledgement within a window goes on behind it").acknowledges(2, blocks(3..=6, 512)),
        begun("the acknowledgement of the block before a window sends it again at once, and once: what was under way may say the same")
            .acknowledges(4, blocks(5..=8, 512))
            .passes(20, Gets::Nothing)
            .acknowledges(4, blocks(5..=8, 512))
            .acknowledges(4, Gets::Nothing)
            .acknowledges(4, Gets::Nothing)
            .acknowledges(8, blocks(9..=12, 512)),
        begun("behind a gap, what the blocks under way still make the client say brings nothing more")
            .acknowledges(1, blocks(2..=5, 512))
            .acknowledges(1, Gets::Nothing)
            .acknowledges(1, Gets::Nothing)
            .passes(20, Gets::Nothing)
            .acknowledges(5, blocks(6..=9, 512)),
        begun("an acknowledgement that was under way before the window was sent again moves it on, and repeats nothing")
            .acknowledges(1, blocks(2..=5, 512))
            .passes(5, Gets::Nothing)
            .acknowledges(3, blocks(6..=7, 512))
            .passes(20, Gets::Nothing)
            .acknowledges(7, blocks(8..=11, 512)),
        begun("acknowledgements of what was acknowledged before, and of what was never sent, are none")
            .acknowledges(4, blocks(5..=8, 512))
            .acknowledges(2, Gets::Nothing)
            .acknowledges(9, Gets::Nothing)
            .acknowledges(60_000, Gets::Nothing),
        case("4 I", "until a client was heard it gets one packet, however large its window is")
            .asks(rrq("ipxe.efi", WINDOW_4), oack(WINDOW_4))
            .passes(1000, oack(WINDOW_4)),
        case("RFC 7440", "the last window is as long as what is left")
            .asks(
                rrq("ipxe.efi", &[("blksize", "1468"), ("windowsize", "5")]),
                oack(&[("blksize", "1468"), ("windowsize", "5")]),
            )
            .acknowledges(0, blocks(1..=5, 1468))
            .acknowledges(5, blocks(6..=7, 1468))
            .acknowledges(7, Gets::Over("read")),
    ]
}

fn repetitions() -> Vec<Case> {
    vec![
        case("RFC 1123 4.2.3.1", "in lock-step an acknowledgement that comes twice sends nothing twice")
            .asks(rrq("ipxe.efi", &[]), blocks(1..=1, 512))
            .acknowledges(1, blocks(2..=2, 512))
            .acknowledges(1, Gets::Nothing)
            .acknowledges(2, blocks(3..=3, 512))
            .acknowledges(2, Gets::Nothing),
        case("4 I", "who says the same as late as a repetition would be is heard")
            .asks(rrq("ipxe.efi", &[]), blocks(1..=1, 512))
            .passes(10, Gets::Nothing)
            .acknowledges(1, blocks(2..=2, 512))
            .passes(250, blocks(2..=2, 512))
            .passes(300, Gets::Nothing)
            .acknowledges(1, blocks(2..=2, 512)),
        case("4 I", "a block is repeated five times, after waits that follow the way to the client and double, and given up within half a minute")
            .asks(rrq("ipxe.efi", &[]), blocks(1..=1, 512))
            .passes(100, Gets::Nothing)
            .acknowledges(1, blocks(2..=2, 512))
            .passes(299, Gets::Nothing)
            .passes(1, blocks(2..=2, 512))
            .passes(599, Gets::Nothing)
            .passes(1, blocks(2..=2, 512))
            .passes(1200, blocks(2..=2, 512))
            .passes(2400, blocks(2..=2, 512))
            .passes(4800, blocks(2..=2, 512))
            .passes(20_600, Gets::Nothing)
            .passes(100, Gets::Over("timed_out")),
        case("4 I", "before anything was measured the first wait is a second; who never answers gets three packets, no more")
            .asks(rrq("ipxe.efi", &[]), blocks(1..=1, 512))
            .passes(999, Gets::Nothing)
            .passes(1, blocks(1..=1, 512))
            .passes(2000, blocks(1..=1, 512))
            .passes(11_999, Gets::Nothing)
            .passes(1, Gets::Over("timed_out")),
        case("4 I", "options that nobody acknowledges are told three times")
            .asks(rrq("ipxe.efi", &[("timeout", "255")]), oack(&[("timeout", "255")]))
            .passes(3000, oack(&[("timeout", "255")]))
            .passes(3000, oack(&[("timeout", "255")]))
            .passes(8999, Gets::Nothing)
            .passes(1, Gets::Over("timed_out")),
        case("4 I", "the request again gets the answer again, and no second transfer")
            .asks(rrq("ipxe.efi", &[("tsize", "0")]), oack(&[("tsize", "10000")]))
            .asks(rrq("ipxe.efi", &[("tsize", "0")]), Gets::Ignored("asked_again"))
            .passes(500, Gets::Nothing)
            .asks(rrq("ipxe.efi", &[("tsize", "0")]), oack(&[("tsize", "10000")]))
            .acknowledges(0, blocks(1..=1, 512))
            .asks(rrq("ipxe.efi", &[("tsize", "0")]), Gets::Ignored("asked_again"))
            .acknowledges(1, blocks(2..=2, 512)),
        case("4 I", "who was heard and asks for the same a second later began anew")
            .asks(rrq("ipxe.efi", &[("tsize", "0")]), oack(&[("tsize", "10000")]))
            .passes(10, Gets::Nothing)
            .acknowledges(0, blocks(1..=1, 512))
            .acknowledges(1, blocks(2..=2, 512))
            .passes(250, blocks(2..=2, 512))
            .passes(500, blocks(2..=2, 512))
            .passes(300, Gets::Nothing)
            .asks(rrq("ipxe.efi", &[("tsize", "0")]), oack(&[("tsize", "10000")])),
        case("4 I", "who asks for the same when its last block was sent begins anew, whether that was acknowledged or not")
            .asks(rrq("even", &[]), one(block(1, &loader()[..512])))
            .acknowledges(1, one(block(2, &loader()[512..1024])))
            .asks(rrq("even", &[]), Gets::Ignored("asked_again"))
            .acknowledges(2, one(block(3, b"")))
            .asks(rrq("even", &[]), one(block(1, &loader()[..512]))),
        case("RFC 1350", "a request for something else from the same port ends the one before it")
            .asks(rrq("ipxe.efi", &[]), blocks(1..=1, 512))
            .asks(rrq("default", &[]), one(block(1, b"#!ipxe\nreboot\n")))
            .acknowledges(1, Gets::Over("read"))
            .passes(60_000, Gets::Nothing),
    ]
}

fn ends() -> Vec<Case> {
    vec![
        case(
            "4 I",
            "a firmware that asks for the size and aborts gets nothing more, and then its file from the same port",
        )
        .asks(
            rrq("ipxe.efi", &[("tsize", "0"), ("blksize", "1468")]),
            oack(&[("blksize", "1468"), ("tsize", "10000")]),
        )
        .says(ABORT, Gets::Over("aborted"))
        .acknowledges(0, Gets::Ignored("no_transfer"))
        .passes(60_000, Gets::Nothing)
        .asks(rrq("ipxe.efi", &[("blksize", "1468")]), oack(&[("blksize", "1468")]))
        .acknowledges(0, blocks(1..=1, 1468)),
        case(
            "RFC 1350",
            "an ERROR within a file ends it, whatever its number and its text are",
        )
        .asks(rrq("ipxe.efi", &[]), blocks(1..=1, 512))
        .says(b"\0\x05", Gets::Over("aborted")),
        case(
            "RFC 1350",
            "what is no packet of a reader changes nothing on a transfer's port",
        )
        .asks(rrq("ipxe.efi", &[]), blocks(1..=1, 512))
        .says(b"", Gets::Ignored("too_short"))
        .says(b"\0\x04\0", Gets::Ignored("too_short"))
        .says(b"\0\x03\0\x01data", Gets::Ignored("opcode"))
        .says(&rrq("default", &[]), Gets::Ignored("not_for_transfer"))
        .says(b"\0\x04\0\x01and more", blocks(2..=2, 512)),
        case(
            "RFC 1350",
            "acknowledgements and errors where the server listens are of no transfer, and not answered",
        )
        .asks(b"\0\x04\0\x01".to_vec(), Gets::Ignored("no_transfer"))
        .asks(ABORT.to_vec(), Gets::Ignored("no_transfer")),
        case("4 I", "what is no packet at all is not answered")
            .asks(vec![], Gets::Ignored("too_short"))
            .asks(vec![0], Gets::Ignored("too_short"))
            .asks(b"\0\x06blksize\x008\0".to_vec(), Gets::Ignored("opcode"))
            .asks(b"GET / HTTP/1.1".to_vec(), Gets::Ignored("opcode")),
        case("4 I", "a request that has no end is error 4")
            .asks(b"\0\x01ipxe.efi".to_vec(), Gets::Refused(4, "unterminated_request"))
            .asks(
                b"\0\x01ipxe.efi\0octet".to_vec(),
                Gets::Refused(4, "unterminated_request"),
            ),
        case(
            "4 I",
            "more transfers of a client than its share are error 0, and the next one may begin when one ended",
        )
        .asks_from(1, rrq("ipxe.efi", &[]), blocks(1..=1, 512))
        .acknowledges(1, blocks(2..=2, 512))
        .asks_from(2, rrq("ipxe.efi", &[]), blocks(1..=1, 512))
        .acknowledges(1, blocks(2..=2, 512))
        .asks_from(3, rrq("ipxe.efi", &[]), blocks(1..=1, 512))
        .acknowledges(1, blocks(2..=2, 512))
        .asks_from(4, rrq("empty", &[]), Gets::Refused(0, "too_many_reads_of_client"))
        .says(ABORT, Gets::Over("aborted"))
        .asks_from(4, rrq("empty", &[]), one(block(1, b""))),
        case(
            "4 I",
            "of a client that has its share, those that were never heard make room",
        )
        .asks_from(1, rrq("ipxe.efi", &[]), blocks(1..=1, 512))
        .acknowledges(1, blocks(2..=2, 512))
        .asks_from(2, rrq("empty", &[]), one(block(1, b"")))
        .asks_from(3, rrq("empty", &[]), one(block(1, b"")))
        .asks_from(4, rrq("empty", &[]), one(block(1, b"")))
        .asks_from(5, rrq("ipxe.efi", &[]), blocks(1..=1, 512)),
        case("4 I", "more transfers than there are places are error 0")
            .limits(|limits| limits.reads = 2)
            .asks_from(1, rrq("ipxe.efi", &[]), blocks(1..=1, 512))
            .acknowledges(1, blocks(2..=2, 512))
            .asks_from(2, rrq("ipxe.efi", &[]), blocks(1..=1, 512))
            .acknowledges(1, blocks(2..=2, 512))
            .asks_from(3, rrq("empty", &[]), Gets::Refused(0, "too_many_reads")),
        case(
            "4 I",
            "who was never heard makes room for others, who asked first before who asked last",
        )
        .limits(|limits| limits.reads = 2)
        .asks_from(1, rrq("ipxe.efi", &[]), blocks(1..=1, 512))
        .asks_from(2, rrq("ipxe.efi", &[]), blocks(1..=1, 512))
        .asks_from(3, rrq("ipxe.efi", &[]), blocks(1..=1, 512))
        .acknowledges(1, blocks(2..=2, 512))
        // The second one goes for the fourth, and the third one was heard.
        .asks_from(4, rrq("ipxe.efi", &[]), blocks(1..=1, 512))
        .acknowledges(1, blocks(2..=2, 512))
        .asks_from(5, rrq("ipxe.efi", &[]), Gets::Refused(0, "too_many_reads")),
    ]
}

#[test]
fn every_packet_gets_what_it_should() {
    let all = [names(), plain(), options(), windows(), repetitions(), ends()];
    let (mut count, mut told) = (0, String::new());
    for case in all.into_iter().flatten() {
        count += 1;
        let (rule, says) = (case.rule, case.says);
        for wrong in case.run() {
            let _ = writeln!(told, "{rule}: {says}: {wrong}");
        }
    }
    assert!(told.is_empty(), "\n{told}");
    assert!(count >= 50, "{count} cases");
}

#[test]
fn a_thousand_requests_a_second_from_one_port_are_one_transfer_and_few_answers() {
    let limits = Limits {
        reads: 100,
        each: 100,
        blksize: 1468,
        windowsize: 16,
        ports: Ports::Own,
    };
    let mut server = Rehearsal::new(Files::of(files()), limits);
    let mut answers = 0;
    for _ in 0..5000 {
        let outcome = server.asks(client(2000), &rrq("ipxe.efi", &[]));
        answers += u32::from(matches!(outcome, Outcome::Sent(..)));
        answers += server.passes(Duration::from_millis(1)).len() as u32;
        assert_eq!(server.count(), 1);
    }
    assert!((40..=60).contains(&answers), "{answers}");
    // For something else each time, each gets its answer, and still there is one.
    for number in 0..1000 {
        let name = ["even", "ipxe.efi"][number % 2];
        assert!(matches!(server.asks(client(2000), &rrq(name, &[])), Outcome::Sent(..)));
        assert_eq!(server.count(), 1);
    }
    server.passes(Duration::from_secs(60));
    assert_eq!((server.count(), server.ended.len()), (0, 1001));
}

/// What a server says that has few places.
fn cramped(reads: usize, ports: Ports) -> Rehearsal {
    let limits = Limits {
        reads,
        each: 100,
        blksize: 1468,
        windowsize: 16,
        ports,
    };
    Rehearsal::new(Files::of(files()), limits)
}

/// Asks, and says that the first block came.
fn begins(server: &mut Rehearsal, peer: SocketAddr) -> u64 {
    let Outcome::Sent(id, _) = server.asks(peer, &rrq("ipxe.efi", &[])) else {
        panic!("not sent");
    };
    assert!(matches!(server.says(id, b"\0\x04\0\x01"), Outcome::Sent(..)));
    id
}

#[test]
fn a_request_that_somebody_forged_ends_no_transfer_and_the_clients_own_does_when_it_is_heard() {
    let mut server = cramped(100, Ports::Own);
    let first = begins(&mut server, client(1));
    assert!(matches!(
        server.asks(client(1), &rrq("unknown", &[])),
        Outcome::Refused(..)
    ));
    for name in ["even", "empty", "even"] {
        assert!(matches!(server.asks(client(1), &rrq(name, &[])), Outcome::Sent(..)));
        assert_eq!(server.count(), 2);
    }
    // Nobody goes on with what was forged; the transfer goes on.
    server.passes(Duration::from_secs(16));
    assert_eq!(server.count(), 1);
    assert!(matches!(server.says(first, b"\0\x04\0\x02"), Outcome::Sent(..)));
    let Outcome::Sent(second, _) = server.asks(client(1), &rrq("even", &[])) else {
        panic!("not sent");
    };
    assert_eq!(server.of(client(1)), Some(second));
    assert!(matches!(server.says(second, b"\0\x04\0\x01"), Outcome::Sent(..)));
    assert_eq!(server.count(), 1);
    let last = server.ended.last().unwrap();
    assert_eq!((last.id, last.how), (first, End::Replaced));
    assert_eq!(last.farewell, None);
}

#[test]
fn where_all_speak_from_one_port_a_request_for_something_else_ends_the_transfer_at_once() {
    let mut server = cramped(100, Ports::Shared);
    let first = begins(&mut server, client(1));
    assert!(matches!(
        server.asks(client(1), &rrq("unknown", &[])),
        Outcome::Refused(..)
    ));
    assert_eq!(server.of(client(1)), Some(first));
    assert!(matches!(server.asks(client(1), &rrq("even", &[])), Outcome::Sent(..)));
    assert_eq!((server.count(), server.ended.last().unwrap().id), (1, first));
}

#[test]
fn whoever_holds_all_places_and_does_nothing_with_them_keeps_nobody_out() {
    let mut server = cramped(4, Ports::Own);
    let held: Vec<u64> = (1..=4).map(|port| begins(&mut server, client(port))).collect();
    assert!(matches!(
        server.asks(client(5), &rrq("even", &[])),
        Outcome::Refused("too_many_reads", _)
    ));
    // One word each few seconds.
    for block in 2..=4 {
        server.passes(Duration::from_secs(3));
        for id in &held {
            server.says(*id, &[0, 4, 0, block]);
        }
    }
    for (number, port) in (5..=8).enumerate() {
        begins(&mut server, client(port));
        let last = server.ended.last().unwrap();
        assert_eq!(last.how, End::Displaced);
        assert!(held.contains(&last.id), "{number}");
        assert_eq!(last.farewell.as_ref().unwrap()[..4], [0, 5, 0, 0]);
    }
    // Who has just begun keeps its place, and may ask for something else.
    assert!(matches!(
        server.asks(client(9), &rrq("even", &[])),
        Outcome::Refused("too_many_reads", _)
    ));
    assert!(matches!(server.asks(client(8), &rrq("even", &[])), Outcome::Sent(..)));
    assert_eq!(server.count(), 4);
}
