//! The text of boot scripts.
//!
//! Pure: parameters, a node and a request in, an iPXE script out. Promises that stored text and a client's query cannot add a line or a command
//! to a script. Kernel arguments stay byte for byte but for what the contract adds and takes away, URLs that are led here, and words that iPXE
//! would take for its own; nothing is ever escaped as if for HTML. `${name}` is iPXE's, and stays.

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Node;

use crate::entry::Config;
use crate::lead::Lead;
use crate::waits;

/// Who a script is for, as the request says it. Checked: each is one word.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Key {
    Mac(Mac),
    Name(String),
    Nid(u64),
}

impl Key {
    /// As a query has it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Mac(mac) => format!("mac={mac}"),
            Self::Name(name) => format!("name={name}"),
            Self::Nid(nid) => format!("nid={nid}"),
        }
    }
}

/// What all scripts of a request share.
pub(crate) struct Script<'a> {
    /// The longest wait after a boot that failed, in seconds.
    pub(crate) retry_delay: u32,
    /// Seconds until a node that may not boot asks again.
    pub(crate) poll_delay: u32,
    /// Where cloud-init is, when parameters do not say.
    pub(crate) advertise: Option<&'a str>,
    /// How URLs are led here, and where the node asks again.
    pub(crate) lead: Lead<'a>,
}

/// What a node boots, as it gets it.
pub(crate) struct Boot {
    pub(crate) kernel: String,
    /// Empty: none.
    pub(crate) initrd: String,
    /// The kernel's arguments.
    pub(crate) arguments: String,
}

impl Script<'_> {
    /// What is booted. `mac`: the address that asks. `node`: `None` for who is not known.
    pub(crate) fn resolved(&self, config: &Config, node: Option<&Node>, mac: Option<Mac>) -> Boot {
        let led = |text: &str| words_for_ipxe(&self.lead.led(text));
        Boot {
            kernel: led(&config.kernel),
            initrd: led(&config.initrd),
            arguments: led(&self.arguments(config, node, mac)),
        }
    }

    /// Boots it, and asks again by `again` when that fails; `retry` times it failed already.
    pub(crate) fn boot(&self, boot: &Boot, again: &Key, retry: u32) -> String {
        let Boot {
            kernel,
            initrd,
            arguments,
        } = boot;
        let mut script = format!("#!ipxe\nkernel --name kernel {kernel} {arguments} || goto boot_retry\n");
        if !initrd.is_empty() {
            script.push_str(&format!("initrd --name initrd {initrd} || goto boot_retry\n"));
        }
        script.push_str(&format!(
            "boot || goto boot_retry\n:boot_retry\nsleep {}\nchain {}&retry={}\n\n",
            waits::wait(self.retry_delay, retry, &again.text()),
            self.again(again),
            retry.saturating_add(1),
        ));
        script
    }

    /// Waits, and asks again with the architecture that iPXE was built for.
    pub(crate) fn poll(&self, key: &Key, now: u64) -> String {
        let (delay, again) = (self.poll_delay, self.again(key));
        format!("#!ipxe\nsleep {delay}\nchain {again}&arch=${{buildarch}}&ts={now}\n")
    }

    fn again(&self, key: &Key) -> String {
        format!("{}/boot/v1/bootscript?{}", self.lead.base, key.text())
    }

    /// The kernel's arguments: those of the config, and what is known of the node where the config does not say it.
    fn arguments(&self, config: &Config, node: Option<&Node>, mac: Option<Mac>) -> String {
        let params = one_line(&config.params);
        let mut line = if config.initrd.is_empty() {
            params.trim().to_owned()
        } else {
            format!("initrd=initrd {}", without_initrd(&params).trim())
        };
        // A client that is not known has no name, number or interface that a system could go by (contract 3.3).
        let additions = [
            node.map(|node| ("xname=", node.id.clone())),
            node.and_then(|node| node.nid).map(|nid| ("nid=", nid.to_string())),
            node.and(mac)
                .map(|mac| ("BOOTIF=", format!("01-{}", mac.to_string().replace(':', "-")))),
            self.advertise
                .map(|at| ("ds=", format!("nocloud-net;s={}/", at.trim_end_matches('/')))),
        ];
        for (name, value) in additions.into_iter().flatten() {
            if !line.split_whitespace().any(|word| word.starts_with(name)) {
                line.push_str(&format!(" {name}{value}"));
            }
        }
        line.trim().to_owned()
    }
}

/// A line break within parameters would begin a command of its own.
fn one_line(params: &str) -> String {
    let fold = |c: char| if c.is_control() && c != '\t' { ' ' } else { c };
    params.chars().map(fold).collect()
}

/// iPXE ends a command at the words `||`, `&&` and `;`, and at a word that begins with `#`. It looks for them before it expands settings, so
/// an empty setting within such a word hides it, and the kernel gets it as it was.
fn words_for_ipxe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(char::is_whitespace) {
        let word = part.trim_end();
        match word {
            "||" | "&&" | ";" => {
                let (first, rest) = part.split_at(1);
                out.push_str(first);
                out.push_str(NOTHING);
                out.push_str(rest);
            }
            _ => {
                if word.starts_with('#') {
                    out.push_str(NOTHING);
                }
                out.push_str(part);
            }
        }
    }
    out
}

/// A setting of iPXE that has no value.
const NOTHING: &str = "${}";

/// Takes out each word that begins with `initrd=`, and the white space before it.
fn without_initrd(params: &str) -> String {
    let mut out = String::with_capacity(params.len());
    let mut rest = params;
    while !rest.is_empty() {
        let gap = rest.len() - rest.trim_start().len();
        let word = rest[gap..]
            .find(char::is_whitespace)
            .map_or(rest.len(), |end| gap + end);
        if !rest[gap..word].starts_with("initrd=") {
            out.push_str(&rest[..word]);
        }
        rest = &rest[word..];
    }
    out
}
