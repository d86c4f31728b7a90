//! The commands of the tutorial (and a few beside them) and the requests of each, as the contract's section 1 has them.
//!
//! Bodies are written out key for key in the order in which the program sends them; what it makes up at random (UUIDs)
//! is a number here. `{dir}` in a command's words is the folder that holds the seed's files.

use std::fmt::Write;

use super::Request;

/// A command line and what it sends.
#[derive(Debug, Clone)]
pub struct Command {
    /// Its words after `ochami`.
    pub words: Vec<String>,
    /// Its requests, in order.
    pub requests: Vec<Request>,
}

impl Command {
    /// A command of these words, split at spaces.
    pub fn new(words: &str, requests: Vec<Request>) -> Self {
        Self {
            words: words.split(' ').map(str::to_owned).collect(),
            requests,
        }
    }

    fn then(mut self, word: &str) -> Self {
        self.words.push(word.into());
        self
    }
}

/// The image that boot parameters name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// The tutorial's section 2.5.
    Debug,
    /// Its section 2.8.
    Base,
}

impl Image {
    /// Its word in the keys of the bucket.
    pub fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Base => "base",
        }
    }

    /// The kernel's URL.
    pub fn kernel(self) -> String {
        format!(
            "http://172.16.0.254:9000/boot-images/efi-images/compute/{}/vmlinuz-5.14.0-570.21.1.el9_6.x86_64",
            self.word()
        )
    }

    /// The initramfs's URL.
    pub fn initrd(self) -> String {
        format!(
            "http://172.16.0.254:9000/boot-images/efi-images/compute/{}/initramfs-5.14.0-570.21.1.el9_6.x86_64.img",
            self.word()
        )
    }

    /// The kernel's arguments.
    pub fn params(self) -> String {
        format!(
            "nomodeset ro root=live:http://172.16.0.254:9000/boot-images/compute/{0}/rocky9.6-compute-{0}-rocky9 ip=dhcp \
             overlayroot=tmpfs overlayroot_cfgdisk=disabled apparmor=0 selinux=0 console=ttyS0,115200 ip6=off \
             cloud-init=enabled ds=nocloud-net;s=http://172.16.0.254:8081/cloud-init",
            self.word()
        )
    }
}

/// The xname of the tutorial's node `number`, from 1.
pub fn xname(number: u8) -> String {
    format!("x1000c0s0b{}n0", number - 1)
}

/// `discover static` with the seed's nodes.yaml (seed line 142): components, then each BMC, then the group.
pub fn discover() -> Command {
    let components = rows(|n| {
        format!(
            r#"{{"ID":"{}","Type":"Node","State":"On","Enabled":true,"NID":{n}}}"#,
            xname(n)
        )
    });
    let mut requests = vec![Request::new(
        "POST",
        "/hsm/v2/State/Components",
        format!(r#"{{"Components":[{components}]}}"#),
    )];
    requests.extend((1..=5).map(redfish_endpoint));
    requests.push(group());
    Command::new("discover static -f yaml -d @{dir}/nodes.yaml", requests)
}

/// The same with `--overwrite`, where nothing was stored before: no request follows a 409.
pub fn discover_overwrite() -> Command {
    let mut requests: Vec<Request> = (1..=5)
        .map(|n| {
            let body = format!(
                r#"{{"Component":{{"ID":"{}","Type":"Node","State":"On","Enabled":true,"NID":{n}}},"Force":true}}"#,
                xname(n)
            );
            Request::new("PUT", format!("/hsm/v2/State/Components/{}", xname(n)), body)
        })
        .collect();
    let nids = rows(|n| format!(r#"{{"ID":"{}","Type":"","NID":{n}}}"#, xname(n)));
    requests.push(Request::new(
        "PATCH",
        "/hsm/v2/State/Components/BulkNID",
        format!(r#"{{"Components":[{nids}]}}"#),
    ));
    requests.extend((1..=5).map(redfish_endpoint));
    requests.push(group());
    Command::new("discover static --overwrite -f yaml -d @{dir}/nodes.yaml", requests)
}

/// What `discover static` posts for the BMC of node `n`.
pub fn redfish_endpoint(n: u8) -> Request {
    let (node, bmc) = (xname(n), format!("x1000c0s0b{}", n - 1));
    let (bmc_mac, bmc_ip) = (format!("de:ca:fc:0f:fe:e{n}"), format!("172.16.0.10{n}"));
    let uuid = format!("00000000-0000-4000-8000-00000000010{n}");
    let body = format!(
        concat!(
            r#"{{"ID":"{bmc}","Type":"NodeBMC","Name":"compute{n}","UUID":"{uuid}","MACAddr":"{bmc_mac}","#,
            r#""IPAddress":"{bmc_ip}","DiscoveryInfo":{{"LastAttempt":"0001-01-01T00:00:00Z"}},"SchemaVersion":1,"#,
            r#""Systems":[{{"uri":"http://172.16.0.254:8081/redfish/v1/Systems/{node}","#,
            r#""uuid":"00000000-0000-4000-8000-00000000020{n}","name":"compute{n}","#,
            r#""ethernet_interfaces":[{{"mac":"52:54:00:be:ef:0{n}","ip":"172.16.0.{n}","name":"{node}","#,
            r#""description":"Interface 0 for compute{n}"}}],"actions":["On","ForceOff","GracefulShutdown","#,
            r#""GracefulRestart","ForceRestart","Nmi","ForceOn","PushPowerButton","PowerCycle","Suspend","Pause","#,
            r#""Resume"]}}],"Managers":[{{"uri":"http://172.16.0.254:8081/redfish/v1/Managers/{bmc}","#,
            r#""uuid":"{uuid}","name":"{bmc}","ethernet_interfaces":[{{"mac":"{bmc_mac}","ip":"{bmc_ip}","#,
            r#""name":"{bmc}","description":"Interface for BMC {bmc}"}}],"actions":null,"description":"","#,
            r#""type":"NodeBMC"}}]}}"#
        ),
        bmc = bmc,
        bmc_ip = bmc_ip,
        bmc_mac = bmc_mac,
        n = n,
        node = node,
        uuid = uuid,
    );
    Request::new("POST", "/hsm/v2/Inventory/RedfishEndpoints", body)
}

/// `smd component get` (150).
pub fn component_get() -> Command {
    Command::new("smd component get", vec![Request::open("/hsm/v2/State/Components")])
}

/// `smd component get -x` and `-n`.
pub fn component_get_one(selector: &str, value: &str) -> Command {
    let target = match selector {
        "-n" => format!("/hsm/v2/State/Components/ByNID/{value}"),
        _ => format!("/hsm/v2/State/Components/{value}"),
    };
    let words = format!("smd component get {selector} {value}");
    Command::new(&words, vec![Request::get(target)])
}

/// `smd component add`, which sends neither a type nor the NID that it is given.
pub fn component_add(node: &str, nid: u32) -> Command {
    let body = format!(
        r#"{{"Components":[{{"ID":"{node}","Type":"","State":"Ready","Enabled":true,"Role":"Compute","Arch":"X86"}}]}}"#
    );
    Command::new(
        &format!("smd component add {node} {nid}"),
        vec![Request::new("POST", "/hsm/v2/State/Components", body)],
    )
}

/// `smd component delete`.
pub fn component_delete(node: &str) -> Command {
    Command::new(
        &format!("smd component delete --no-confirm {node}"),
        vec![Request::new("DELETE", format!("/hsm/v2/State/Components/{node}"), "")],
    )
}

/// `smd iface get`, and with `--mac`.
pub fn iface_get(mac: Option<&str>) -> Command {
    match mac {
        None => Command::new(
            "smd iface get",
            vec![Request::open("/hsm/v2/Inventory/EthernetInterfaces")],
        ),
        Some(mac) => Command::new(
            &format!("smd iface get --mac {mac}"),
            vec![Request::open(format!(
                "/hsm/v2/Inventory/EthernetInterfaces?MACAddress={}",
                escaped(mac)
            ))],
        ),
    }
}

/// `smd iface add`.
pub fn iface_add(component: &str, mac: &str, network: &str, ip: &str) -> Command {
    let body = format!(
        r#"{{"ID":"","ComponentID":"{component}","Type":"","Description":"Undescribed Ethernet Interface","MACAddress":"{mac}","IPAddresses":[{{"IPAddress":"{ip}","Network":"{network}"}}]}}"#
    );
    Command::new(
        &format!("smd iface add {component} {mac} {network},{ip}"),
        vec![Request::new("POST", "/hsm/v2/Inventory/EthernetInterfaces", body)],
    )
}

/// A command that is one GET with the token.
pub fn read(words: &str, target: &str) -> Command {
    Command::new(words, vec![Request::get(target)])
}

/// A command that is one GET without the token.
pub fn read_openly(words: &str, target: &str) -> Command {
    Command::new(words, vec![Request::open(target)])
}

/// `smd group add` with a description and no members.
pub fn group_add(label: &str, description: &str) -> Command {
    let body = format!(r#"{{"label":"{label}","description":"{description}","members":{{}}}}"#);
    Command::new(
        &format!("smd group add {label} -D {description}"),
        vec![Request::new("POST", "/hsm/v2/groups", body)],
    )
}

/// `smd group update` with a description.
pub fn group_update(label: &str, description: &str) -> Command {
    let body = format!(r#"{{"label":"{label}","description":"{description}","members":{{}}}}"#);
    Command::new(
        &format!("smd group update {label} -D {description}"),
        vec![Request::new("PATCH", format!("/hsm/v2/groups/{label}"), body)],
    )
}

/// `smd group delete`.
pub fn group_delete(label: &str) -> Command {
    Command::new(
        &format!("smd group delete --no-confirm {label}"),
        vec![Request::new("DELETE", format!("/hsm/v2/groups/{label}"), "")],
    )
}

/// `smd group member get`.
pub fn members(label: &str) -> Command {
    Command::new(
        &format!("smd group member get {label}"),
        vec![Request::get(format!("/hsm/v2/groups/{label}/members"))],
    )
}

/// `smd group member add`.
pub fn member_add(label: &str, node: &str) -> Command {
    Command::new(
        &format!("smd group member add {label} {node}"),
        vec![Request::new(
            "POST",
            format!("/hsm/v2/groups/{label}/members"),
            format!(r#"{{"id":"{node}"}}"#),
        )],
    )
}

/// `bss boot params set` (728, 1126), `add` and `update` with the seed's file.
pub fn boot_params(verb: &str, image: Image) -> Command {
    let method = match verb {
        "add" => "POST",
        "update" => "PATCH",
        _ => "PUT",
    };
    let file = match image {
        Image::Debug => "boot-compute-debug.yaml",
        Image::Base => "boot-compute.yaml",
    };
    Command::new(
        &format!("bss boot params {verb} -f yaml -d @{{dir}}/{file}"),
        vec![Request::new(method, "/boot/v1/bootparameters", boot_body(image))],
    )
}

/// `bss boot params delete` with the seed's file.
pub fn boot_params_delete(image: Image) -> Command {
    Command::new(
        "bss boot params delete --no-confirm -f yaml -d @{dir}/boot-compute.yaml",
        vec![Request::new("DELETE", "/boot/v1/bootparameters", boot_body(image))],
    )
}

/// `bss boot params get` (734, 1132), all or those of some MACs.
pub fn boot_params_get(macs: &[&str]) -> Command {
    if macs.is_empty() {
        let all = vec![Request::get("/boot/v1/bootparameters")];
        return Command::new("bss boot params get -F json-pretty", all);
    }
    let query: Vec<String> = macs.iter().map(|mac| format!("mac={}", escaped(mac))).collect();
    Command::new(
        &format!("bss boot params get --mac {}", macs.join(",")),
        vec![Request::get(format!("/boot/v1/bootparameters?{}", query.join("&")))],
    )
}

/// `bss boot script get`.
pub fn boot_script(mac: &str) -> Command {
    Command::new(
        &format!("bss boot script get --mac {mac}"),
        vec![Request::open(format!("/boot/v1/bootscript?mac={}", escaped(mac)))],
    )
}

/// `cloud-init defaults set` (927) with the seed's file.
pub fn defaults_set() -> Command {
    let body = concat!(
        r#"{"cluster-name":"demo","public-keys":["\u003cYOUR SSH KEY GOES HERE\u003e"],"#,
        r#""base-url":"http://172.16.0.254:8081/cloud-init","short-name":"nid","nid-length":3}"#
    );
    Command::new(
        "cloud-init defaults set -f yaml -d @{dir}/ci-defaults.yaml",
        vec![Request::new("POST", "/cloud-init/admin/cluster-defaults", body)],
    )
}

/// `cloud-init defaults get` (933).
pub fn defaults_get() -> Command {
    Command::new(
        "cloud-init defaults get -F json-pretty",
        vec![Request::get("/cloud-init/admin/cluster-defaults")],
    )
}

/// `cloud-init group set` (980) with the seed's file, handed over inline: there are builds of the program that cannot
/// read a group from a YAML file.
pub fn ci_group_set() -> Command {
    Command::new(
        "cloud-init group set -f yaml -d",
        vec![Request::new("PUT", "/cloud-init/admin/groups/compute", GROUP_BODY)],
    )
    .then(crate::data::GROUP)
}

/// `cloud-init group get config` (986).
pub fn ci_group_get() -> Command {
    Command::new(
        "cloud-init group get config compute",
        vec![Request::get("/cloud-init/admin/groups/compute")],
    )
}

/// `cloud-init group get raw` of all groups.
pub fn ci_groups() -> Command {
    Command::new(
        "cloud-init group get raw",
        vec![Request::get("/cloud-init/admin/groups")],
    )
}

/// `cloud-init group delete`.
pub fn ci_group_delete(name: &str) -> Command {
    Command::new(
        &format!("cloud-init group delete --no-confirm {name}"),
        vec![Request::new("DELETE", format!("/cloud-init/admin/groups/{name}"), "")],
    )
}

/// `cloud-init group render` (1008).
pub fn ci_render(node: &str) -> Command {
    Command::new(
        &format!("cloud-init group render compute {node}"),
        vec![
            Request::get(format!("/cloud-init/admin/impersonation/{node}/compute.yaml")),
            Request::get(format!("/cloud-init/admin/impersonation/{node}/meta-data")),
        ],
    )
}

/// `cloud-init node set` (1035).
pub fn ci_node_set() -> Command {
    Command::new(
        r#"cloud-init node set -d [{"id":"x1000c0s0b0n0","local-hostname":"compute1"}]"#,
        vec![Request::new(
            "PUT",
            "/cloud-init/admin/instance-info/x1000c0s0b0n0",
            r#"{"id":"x1000c0s0b0n0","instance-id":"","local-hostname":"compute1"}"#,
        )],
    )
}

/// `cloud-init node get meta-data` (1043), `user-data` and `vendor-data` (1073).
pub fn ci_node_get(what: &str, node: &str) -> Command {
    let requests = vec![Request::get(format!("/cloud-init/admin/impersonation/{node}/{what}"))];
    let format = if what == "meta-data" { " -F yaml" } else { "" };
    Command::new(&format!("cloud-init node get {what} {node}{format}"), requests)
}

/// `cloud-init node get group`.
pub fn ci_node_group(node: &str, group: &str) -> Command {
    Command::new(
        &format!("cloud-init node get group {node} {group}"),
        vec![Request::get(format!(
            "/cloud-init/admin/impersonation/{node}/{group}.yaml"
        ))],
    )
}

/// The group that `discover static` posts.
fn group() -> Request {
    let ids = rows(|n| format!(r#""{}""#, xname(n)));
    Request::new(
        "POST",
        "/hsm/v2/groups",
        format!(r#"{{"label":"compute","description":"The compute group","members":{{"ids":[{ids}]}}}}"#),
    )
}

fn boot_body(image: Image) -> String {
    let macs = rows(|n| format!(r#""52:54:00:be:ef:0{n}""#));
    let mut body = format!(r#"{{"macs":[{macs}],"#);
    let _ = write!(
        body,
        r#""params":"{}","kernel":"{}","initrd":"{}","#,
        image.params(),
        image.kernel(),
        image.initrd()
    );
    body.push_str(NO_CLOUD_INIT);
    body
}

/// One text for each of the five nodes, with commas between.
fn rows(row: impl Fn(u8) -> String) -> String {
    (1..=5).map(row).collect::<Vec<_>>().join(",")
}

/// Colons as they are written in queries.
fn escaped(text: &str) -> String {
    text.replace(':', "%3A")
}

/// The end of the program's boot parameters, whatever they are.
pub const NO_CLOUD_INIT: &str = concat!(
    r#""cloud-init":{"meta-data":null,"user-data":null,"phone-home":{"pub_key_dsa":"","pub_key_rsa":"","#,
    r#""pub_key_ecdsa":"","instance_id":"","hostname":"","fqdn":""}}}"#
);

const GROUP_BODY: &str = concat!(
    r###"{"name":"compute","description":"compute config","file":{"content":"## template: jinja\n#cloud-config\n"###,
    r###"merge_how:\n- name: list\n  settings: [append]\n- name: dict\n  settings: [no_replace, recurse_list]\n"###,
    r###"users:\n  - name: root\n    ssh_authorized_keys: {{ ds.meta_data.instance_data.v1.public_keys }}\n"###,
    r###"disable_root: false\n","filename":"","encoding":"plain"}}"###
);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::data;

    #[test]
    fn every_body_is_json_and_says_what_the_seeds_files_say() {
        for command in [discover(), discover_overwrite()] {
            let mut said = String::new();
            for request in &command.requests {
                serde_json::from_str::<Value>(&request.body)
                    .unwrap_or_else(|error| panic!("{error}: {}", request.body));
                said.push_str(&request.body);
            }
            for line in data::NODES.lines() {
                let Some((key, value)) = line.trim_start_matches(['-', ' ']).split_once(": ") else {
                    continue;
                };
                // The label of an address is lost: the program reads another key.
                if value != "management" {
                    assert!(said.contains(value), "{key}: {value}");
                }
            }
        }
        let boot: Value = serde_json::from_str(&boot_body(Image::Base)).unwrap();
        for key in ["kernel", "initrd", "params"] {
            let line = format!("{key}: '{}'\n", boot[key].as_str().unwrap());
            assert!(data::BOOT.contains(&line), "{line}");
        }
        let group: Value = serde_json::from_str(GROUP_BODY).unwrap();
        for line in group["file"]["content"].as_str().unwrap().lines() {
            assert!(data::GROUP.contains(&format!("      {line}\n")), "{line}");
        }
        assert_eq!(
            boot_params("set", Image::Debug).requests[0].body.len(),
            boot_body(Image::Base).len() + 4
        );
    }
}
