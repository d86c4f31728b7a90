//! Whatever clients write, an export holds it, and an empty bootd takes it back.

use std::path::PathBuf;

use serde_json::json;

use super::*;

const LISTS: [&str; 7] = [
    "/State/Components",
    "/Inventory/EthernetInterfaces",
    "/Inventory/RedfishEndpoints",
    "/Inventory/ComponentEndpoints",
    "/groups",
    "/memberships",
    "/partitions",
];
/// What no export may have.
const PASSWORD: &str = "pw-of-a-bmc";

#[test]
fn whatever_clients_wrote_goes_out_and_comes_into_an_empty_bootd_the_same() {
    let mut taken = 0;
    for seed in 1..=120 {
        let host = FakeHost::new();
        let nodes = (seed % 3 == 0).then(data);
        let smd = host.start::<Smd>(json!({"nodes": nodes})).unwrap();
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (seed << 20));
        for _ in 0..60 {
            let (method, path, body) = random.request();
            let answer = send(&smd, method, &path, &body.to_string());
            assert_ne!(answer.status, 500, "{answer:?}");
            taken += u32::from(answer.status < 300);
        }
        returns(host, &smd, &format!("seed {seed}"));
    }
    assert!(taken > 2500, "too little was written: {taken}");
}

#[test]
fn texts_of_controllers_go_out_and_come_in_whatever_their_characters() {
    let texts = "null ~ yes 007 1e3 [a {a *a &a !a %a @a `a |a >a ?a -a :a a: a# #a 'a \"a \\a";
    let mut texts: Vec<String> = texts.split(' ').map(str::to_owned).collect();
    texts.extend(
        [
            " a ",
            "a: b",
            "a #b",
            "- a",
            "? a",
            "---",
            "...",
            "é 漢 🦀",
            "<<",
            "a,b",
            "a]",
        ]
        .map(String::from),
    );
    let odd = (0..=0x2fff).chain(0xfdd0..=0x1_0001).filter_map(char::from_u32);
    texts.push(odd.collect());
    texts.push("long ".repeat(2000));
    let (host, smd) = empty();
    for (n, text) in texts.iter().enumerate() {
        let mac = |m: usize| format!("02:00:00:00:{m:02x}:{n:02x}");
        let nic = |m| json!([{"mac": mac(m), "ip": text, "description": text, "uri": text}]);
        let body = json!({"ID": format!("x{n}c0s0b0"), "SchemaVersion": 1,
            "Managers": [{"uri": text, "uuid": text, "name": text, "actions": [text, ""], "ethernet_interfaces": nic(0)}],
            "Systems": [{"uri": text, "uuid": text, "name": text, "actions": [text], "ethernet_interfaces": nic(1)}]});
        assert_eq!(status(&smd, "POST", "/Inventory/RedfishEndpoints", body), 201, "{text}");
    }
    returns(host, &smd, "odd texts");
}

#[test]
fn an_import_tells_every_mistake_of_every_section_with_its_line_and_takes_none_of_it() {
    let (host, smd) = empty();
    let text = "nodes: []
components:
- {ID: x0c0w1, State: Onn}
- {ID: banana}
- {ID: x0c0w2, NID: -1, Colour: red}
redfish-endpoints:
- {ID: x0c0s0b0n0}
- {ID: x0c0s1b0, IPAddress: 1.2.3}
component-endpoints:
- {ID: x0c0s0b0n0, RedfishType: Toaster, RedfishEndpointID: x0c0s0b0}
interfaces:
- {ComponentID: x0}
- {MACAddress: '02:00:00:00:00:01', IPAddresses: [{Network: a}]}
- {MACAddress: '02:00:00:00:00:02'}
- {MACAddress: '020000000002'}
";
    let answer = send(&smd, "POST", "/bootd/v1/import/smd", text);
    assert_eq!(answer.status, 400);
    let told = [
        "import:3: State: 'Onn' is none of",
        "import:4: ID: 'banana' is not an xname",
        "import:5: NID: '-1'",
        "import:5: unknown key 'Colour'",
        "import:7: ID: 'x0c0s0b0n0' is not the xname of a controller",
        "import:8: IPAddress: '1.2.3'",
        "import:10: RedfishType: 'Toaster'",
        "import:12: this Ethernet interface has no MACAddress",
        "import:13: this network address has no IPAddress",
        "import:15: the Ethernet interface 02:00:00:00:00:02 is already on line 14",
    ];
    for told in told {
        assert!(answer.body.contains(told), "{told}: {}", answer.body);
    }
    assert_eq!(host.stored().len(), 0);
}

#[test]
fn an_import_refuses_two_endpoints_of_one_name_and_lets_names_change_places() {
    let (_, smd) = empty();
    let import = |rows: &str| {
        let text = format!("nodes: []\nredfish-endpoints:\n{rows}");
        let answer = send(&smd, "POST", "/bootd/v1/import/smd", &text);
        (answer.status, answer.body)
    };
    assert_eq!(import("- {ID: x0c0s0b0, FQDN: a}\n- {ID: x0c0s1b0, FQDN: b}\n").0, 204);
    assert_eq!(import("- {ID: x0c0s0b0, FQDN: b}\n- {ID: x0c0s1b0, FQDN: a}\n").0, 204);
    let before = get(&smd, "/Inventory/RedfishEndpoints");
    for rows in [
        "- {ID: x0c0s2b0, FQDN: a}\n",
        "- {ID: x0c0s2b0, FQDN: c}\n- {ID: x0c0s3b0, FQDN: c}\n",
    ] {
        let (status, detail) = import(rows);
        assert!(
            status == 400 && detail.contains("has the same FQDN as") && detail.contains("import:3:"),
            "{detail}"
        );
    }
    assert_eq!(get(&smd, "/Inventory/RedfishEndpoints"), before);
}

#[test]
fn an_import_replaces_nothing_that_it_does_not_name() {
    let (_, smd) = empty();
    nodes(&smd, &[("x0c0s0b0n0", 1), ("x0c0s1b0n0", 2)]);
    let text = "nodes: []\ncomponents:\n- {ID: x0c0s0b0n0, State: Ready, Flag: Warning, NID: 7}\n";
    assert_eq!(send(&smd, "POST", "/bootd/v1/import/smd", text).status, 204);
    let rows = get(&smd, "/State/Components");
    let shown = |at: usize| {
        (
            rows["Components"][at]["State"].clone(),
            rows["Components"][at]["NID"].clone(),
        )
    };
    assert_eq!(shown(0), (json!("Ready"), json!(7)));
    assert_eq!(shown(1), (json!("On"), json!(2)));
}

#[test]
fn a_nodes_file_takes_only_its_own_part_of_an_export() {
    let (_, smd) = empty();
    nodes(&smd, &[("x0c0s0b0n0", 1)]);
    let row = json!({"Components": [{"ID": "x3000c0w14", "State": "On"}]});
    assert_eq!(status(&smd, "POST", "/State/Components", row), 204);
    let loose = json!({"MACAddress": "02:00:00:00:00:31", "Description": "spare"});
    assert_eq!(status(&smd, "POST", "/Inventory/EthernetInterfaces", loose), 201);
    let bmc = json!({"ID": "x0c0s5b0", "FQDN": "b.example", "User": "root", "Password": PASSWORD});
    assert_eq!(status(&smd, "POST", "/Inventory/RedfishEndpoints", bmc), 201);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.yaml");
    let text = send(&smd, "GET", "/bootd/v1/export/smd", "").body;
    for key in ["components:", "redfish-endpoints:", "interfaces:"] {
        assert!(text.contains(&format!("\n{key}\n")), "{key} {text}");
    }
    std::fs::write(&path, text).unwrap();
    let other = FakeHost::new();
    let smd = other.start::<Smd>(json!({"nodes": path})).unwrap();
    assert_eq!(other.health().mistakes, []);
    assert_eq!(ids(&smd, "/State/Components"), ["x0c0s0b0n0"]);
}

/// Exports, imports into nothing, and compares all that can be seen, and what is stored.
fn returns(host: &'static FakeHost, smd: &Instance, what: &str) {
    let text = send(smd, "GET", "/bootd/v1/export/smd", "").body;
    assert!(!text.contains(PASSWORD), "{what}: {text}");
    let (other, imported) = empty();
    let answer = send(&imported, "POST", "/bootd/v1/import/smd", &text);
    assert_eq!(answer.status, 204, "{what}: {} in\n{text}", answer.body);
    for list in LISTS {
        assert_eq!(
            without_times(get(&imported, list)),
            without_times(get(smd, list)),
            "{what}: {list} of\n{text}"
        );
    }
    assert_eq!(stored(other), stored(host), "{what}:\n{text}");
    let again = send(&imported, "GET", "/bootd/v1/export/smd", "").body;
    assert_eq!(again, text, "{what}");
}

fn without_times(mut list: Value) -> Value {
    for row in list.as_array_mut().into_iter().flatten() {
        row.as_object_mut().unwrap().remove("LastUpdate");
    }
    list
}

/// The store's rows, without when and by whom they were written.
fn stored(host: &FakeHost) -> Vec<(String, Value)> {
    let rows = host
        .stored()
        .into_iter()
        .filter(|(key, _)| !key.starts_with("applied/"));
    let rows = rows.map(|(key, text)| {
        let mut row: Value = serde_json::from_str(&text).unwrap();
        for field in ["updated", "of_file"] {
            row.as_object_mut().map(|row| row.remove(field));
        }
        (key, row)
    });
    rows.collect()
}

fn data() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/nodes.yaml"))
}

/// Writes by chance, the same ones for each seed.
struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    /// A component of any type; few of each, so that writes meet.
    fn id(&mut self) -> String {
        let n = self.below(4);
        let forms = [
            "x1000c0sNb0n0",
            "x1000c0sNb0n0",
            "x1000c0sNb0",
            "x1000c0sNb0n0v1",
            "x300Nc0w14",
            "x100N",
            "x100Nc0",
            "x1000c9sNb0n0",
            "x1000c9sNb0",
            "x1000c0rNb0",
            "x300Nm0",
            "x1000cNb0",
            "x300Nm0p0v1",
            "x1000c0sNb0n1",
        ];
        self.of(&forms).replace('N', &n.to_string())
    }

    fn controller(&mut self) -> String {
        let n = self.below(4);
        let form = self.of(&["x1000c0sNb0", "x1000c0sNb0", "x1000c0rNb0", "x300Nm0", "x1000c9sNb0"]);
        form.replace('N', &n.to_string())
    }

    fn mac(&mut self) -> String {
        let first = self.of(&["52:54:00:be:ef", "02:00:00:00:00", "de:ca:fc:0f:fe"]);
        format!("{first}:{:02x}", self.below(8))
    }

    fn text(&mut self) -> String {
        self.of(&[
            "",
            "a",
            "no",
            "Interface 0 for compute1",
            "rack A: #1 \"b\"",
            "[x]",
            "-",
            "é漢",
            "10.1.1.1",
            "a  ",
        ])
        .to_owned()
    }

    fn ip(&mut self) -> String {
        let n = self.below(9);
        self.of(&["172.16.0.N", "FD00::N", "fd00::N", "a lease", "10.0.0.0N"])
            .replace('N', &n.to_string())
    }

    fn label(&mut self) -> String {
        self.of(&["compute", "a", "b:c", "1", "on", "-x"]).to_owned()
    }

    fn nics(&mut self) -> Value {
        let nics = (0..self.below(3)).map(|n| {
            json!({"uri": format!("https://h/nic/{n}"), "mac": self.mac(), "ip": self.ip(), "description": self.text()})
        });
        nics.collect()
    }

    fn system(&mut self, uri: &str) -> Value {
        json!({"uri": uri, "uuid": self.text(), "name": self.text(), "ethernet_interfaces": self.nics(),
            "actions": self.of(&[json!([]), json!(["On", "ForceOff", ""])])})
    }

    /// As a person, `ochami discover static` or `magellan` sends one.
    fn endpoint(&mut self) -> Value {
        let id = self.controller();
        let mut row = json!({"ID": id, "Name": self.text(), "User": self.text(), "Password": PASSWORD,
            "Enabled": self.below(4) > 0, "UUID": self.text(), "TemplateID": self.text(), "RediscoverOnUpdate": self.below(2) > 0,
            "MACRequired": self.below(2) > 0, "UseSSDP": self.below(2) > 0});
        for (key, value) in [
            ("MACAddr", self.mac()),
            ("IPAddress", self.of(&["172.16.0.101", "fd00::1"]).into()),
        ] {
            if self.below(2) > 0 {
                row[key] = value.into();
            }
        }
        if self.below(2) > 0 {
            let fqdn = [
                id.clone(),
                "bmc1.example".into(),
                "10.1.1.1:443".into(),
                "x1000c0s1b0".into(),
                "x1000c0s2b0".into(),
            ];
            row["FQDN"] = self.of(&fqdn).into();
        }
        match self.below(4) {
            0 => {}
            1 => row["PDUInventory"] = json!({"Outlets": [{"id_suffix": "p0v1", "name": self.text(), "state": "On"}]}),
            _ => {
                row["SchemaVersion"] = 1.into();
                let uri = self.of(&["/redfish/v1/Systems/Self", "", "https://h/redfish/v1/Systems/"]);
                let uri = if uri.ends_with("ms/") {
                    format!("{uri}{id}n0")
                } else {
                    uri.into()
                };
                row["Systems"] = json!([self.system(&uri)]);
                if self.below(2) > 0 {
                    row["Managers"] = json!([self.system("/redfish/v1/Managers/BMC")]);
                }
            }
        }
        row
    }

    fn request(&mut self) -> (&'static str, String, Value) {
        let id = self.id();
        let component = format!("/State/Components/{id}");
        let label = self.label();
        let (list, key, label) = match self.below(3) {
            0 => ("/partitions", "name", format!("p{}", self.below(3))),
            _ => ("/groups", "label", label),
        };
        let interface = format!("/Inventory/EthernetInterfaces/{}", self.mac().replace(':', ""));
        let addresses = json!([{"IPAddress": self.ip(), "Network": self.text()}, {"IPAddress": self.ip()}]);
        let owner = if self.below(3) > 0 { id.clone() } else { String::new() };
        match self.below(20) {
            0..=3 => {
                let mut row = json!({"ID": id, "State": self.of(&["On", "Off", "Ready", "Unknown"]), "Flag": self.of(&["", "Alert"]),
                    "Enabled": self.below(3) > 0, "Role": self.of(&["", "Service", "Mine: own"]), "SubRole": self.of(&["", "Worker"]),
                    "SoftwareStatus": self.text(), "Subtype": self.text(), "NetType": self.of(&["", "Sling", "None"]),
                    "Arch": self.of(&["", "ARM"]), "Class": self.of(&["", "River"]), "Locked": self.below(2) > 0,
                    "ReservationDisabled": self.below(2) > 0});
                match self.below(3) {
                    0 => {}
                    1 => row["NID"] = json!(-1),
                    _ => row["NID"] = json!(self.below(9)),
                }
                (
                    "POST",
                    "/State/Components".into(),
                    json!({"Components": [row], "Force": self.below(2) > 0}),
                )
            }
            4 => (
                "PATCH",
                format!("{component}/StateData"),
                json!({"State": "Ready", "Flag": "Warning", "Force": true}),
            ),
            5 => (
                "PATCH",
                format!("{component}/SoftwareStatus"),
                json!({"SoftwareStatus": self.text()}),
            ),
            6 => match self.below(3) {
                0 => ("PATCH", format!("{component}/NID"), json!({"NID": -1})),
                1 => ("PATCH", format!("{component}/Enabled"), json!({"Enabled": false})),
                _ => (
                    "PATCH",
                    format!("{component}/Role"),
                    json!({"Role": "Storage", "SubRole": "Master"}),
                ),
            },
            7..=9 => ("POST", "/Inventory/RedfishEndpoints".into(), self.endpoint()),
            10 => (
                "POST",
                "/Inventory/RedfishEndpoints".into(),
                json!({"RedfishEndpoints": [self.endpoint()]}),
            ),
            11 => {
                let row = self.endpoint();
                let path = format!("/Inventory/RedfishEndpoints/{}", row["ID"].as_str().unwrap());
                (self.of(&["PUT", "PATCH"]), path, row)
            }
            12 => match self.below(4) {
                0 => ("DELETE", component, json!({})),
                1 => (
                    "DELETE",
                    format!("/Inventory/RedfishEndpoints/{}", self.controller()),
                    json!({}),
                ),
                2 => ("DELETE", format!("/Inventory/ComponentEndpoints/{id}"), json!({})),
                _ => ("DELETE", interface, json!({})),
            },
            13..=14 => (
                "POST",
                "/Inventory/EthernetInterfaces".into(),
                json!({"MACAddress": self.mac(), "ComponentID": owner, "Description": self.text(), "IPAddresses": addresses}),
            ),
            15 => (
                "PATCH",
                interface,
                json!({"ComponentID": owner, "Description": self.text(), "IPAddresses": addresses}),
            ),
            16 => (
                "POST",
                format!("{interface}/IPAddresses"),
                json!({"IPAddress": self.ip()}),
            ),
            17 => {
                let mut row =
                    json!({key: label, "description": self.text(), "tags": self.of(&[json!([]), json!(["t", "on"])])});
                row["exclusiveGroup"] = self.of(&["", "ex", "compute"]).into();
                ("POST", list.into(), row)
            }
            18 => (
                "PATCH",
                format!("{list}/{label}"),
                json!({"description": self.text(), "tags": ["u:1"]}),
            ),
            _ => ("POST", format!("{list}/{label}/members"), json!({"id": id})),
        }
    }
}
