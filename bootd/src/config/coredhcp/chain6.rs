//! What server6's plugins come to.
//!
//! Their order says little: coresmd gives nodes an address, all others say things to everybody, and only nbp ends it (contract 1.3, 2.8).

use std::net::Ipv6Addr;

use super::coresmd::Coresmd;
use super::stock::Step6;
use super::told::Told;

/// All that server6's plugins come to.
#[derive(Debug, Default)]
pub(super) struct Plan6 {
    /// As `dhcp6.server_id` has it.
    pub(super) server_id: Option<String>,
    pub(super) dns: Vec<Ipv6Addr>,
    pub(super) search: Vec<String>,
    pub(super) nbp: Option<String>,
    pub(super) boot_params: Vec<String>,
    pub(super) hosts: Option<Hosts6>,
    pub(super) coresmd: Option<Coresmd>,
}

/// `file`.
#[derive(Debug)]
pub(super) struct Hosts6 {
    pub(super) path: String,
    pub(super) refresh: bool,
    pub(super) before_inventory: bool,
}

/// Goes through the plugins in their order. `four`: server4's coresmd, which both share.
pub(super) fn follow(steps: Vec<(String, Step6)>, four: Option<&Coresmd>, told: &mut Told) -> Plan6 {
    let mut plan = Plan6::default();
    let mut end: Option<String> = None;
    for (place, step) in steps {
        if let Some(end) = &end {
            told.ignored(&place, "", format!("{end} ends the chain, so no packet comes here"));
            continue;
        }
        match step {
            Step6::ServerId(id) => {
                let again = plan.server_id.replace(id).is_some();
                told.understood(&place, "dhcp6.server_id", "this server's DUID");
                if again {
                    told.understood(
                        &place,
                        "dhcp6.server_id",
                        "it is there more than once; the last one counts",
                    );
                }
            }
            Step6::Dns(ips) => {
                plan.dns.extend(ips);
                told.understood(&place, "dhcp6.subnet", "name servers, to everybody who asks for them");
            }
            Step6::Search(names) => {
                plan.search = names;
                match plan.search.is_empty() {
                    true => told.changed(
                        &place,
                        "dhcp6.subnet",
                        "no domains, so option 24 is not sent; CoreDHCP sends an empty one",
                    ),
                    false => told.understood(&place, "dhcp6.subnet", "search list, to everybody"),
                }
            }
            Step6::Nbp(url, params) => {
                told.understood(
                    &place,
                    "dhcp6.nbp",
                    "the boot file of who asks for one; it ends the chain",
                );
                if !params.is_empty() {
                    let text =
                        "each parameter with its length before it, as RFC 5970 wants it; CoreDHCP sends the bare text";
                    told.changed(&place, "dhcp6.boot_params", text);
                }
                (plan.nbp, plan.boot_params) = (Some(url), params);
                end = Some(place);
            }
            Step6::File { path, refresh } => {
                if plan.hosts.is_some() {
                    told.changed(
                        &place,
                        "dhcp6.hosts",
                        "takes the place of the file before it, as with CoreDHCP",
                    );
                }
                told.changed(
                    &place,
                    "dhcp6.hosts",
                    "addresses for an hour; clients renew at half of it, where CoreDHCP leaves that to them. server4's file is one of its own",
                );
                plan.hosts = Some(Hosts6 {
                    path,
                    refresh,
                    before_inventory: plan.coresmd.is_none(),
                });
            }
            Step6::Coresmd(coresmd) => {
                if plan.coresmd.is_some() {
                    told.changed(&place, "", "takes the place of the coresmd before it");
                }
                plan.coresmd = Some(*coresmd);
            }
        }
    }
    if plan.server_id.is_none() {
        told.changed(
            "server6.plugins",
            "dhcp6.server_id",
            "there is no server_id: a DUID is made and kept, where CoreDHCP sends none and so is not heard",
        );
    }
    match (&plan.coresmd, four) {
        (Some(six), Some(four)) => both(six, four, told),
        (Some(six), None) => told.understood(&six.place, "dhcp6.lease_time", "lifetime of the addresses of nodes"),
        (None, _) if plan.hosts.is_none() => told.changed(
            "server6.plugins",
            "dhcp6.subnet",
            "no plugin gives addresses: clients get them only where server4's coresmd knows them; CoreDHCP sends answers without one",
        ),
        (None, _) => {}
    }
    plan
}

/// Both sections name SMD. Upstream ends there, at its second TFTP server; here they share what there is one of.
fn both(six: &Coresmd, four: &Coresmd, told: &mut Told) {
    let place = &six.place;
    told.changed(
        place,
        "dhcp6.lease_time",
        format!(
            "one mirror of SMD and one TFTP serve both families, where coresmd ends at its second TFTP server; {} says what both share",
            four.place
        ),
    );
    let differs = [
        (six.smd != four.smd, "svc_base_uri"),
        (six.ca != four.ca, "ca_cert"),
        (six.refresh != four.refresh, "cache_valid"),
        (six.tftp_dir != four.tftp_dir, "tftp_dir"),
        (six.tftp_port != four.tftp_port, "tftp_port"),
        (six.domain != four.domain, "domain"),
        (six.hostnames != four.hostnames, "the names of nodes without a rule"),
        (
            !six.rules
                .iter()
                .map(|(_, rule)| rule)
                .eq(four.rules.iter().map(|(_, rule)| rule)),
            "rule",
        ),
    ];
    let differing: Vec<&str> = differs
        .into_iter()
        .filter(|(differs, _)| *differs)
        .map(|(_, key)| key)
        .collect();
    if !differing.is_empty() {
        told.ignored(
            place,
            "",
            format!(
                "{}: they are other ones than {}'s, which count for both",
                differing.join(", "),
                four.place
            ),
        );
    }
}
