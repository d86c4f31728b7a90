//! What clients of all kinds write, by chance: people, `ochami`, `magellan`.

use serde_json::{Value, json};

/// The password of each controller.
pub(super) const PASSWORD: &str = "pw-of-a-bmc";

/// Writes by chance, the same ones for each seed.
pub(super) struct Random(pub(super) u64);

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

    /// A method, a path below the API's, and a body.
    pub(super) fn request(&mut self) -> (&'static str, String, Value) {
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
