//! What the fuzzer does with TFTP, and what must hold whatever its bytes are: what is sent is of the file, it is no more than a window, one
//! packet until the client was heard, nothing when the transfer is over; and every transfer ends.
//!
//! The target and the replay of the corpus by `cargo test` share this; it panics at a finding.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bootd::tftp::Files;
use bootd::tftp::engine::{End, Limits, Ports};
use bootd::tftp::rehearsal::{Outcome, Rehearsal};
use bootd::tftp::request::{Mode, Packet, Request};

/// A conversation by TFTP: packets, each behind four bytes: from which port and whether to its transfer, the time that passes before it in
/// quarters of a second, and its length. A length that is too much means all that is left.
pub(crate) fn conversation(mut bytes: &[u8]) {
    let files = [
        ("ipxe.efi", (0..5000_u32).map(|n| (n % 251) as u8).collect::<Vec<u8>>()),
        ("text", b"one\ntwo\r\n\n\rthree\n".repeat(50)),
        ("empty", Vec::new()),
    ];
    let limits = Limits {
        reads: 5,
        each: 3,
        blksize: 1468,
        windowsize: 16,
        ports: Ports::Own,
    };
    let mut server = Rehearsal::new(Files::of(files.clone()), limits);
    let mut readings: BTreeMap<u64, Reading> = BTreeMap::new();
    while let [from, time, high, low, rest @ ..] = bytes {
        for outcome in server.passes(Duration::from_millis(250) * u32::from(*time)) {
            look(&mut readings, &outcome);
        }
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (packet, next) = rest.split_at(length);
        bytes = next;
        let peer = SocketAddr::from(([10, 0, 0, from >> 1 & 1], 2000 + u16::from(from >> 2 & 3)));
        let transfer = server.of(peer).filter(|_| from & 1 == 1);
        let outcome = match transfer {
            Some(id) => {
                if let (Ok(Packet::Acknowledgement(_)), Some(reading)) = (Packet::read(packet), readings.get_mut(&id)) {
                    reading.heard = true;
                }
                server.says(id, packet)
            }
            None => {
                let outcome = server.asks(peer, packet);
                if let (Outcome::Sent(id, _), Ok(Packet::Read(request))) = (&outcome, Packet::read(packet)) {
                    readings.entry(*id).or_insert_with(|| Reading::of(&request, &files));
                }
                outcome
            }
        };
        look(&mut readings, &outcome);
        for ended in server.ended.drain(..) {
            let reading = readings
                .remove(&ended.id)
                .unwrap_or_else(|| panic!("{ended:?} never began"));
            let all = ended.how == End::Done;
            assert!(!all || ended.bytes == reading.content.len() as u64, "{ended:?}");
        }
        assert_eq!(server.count(), readings.len());
        assert!(server.count() <= limits.reads);
    }
    for outcome in server.passes(Duration::from_secs(600)) {
        look(&mut readings, &outcome);
    }
    assert_eq!(server.count(), 0, "a transfer without end");
}

/// A transfer of the fuzzer's.
struct Reading {
    content: Vec<u8>,
    blksize: usize,
    heard: bool,
}

impl Reading {
    fn of(request: &Request, files: &[(&str, Vec<u8>)]) -> Self {
        let name = request.name.replace('\\', "/");
        let segments = name.split('/').filter(|segment| !matches!(*segment, "" | "."));
        let name = segments.collect::<Vec<_>>().join("/");
        let file = files.iter().find(|(known, _)| *known == name);
        let (_, content) = file.unwrap_or_else(|| panic!("there is no {name}"));
        let content = match request.mode {
            Mode::Octet => content.clone(),
            Mode::Netascii => {
                let text = content.iter().flat_map(|byte| match byte {
                    b'\n' => vec![b'\r', b'\n'],
                    b'\r' => vec![b'\r', 0],
                    other => vec![*other],
                });
                text.collect()
            }
        };
        Self {
            content,
            blksize: 512,
            heard: false,
        }
    }
}

/// What holds for everything that TFTP sends.
fn look(readings: &mut BTreeMap<u64, Reading>, outcome: &Outcome) {
    let (id, packets) = match outcome {
        Outcome::Sent(id, packets) => (id, packets),
        Outcome::Refused(_, packet) => {
            assert!(packet.starts_with(&[0, 5, 0]) && packet.ends_with(&[0]), "{packet:?}");
            assert!(packet.len() < 60);
            return;
        }
        Outcome::Ignored(_) | Outcome::Silence => return,
    };
    let reading = readings
        .get_mut(id)
        .unwrap_or_else(|| panic!("{id} is over, and sends"));
    assert!((1..=if reading.heard { 16 } else { 1 }).contains(&packets.len()));
    for packet in packets {
        assert!(packet.len() <= 1472);
        match &packet[..] {
            [0, 6, options @ ..] => {
                let words: Vec<&[u8]> = options.split(|byte| *byte == 0).collect();
                for pair in words.chunks_exact(2) {
                    let value: usize = std::str::from_utf8(pair[1]).unwrap_or_default().parse().unwrap_or(0);
                    match pair[0] {
                        b"blksize" => {
                            assert!((8..=1468).contains(&value));
                            reading.blksize = value;
                        }
                        b"tsize" => assert_eq!(value, reading.content.len()),
                        b"timeout" => assert!((1..=255).contains(&value)),
                        b"windowsize" => assert!((1..=16).contains(&value)),
                        other => panic!("{other:?} is granted"),
                    }
                }
            }
            [0, 3, high, low, data @ ..] => {
                let block = usize::from(u16::from_be_bytes([*high, *low]));
                let from = (block - 1) * reading.blksize;
                let until = reading.content.len().min(from + reading.blksize);
                assert_eq!(data, &reading.content[from..until], "block {block}");
            }
            other => panic!("{other:?} is sent"),
        }
    }
}
