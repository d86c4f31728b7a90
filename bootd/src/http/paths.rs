//! Which paths a listener serves, and which path a plugin sees for them: pure.
//!
//! Plugins know their paths below prefixes. `cloud-init` puts what is below `/cloud-init` at the root of a listener, `bss-root` three
//! paths that are nobody else's.

use std::collections::BTreeSet;

use crate::config::Service;

/// The prefixes of `boot`: what is below them is theirs, whatever else a listener has at its root.
const BOOT: [&str; 4] = ["/boot/v1", "/hsm/v2", "/apis/bss", "/bootd"];
/// The prefix of cloud-init. Clients before 23.1 join it and a name without a slash.
const CLOUD_INIT: &str = "/cloud-init";
/// What BSS has at the root.
const BSS_ROOT: [&str; 3] = ["/meta-data", "/user-data", "/phone-home"];

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lead {
    /// To a plugin, under this path.
    AsItIs,
    /// To a plugin, under another one.
    To(String),
    /// To nothing that this listener serves.
    Nowhere,
}

/// Where a path leads on a listener that serves this.
pub(super) fn lead(serve: &BTreeSet<Service>, path: &str) -> Lead {
    let serves = |service| serve.contains(&service);
    let is_of_bss = BSS_ROOT.iter().any(|root| is_below(path, root));
    if is_of_bss && serves(Service::BssRoot) {
        return Lead::AsItIs;
    }
    if serves(Service::Boot) && BOOT.iter().any(|prefix| is_below(path, prefix)) {
        return Lead::AsItIs;
    }
    if serves(Service::CloudInit) {
        return match path.starts_with(CLOUD_INIT) {
            true => Lead::AsItIs,
            false => Lead::To(format!("{CLOUD_INIT}{path}")),
        };
    }
    match serves(Service::Boot) && !is_of_bss {
        true => Lead::AsItIs,
        false => Lead::Nowhere,
    }
}

/// Whether a path is a prefix or goes on after it with a segment.
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(serve: &[Service], path: &str) -> Option<String> {
        match lead(&serve.iter().copied().collect(), path) {
            Lead::AsItIs => Some(path.into()),
            Lead::To(other) => Some(other),
            Lead::Nowhere => None,
        }
    }

    fn same(serve: &[Service], paths: &[&str]) {
        for path in paths {
            assert_eq!(leads(serve, path).as_deref(), Some(*path), "{serve:?}");
        }
    }

    fn nowhere(serve: &[Service], paths: &[&str]) {
        for path in paths {
            assert_eq!(leads(serve, path), None, "{serve:?} {path}");
        }
    }

    #[test]
    fn a_listener_of_cloud_init_serves_its_paths_at_the_root_and_below_their_prefix_and_no_others() {
        let serve = [Service::CloudInit];
        for (path, led_to) in [
            ("/", "/cloud-init/"),
            ("/meta-data", "/cloud-init/meta-data"),
            ("/compute.yaml", "/cloud-init/compute.yaml"),
            ("/admin/groups/compute", "/cloud-init/admin/groups/compute"),
            ("/phone-home/x1000c0s0b0n0", "/cloud-init/phone-home/x1000c0s0b0n0"),
            ("/boot/v1/bootparameters", "/cloud-init/boot/v1/bootparameters"),
            ("/bootd/v1/export/smd", "/cloud-init/bootd/v1/export/smd"),
        ] {
            assert_eq!(leads(&serve, path).as_deref(), Some(led_to));
        }
        same(&serve, &["/cloud-init/wg-init", "/cloud-initmeta-data", "/cloud-init"]);
    }

    #[test]
    fn the_prefixes_of_boot_win_over_cloud_init_at_the_root() {
        let serve = [Service::Boot, Service::CloudInit];
        let prefixes = [
            "/boot/v1/bootscript",
            "/hsm/v2/service/ready",
            "/apis/bss/boot/v1/hosts",
            "/bootd/v1/export/smd",
            "/cloud-init/user-data",
        ];
        same(&serve, &prefixes);
        assert_eq!(leads(&serve, "/meta-data").as_deref(), Some("/cloud-init/meta-data"));
        assert_eq!(leads(&serve, "/bootd2").as_deref(), Some("/cloud-init/bootd2"));
    }

    #[test]
    fn bss_has_its_three_paths_at_the_root_only_where_the_listener_says_so() {
        let paths = ["/meta-data", "/user-data", "/phone-home", "/phone-home/"];
        same(&[Service::BssRoot], &paths);
        same(&[Service::Boot, Service::BssRoot], &paths);
        nowhere(&[Service::Boot], &paths);
        nowhere(&[Service::Loaders], &paths);
        nowhere(
            &[Service::BssRoot],
            &["/", "/boot/v1/bootscript", "/meta-data2", "/cloud-init/meta-data"],
        );
        same(
            &[Service::Boot, Service::BssRoot],
            &["/boot/v1/meta-data", "/a-plugin/x", "/"],
        );
        nowhere(&[Service::Loaders], &["/", "/boot/v1/bootscript"]);
    }
}
