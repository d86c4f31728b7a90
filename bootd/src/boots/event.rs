//! What the parts that answer nodes tell the timelines: small facts, made where a packet or a request is answered.
//!
//! Telling never waits: [`Watch`](super::Watch) takes events from threads that answer packets. An event names its client by what that part knows
//! of it, a hardware address or an IP address; who that is, is found out later, by [`Book`](super::Book).

use std::net::{IpAddr, Ipv4Addr};

use bootd_sdk::mac::Mac;
use bytes::Bytes;
use smallvec::SmallVec;

use crate::capture::{Packet, Whose};
use crate::config::Arch;
use crate::dhcp::Stage as Asker;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A DHCP message was dealt with.
    Dhcp(Dhcp),
    /// A loader, or a generated script, by TFTP or from `/loaders`.
    Loader(IpAddr, Transfer),
    /// A boot script was asked for.
    Script(IpAddr, Asked),
    /// An object of a bucket.
    Object(IpAddr, Transfer),
    /// A document of cloud-init, or phone-home.
    Document(IpAddr, Asked),
    /// A packet, or the head of a request or an answer, for the capture.
    Packet(Whose, Packet),
}

/// A DHCP message of either family, and what became of it.
#[derive(Debug, Clone)]
pub struct Dhcp {
    /// The client's hardware address.
    pub mac: Mac,
    /// DHCPv6.
    pub six: bool,
    /// The transaction.
    pub xid: u32,
    /// Firmware, iPXE or an operating system.
    pub asker: Asker,
    /// The message begins an exchange: DISCOVER, SOLICIT.
    pub begins: bool,
    /// The client keeps what it has: it renews or rebinds.
    pub renews: bool,
    /// The relay, when there is one.
    pub relay: Option<IpAddr>,
    /// What became of it.
    pub outcome: Outcome,
    /// Of messages that begin an exchange of firmware.
    pub hints: Option<Box<Hints>>,
}

/// What becomes of a DHCP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An address was offered; with DHCPv6 advertised.
    Offered(Gets),
    /// The client has an address.
    Has(Gets),
    /// It was told to begin again.
    Refused(&'static str),
    /// It wants the address of another server.
    OtherServer(Option<Ipv4Addr>),
    /// Nothing was answered; the label of the reason, as in the metrics.
    Silence(&'static str),
}

/// What an answer gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gets {
    /// The address.
    pub ip: IpAddr,
    /// There is a boot file in it.
    pub boot_file: bool,
    /// Why there is none.
    pub note: Option<&'static str>,
}

/// What firmware says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// Option 93 as a number.
    pub arch: Option<u16>,
    /// The same, when a loader is known for it.
    pub known: Option<Arch>,
    /// Option 60, 64 bytes at most.
    pub vendor_class: SmallVec<[u8; 36]>,
    /// Option 97, 17 bytes at most.
    pub machine_id: SmallVec<[u8; 17]>,
}

/// Bytes on their way to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The name of a loader, or the path of an object.
    pub name: Box<str>,
    /// Bytes that left so far, of this transfer.
    pub sent: u64,
    /// Bytes of the whole answer, when they are known.
    pub of: Option<u64>,
    /// How far it is.
    pub state: State,
    /// `User-Agent`; empty where there is none.
    pub agent: Box<str>,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It begins, or goes on.
    UnderWay,
    /// The client has all of it.
    Done,
    /// The client wanted no more: ordinary for firmware that asks for the size first.
    Aborted,
    /// It ended before its end.
    Broken,
    /// There is none: the status of HTTP; 404 also for what TFTP does not have.
    Refused(u16),
}

/// A document that a node asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The path.
    pub path: Box<str>,
    /// The hardware address in the query, of a boot script.
    pub mac: Option<Mac>,
    /// The answer's status.
    pub status: u16,
    /// What was answered; empty when it is no text that says something about the boot.
    pub body: Bytes,
    /// `User-Agent`; empty where there is none.
    pub agent: Box<str>,
}
