//! What bootd decided about a packet, kept with it and put into words when somebody looks.

use std::fmt;

use crate::boots::event::{Gets, Outcome, State};
use crate::dhcp::Stage as Asker;

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Of a DHCP message.
    Dhcp(Asker, Outcome),
    /// Of a file that was asked for by TFTP.
    File(State),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gets = |f: &mut fmt::Formatter<'_>, word: &str, gets: &Gets| {
            let file = if gets.boot_file { "with" } else { "without" };
            write!(f, "{word} {} {file} a boot file", gets.ip)?;
            match gets.note {
                Some(note) => write!(f, " ({note})"),
                None => Ok(()),
            }
        };
        match self {
            Self::Dhcp(asker, outcome) => {
                write!(f, "bootd: {}: ", asker.name())?;
                match outcome {
                    Outcome::Offered(offered) => gets(f, "offered", offered),
                    Outcome::Has(has) => gets(f, "acknowledged", has),
                    Outcome::Refused(label) => write!(f, "refused: {label}"),
                    Outcome::OtherServer(Some(server)) => write!(f, "left to the server {server}"),
                    Outcome::OtherServer(None) => f.write_str("left to another server"),
                    Outcome::Silence(label) => write!(f, "not answered: {label}"),
                }
            }
            Self::File(State::UnderWay) => f.write_str("bootd: a transfer begins"),
            Self::File(State::Done) => f.write_str("bootd: the client has all of it"),
            Self::File(State::Aborted) => f.write_str("bootd: the client wants no more"),
            Self::File(State::Broken) => f.write_str("bootd: it ended before its end"),
            Self::File(State::Refused(status)) => write!(f, "bootd: refused, {status}"),
        }
    }
}
