//! What a node's documents say about the rest of its boot: which files its script names, which documents its cloud-init includes, whether
//! it phones home. Pure; texts come from plugins and are read as they are, and what is not understood promises nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::stage::Stage;

/// What is known of a boot ahead of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Paths of the kernel, on this box.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Paths of the initramfs, on this box.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initramfs: Vec<String>,
    /// The path of the root image, on this box.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The script boots nothing: it waits, and asks again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub polls: bool,
    /// The kernel arguments name a seed of cloud-init.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seed: bool,
    /// Documents that vendor-data or user-data include.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub includes: BTreeSet<String>,
    /// One of them says `phone_home`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub phone_home: bool,
}

impl Promise {
    /// What a boot script promises. `ports`: where this box serves; URLs that lead elsewhere are not seen here, so they promise nothing.
    pub fn of_script(script: &str, ports: &[u16]) -> Self {
        let mut promise = Self {
            polls: true,
            ..Self::default()
        };
        let here = |word: &str| here(word, ports);
        for line in script.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("kernel" | "imgfetch" | "boot" | "sanboot") => {
                    promise.polls = false;
                    for word in words {
                        let word = word.trim_matches(['"', '\'']);
                        if let Some(url) = word.strip_prefix("root=live:") {
                            promise.root = here(url);
                        } else if word.starts_with("ds=nocloud") {
                            promise.seed = true;
                        } else if promise.kernel.is_none() && is_url(word) {
                            promise.kernel = here(word);
                        }
                    }
                }
                Some("initrd" | "module") => promise.initramfs.extend(words.find(|word| is_url(word)).and_then(here)),
                _ => {}
            }
        }
        promise
    }

    /// What vendor-data or user-data adds: each document that it includes.
    pub fn add_includes(&mut self, document: &str) {
        if !document.starts_with("#include") {
            return self.add_config(document);
        }
        for line in document.lines().map(str::trim) {
            if line.starts_with('#') || self.includes.len() >= MOST_INCLUDES {
                continue;
            }
            if let Some(path) = path_of(line) {
                self.includes.insert(path.to_owned());
            }
        }
    }

    /// What a cloud-config adds.
    pub fn add_config(&mut self, document: &str) {
        let names = |line: &str| line.starts_with("phone_home:") || line.starts_with("\"phone_home\":");
        self.phone_home |= document.lines().any(names) || document.contains("\"phone_home\"");
    }

    /// The stage of an object.
    pub fn stage_of(&self, path: &str) -> Option<Stage> {
        if self.kernel.as_deref() == Some(path) {
            Some(Stage::Kernel)
        } else if self.initramfs.iter().any(|initramfs| initramfs == path) {
            Some(Stage::Initramfs)
        } else if self.root.as_deref() == Some(path) {
            Some(Stage::Root)
        } else {
            None
        }
    }

    /// Whether a stage is to be seen here, as far as that is known.
    pub fn has(&self, stage: Stage) -> bool {
        match stage {
            Stage::FirmwareDhcp | Stage::Loader | Stage::IpxeDhcp | Stage::Script => true,
            Stage::Kernel => self.kernel.is_some(),
            Stage::Initramfs => !self.initramfs.is_empty(),
            // An initramfs that needs no network, or a root by another way, asks for no address.
            Stage::OsDhcp => self.root.is_some() || self.seed,
            Stage::Root => self.root.is_some(),
            Stage::MetaData => self.seed,
            Stage::CloudConfig => !self.includes.is_empty(),
            Stage::PhoneHome => self.phone_home,
        }
    }
}

/// Whether a word is a URL, not an argument that has one.
fn is_url(word: &str) -> bool {
    word.split_once("://")
        .is_some_and(|(scheme, _)| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// The path of a URL that leads to this box.
fn here(url: &str, ports: &[u16]) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let usual = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let port = authority
        .rsplit_once(':')
        .filter(|(_, digits)| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(Some(usual), |(_, digits)| digits.parse().ok())?;
    let path = path_of(url)?;
    ports.contains(&port).then(|| path.to_owned())
}

/// From the slash behind the host to the end, without a query.
fn path_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let path = rest.get(rest.find('/')?..)?;
    path.split(['?', '#']).next()
}

/// Documents that one node's cloud-init includes, as far as they are looked for.
const MOST_INCLUDES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_promises_the_files_that_it_names_here_and_no_others() {
        let script = "#!ipxe\nkernel --name kernel http://10.0.0.1:9000/b/vmlinuz-1?x=1 initrd=initrd root=live:http://10.0.0.1:9000/b/rocky ds=nocloud;s=http://10.0.0.1:8081/cloud-init/ quiet\n\
                      initrd --name initrd http://10.0.0.1:9000/b/initramfs-1.img || goto boot_retry\nboot kernel\n";
        let promise = Promise::of_script(script, &[8081, 9000]);
        assert_eq!(promise.kernel.as_deref(), Some("/b/vmlinuz-1"));
        assert_eq!(promise.initramfs, ["/b/initramfs-1.img"]);
        assert_eq!(promise.root.as_deref(), Some("/b/rocky"));
        assert!(
            !promise.polls
                && Promise::of_script("#!ipxe\nsleep 10\nchain http://x/boot/v1/bootscript?mac=1\n", &[80]).polls
        );
        assert!(promise.seed && promise.has(Stage::MetaData) && !promise.has(Stage::PhoneHome));
        assert_eq!(promise.stage_of("/b/rocky"), Some(Stage::Root));
        assert_eq!(promise.stage_of("/b/other"), None);
        let elsewhere = Promise::of_script(script, &[8081]);
        assert_eq!((elsewhere.kernel, elsewhere.root, elsewhere.seed), (None, None, true));
    }

    #[test]
    fn vendor_data_promises_the_documents_that_it_includes_and_they_promise_phone_home() {
        let mut promise = Promise::default();
        promise.add_includes("#template: jinja\n#cloud-config\nbootcmd: []\n");
        assert!(!promise.has(Stage::CloudConfig));
        promise.add_includes("#include\nhttp://10.0.0.1:8081/cloud-init/compute.yaml\n# http://10.0.0.1/no\n");
        assert_eq!(
            promise.includes.iter().collect::<Vec<_>>(),
            ["/cloud-init/compute.yaml"]
        );
        promise.add_config("#cloud-config\nwrite_files:\n- content: |\n    phone_home: no\n");
        assert!(!promise.phone_home);
        promise.add_config("#cloud-config\nphone_home:\n  url: http://10.0.0.1/\n");
        assert!(promise.has(Stage::PhoneHome));
    }

    #[test]
    fn nothing_in_a_text_is_too_odd() {
        for text in [
            "kernel",
            "kernel http://",
            "kernel http://[::1",
            "initrd x://y:99999999/z",
            "#include\n://\n",
        ] {
            let mut promise = Promise::of_script(text, &[80]);
            promise.add_includes(text);
            assert_eq!((promise.kernel, promise.initramfs.len()), (None, 0), "{text}");
        }
    }
}
