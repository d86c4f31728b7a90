//! What goes back to a client, before it is bytes.
//!
//! A reply only borrows: from the packet that it answers, the configuration and the inventory. Pure.

use std::net::Ipv6Addr;

use bootd_sdk::mac::Mac;
use dhcproto::v6::{MessageType, Status};
use smallvec::SmallVec;

use super::request::{Ia, Request};
use crate::config::{RuleLog, Subnet6};
use crate::dhcp::rules::{Name, Said};
use crate::dhcp::v4::boot::Booting;

/// The kind of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// An address that may be had.
    Advertise,
    /// An address that is had, or the answer to anything else.
    Reply,
}

impl ReplyKind {
    /// What it is called in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Advertise => "advertise",
            Self::Reply => "reply",
        }
    }

    /// The message type.
    pub(super) fn message_type(self) -> MessageType {
        match self {
            Self::Advertise => MessageType::Advertise,
            Self::Reply => MessageType::Reply,
        }
    }
}

/// A reply. It goes where the packet came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Advertise or reply.
    pub kind: ReplyKind,
    /// What it answers; much of that comes back as it came.
    pub request: &'a Request<'a>,
    /// Option 2.
    pub server_id: &'a [u8],
    /// The client's hardware address, when it is known.
    pub mac: Option<Mac>,
    /// The xname, when the inventory knows the client.
    pub xname: Option<&'a str>,
    /// The client's address, when it gets one.
    pub ip: Option<Ipv6Addr>,
    /// Option 13 of the message itself.
    pub status: Option<Status>,
    /// What becomes of identity associations, in the client's order.
    pub ias: SmallVec<[(Ia<'a>, Said6); 2]>,
    /// What the client is given beside addresses; answers with a status give nothing.
    pub grant: Option<Grant<'a>>,
    /// The client said that somebody else uses its address.
    pub conflict: bool,
}

/// What is said about an identity association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said6 {
    /// It has this address for so many seconds; others that the client wants to keep in it are over.
    Has(Ipv6Addr, u32),
    /// It has none, and why.
    Nothing(Status),
}

/// What an answer gives beside addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant<'a> {
    /// Where the client is; its options are of everybody there.
    pub subnet: &'a Subnet6,
    /// What rules say.
    pub said: Said<'a>,
    /// What it says about booting.
    pub booting: Booting<'a>,
    /// The value of option 60, with a boot file for who lists it; empty when there is none.
    pub boot_params: &'a [u8],
    /// Option 39: the client's name, for who asks for it.
    pub name: Option<Name<'a>>,
    /// Option 7.
    pub preference: Option<u8>,
}

impl Reply<'_> {
    /// The last rule that fits and is to be told of.
    pub fn rule(&self) -> Option<&str> {
        let mut rules = self.grant.iter().flat_map(|grant| grant.said.rules.iter().rev());
        let told = rules.find(|rule| rule.log == RuleLog::Info);
        told.map(|rule| rule.name.as_str())
    }
}
