//! The DHCP core by itself: what a packet of a node costs from its bytes to the bytes of its answer, without sockets, logs and counters.
//!
//! Ten thousand nodes ask in turn, so that the inventory's tables are as cold as they are in a rack that powers on. Nothing is compared;
//! the aim is 2 us and no heap but the reply's buffer.

use std::hint::black_box;

use anyhow::{Result, ensure};
use bootd::dhcp::v4::answer::{Verdict, answer};
use bootd::dhcp::v4::encode::encode;
use bootd::dhcp::v4::policy::{Policy, Receiving};
use bootd::dhcp::v4::request::parse;
use bootd::inventory::{Snapshot, Told};

use super::{Table, allocations, median, shown, site, timed};

/// Runs it.
pub fn run() -> Result<Table> {
    let core = Core::new()?;
    let mut table = Table::new(
        format!(
            "dhcp-core: a packet of one of {} known nodes, parse + decide + encode",
            site::NODES
        ),
        &["packet", "time", "heap allocations", "bytes of the answer"],
    );
    for (name, kind) in [
        ("UEFI firmware, DISCOVER", Kind::Firmware),
        ("iPXE, DISCOVER", Kind::Ipxe),
        ("Linux, REQUEST", Kind::Linux),
    ] {
        let packets: Vec<Vec<u8>> = (0..site::NODES).map(|n| packet(kind, n)).collect();
        let mut answer = Vec::with_capacity(1024);
        ensure!(core.answer(&packets[7], &mut answer), "{name}: no answer");
        let bytes = answer.len();
        let all = |answer: &mut Vec<u8>| {
            packets
                .iter()
                .for_each(|packet| _ = black_box(core.answer(packet, answer)))
        };
        let taken = allocations::during(|| all(&mut answer));
        let each = median(|| timed(|| all(&mut answer))) / site::NODES;
        let allocations = taken as f64 / f64::from(site::NODES);
        table.row([name.into(), shown(each), format!("{allocations}"), bytes.to_string()]);
    }
    Ok(table)
}

/// What decides about packets.
pub struct Core {
    policy: Policy,
    snapshot: std::sync::Arc<Snapshot>,
    receiving: Receiving,
}

impl Core {
    /// For the nodes of the site.
    pub fn new() -> Result<Self> {
        let inventory = site::inventory(None)?;
        let publication: Told = serde_json::from_str(&site::publication("On"))?;
        let report = inventory.publish("smd", publication)?;
        ensure!(report.refused.is_empty(), "{:?}", report.refused.first());
        Ok(Self {
            policy: Policy::new(&site::config()?),
            snapshot: inventory.snapshot(),
            receiving: receiving(),
        })
    }

    /// Whether there is an answer, which is in `buffer` then.
    pub fn answer(&self, packet: &[u8], buffer: &mut Vec<u8>) -> bool {
        answered(&self.policy, &self.snapshot, &self.receiving, packet, buffer)
    }
}

/// One packet through the core.
pub fn answered(
    policy: &Policy,
    snapshot: &Snapshot,
    receiving: &Receiving,
    packet: &[u8],
    buffer: &mut Vec<u8>,
) -> bool {
    let Ok(request) = parse(packet) else { return false };
    match answer(&request, policy, snapshot, receiving) {
        Verdict::Reply(reply) => encode(&reply, buffer),
        _ => return false,
    }
    true
}

/// The interface on which bootd is.
pub fn receiving() -> Receiving {
    Receiving {
        addresses: vec![site::SERVER],
        link: None,
    }
}

/// Who sends a packet.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A PXE client.
    Firmware,
    /// iPXE.
    Ipxe,
    /// An operating system that knows its address.
    Linux,
}

/// A packet of node `n`, as EDK II, iPXE and a DHCP client of Linux send them.
pub fn packet(kind: Kind, n: u32) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    packet[4..8].copy_from_slice(&n.to_be_bytes());
    packet[10] = 0x80;
    packet[28..34].copy_from_slice(&site::mac(n));
    packet[236..].copy_from_slice(&[99, 130, 83, 99]);
    let mut option = |code: u8, value: &[u8]| {
        packet.extend_from_slice(&[code, value.len() as u8]);
        packet.extend_from_slice(value);
    };
    let uuid: [u8; 17] = std::array::from_fn(|i| i as u8);
    match kind {
        Kind::Firmware => {
            option(53, &[1]);
            option(57, &[0x05, 0xc0]);
            option(
                55,
                &[
                    1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67,
                    97, 128, 129, 130, 131, 132, 133, 134, 135,
                ],
            );
            option(97, &uuid);
            option(94, &[1, 3, 16]);
            option(93, &[0, 7]);
            option(60, b"PXEClient:Arch:00007:UNDI:003016");
        }
        Kind::Ipxe => {
            option(53, &[1]);
            option(57, &[0x05, 0xc0]);
            option(93, &[0, 7]);
            option(94, &[1, 3, 16]);
            option(60, b"PXEClient:Arch:00007:UNDI:003016");
            option(77, b"iPXE");
            option(
                55,
                &[
                    1, 3, 6, 7, 12, 15, 17, 26, 43, 60, 66, 67, 119, 128, 129, 130, 131, 132, 133, 134, 135, 175, 203,
                ],
            );
            option(
                175,
                &[177, 5, 1, 0x80, 0x86, 0x10, 0x0e, 235, 3, 1, 0, 0, 23, 1, 1, 34, 1, 1],
            );
            option(61, &[1, 2, 0, 0, 0, 0, 1]);
            option(97, &uuid);
        }
        Kind::Linux => {
            option(53, &[3]);
            option(
                61,
                &[
                    255, 0, 0, 0, 1, 0, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
                ],
            );
            option(50, &site::ip(n).octets());
            option(54, &site::SERVER.octets());
            option(57, &[0x05, 0xc0]);
            option(55, &[1, 3, 6, 12, 15, 26, 28, 33, 42, 51, 54, 58, 59, 121]);
            option(12, b"localhost");
        }
    }
    packet.push(255);
    packet
}
