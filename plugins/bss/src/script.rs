//! The text of boot scripts.
//!
//! Pure: parameters, a node and a request in, an iPXE script out. Promises that stored text and a client's query cannot add a line to a
//! script. Kernel arguments stay byte for byte but for what the contract adds and takes away, and URLs that are led here.

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::{Node, Rewrite, rewrite};

use crate::params::Entry;

/// Who a script is for, as the request says it. Checked: each is one word.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Key {
    Mac(Mac),
    Name(String),
    Nid(u64),
}

/// What all scripts of a request share.
pub(crate) struct Script<'a> {
    /// Scheme and host by which the node asks again.
    pub(crate) base: String,
    /// Seconds after a boot that failed.
    pub(crate) retry_delay: u32,
    /// Seconds until a node that may not boot asks again.
    pub(crate) poll_delay: u32,
    /// Where cloud-init is, when parameters do not say.
    pub(crate) advertise: Option<&'a str>,
    /// How URLs are led here.
    pub(crate) rewrites: &'a [Rewrite],
}

impl Script<'_> {
    /// Boots the node, and asks again by `again` when that fails. `mac`: the address that asks.
    pub(crate) fn boot(&self, entry: &Entry, node: &Node, mac: Option<Mac>, again: &Key, retry: u32) -> String {
        let kernel = rewrite(&entry.kernel, self.rewrites);
        let arguments = rewrite(&self.arguments(entry, node, mac), self.rewrites);
        let mut script = format!("#!ipxe\nkernel --name kernel {kernel} {arguments} || goto boot_retry\n");
        if let Some(initrd) = &entry.initrd {
            let initrd = rewrite(initrd, self.rewrites);
            script.push_str(&format!("initrd --name initrd {initrd} || goto boot_retry\n"));
        }
        script.push_str(&format!(
            "boot || goto boot_retry\n:boot_retry\nsleep {}\nchain {}&retry={}\n\n",
            self.retry_delay,
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
        let key = match key {
            Key::Mac(mac) => format!("mac={mac}"),
            Key::Name(name) => format!("name={name}"),
            Key::Nid(nid) => format!("nid={nid}"),
        };
        format!("{}/boot/v1/bootscript?{key}", self.base)
    }

    /// The kernel's arguments: those of the entry, and what is known of the node where the entry does not say it.
    fn arguments(&self, entry: &Entry, node: &Node, mac: Option<Mac>) -> String {
        let params = one_line(&entry.params);
        let mut line = match entry.initrd {
            Some(_) => format!("initrd=initrd {}", without_initrd(&params).trim()),
            None => params.trim().to_owned(),
        };
        let additions = [
            Some(("xname=", node.id.clone())),
            node.nid.map(|nid| ("nid=", nid.to_string())),
            mac.map(|mac| ("BOOTIF=", format!("01-{}", mac.to_string().replace(':', "-")))),
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
