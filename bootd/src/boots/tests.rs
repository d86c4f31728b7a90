//! Boots as they go, and as they go wrong, told to a [`Book`].

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bootd_sdk::mac::Mac;
use bytes::Bytes;

use super::event::{Asked, Dhcp, Event, Gets, Hints, Outcome, State as Bytes_, Transfer};
use super::*;
use crate::config::Arch;
use crate::dhcp::Stage as Asker;

const NODE: Mac = Mac([0x52, 0x54, 0, 0xbe, 0xef, 1]);
const STRANGER: Mac = Mac([0x52, 0x54, 0, 0, 0, 9]);
const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 16, 0, 1));
const SCRIPT: &str = "#!ipxe\nkernel --name kernel http://172.16.0.254:9000/b/vmlinuz root=live:http://172.16.0.254:9000/b/root ip=dhcp ds=nocloud;s=http://172.16.0.254:8081/cloud-init/\n\
                      initrd --name initrd http://172.16.0.254:9000/b/initrd\nboot kernel\n";

struct Rack {
    program: Arch,
}

impl World for Rack {
    fn generation(&self) -> u64 {
        0
    }
    fn by_mac(&self, mac: Mac) -> Option<Arc<str>> {
        (mac == NODE).then(|| "x1000c0s0b0n0".into())
    }
    fn by_ip(&self, ip: IpAddr) -> Option<Arc<str>> {
        (ip == IP).then(|| "x1000c0s0b0n0".into())
    }
    fn is_of(&self, _: &str, ip: IpAddr) -> Option<bool> {
        Some(ip == IP)
    }
    fn program(&self, _: &str) -> Option<Arch> {
        Some(self.program)
    }
    fn ports(&self) -> &[u16] {
        &[8081, 9000]
    }
}

/// A rack with a clock.
struct Rig {
    book: Book,
    rack: Rack,
    now: u64,
    xid: u32,
}

impl Rig {
    fn new() -> Self {
        Self {
            book: Book::new(Limits::default(), Deadlines::default()),
            rack: Rack {
                program: Arch::X86_64Efi,
            },
            now: 1_000_000,
            xid: 0,
        }
    }

    fn tell(&mut self, event: Event) {
        self.now += 100;
        self.book.take(&event, &self.rack, self.now);
    }

    fn dhcp(&mut self, mac: Mac, asker: Asker, begins: bool, outcome: Outcome) {
        self.xid += u32::from(begins);
        self.tell(Event::Dhcp(Dhcp {
            mac,
            six: false,
            xid: self.xid,
            asker,
            begins,
            renews: false,
            relay: None,
            outcome,
            hints: (asker == Asker::Firmware && begins).then(|| {
                Box::new(Hints {
                    arch: Some(7),
                    known: Some(Arch::X86_64Efi),
                    vendor_class: b"PXEClient"[..].into(),
                    machine_id: Default::default(),
                })
            }),
        }));
    }

    fn address(&mut self, asker: Asker) {
        self.dhcp(NODE, asker, true, Outcome::Offered(gets()));
        self.dhcp(NODE, asker, false, Outcome::Has(gets()));
    }

    fn transfer(&mut self, name: &str, sent: u64, of: u64, state: Bytes_) {
        let transfer = Transfer {
            name: name.into(),
            sent,
            of: Some(of),
            state,
            agent: "iPXE/1.21".into(),
        };
        self.tell(match name.starts_with('/') {
            true => Event::Object(IP, transfer),
            false => Event::Loader(IP, transfer),
        });
    }

    fn file(&mut self, name: &str) {
        self.transfer(name, 0, 1000, Bytes_::UnderWay);
        self.transfer(name, 1000, 1000, Bytes_::Done);
    }

    fn script(&mut self, status: u16) {
        self.tell(Event::Script(
            IP,
            asked("/boot/v1/bootscript", status, SCRIPT, Some(NODE)),
        ));
    }

    fn document(&mut self, ip: IpAddr, path: &str, status: u16, text: &str) {
        self.tell(Event::Document(ip, asked(path, status, text, None)));
    }

    /// Up to and with this stage.
    fn boot_to(&mut self, stage: Stage) {
        for step in Stage::ALL.into_iter().filter(|step| *step <= stage) {
            match step {
                Stage::FirmwareDhcp => self.address(Asker::Firmware),
                Stage::Loader => self.file("ipxe-x86_64.efi"),
                Stage::IpxeDhcp => self.address(Asker::Ipxe),
                Stage::Script => self.script(200),
                Stage::Kernel => self.file("/b/vmlinuz"),
                Stage::Initramfs => self.file("/b/initrd"),
                Stage::OsDhcp => self.address(Asker::Os),
                Stage::Root => self.file("/b/root"),
                Stage::MetaData => {
                    self.document(IP, "/cloud-init/meta-data", 200, "instance-id: i\n");
                    self.document(IP, "/cloud-init/user-data", 200, "#cloud-config\n");
                    let included = "#include\nhttp://172.16.0.254:8081/cloud-init/compute.yaml\n";
                    self.document(IP, "/cloud-init/vendor-data", 200, included);
                }
                Stage::CloudConfig => {
                    let text = "#cloud-config\nphone_home:\n  url: http://172.16.0.254:8081/cloud-init/phone-home/i\n";
                    self.document(IP, "/cloud-init/compute.yaml", 200, text);
                }
                Stage::PhoneHome => self.document(IP, "/cloud-init/phone-home/i", 200, ""),
            }
        }
    }

    /// Nothing happens for so many seconds.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1000;
            self.book.tick(self.now);
        }
    }

    fn attempt(&self) -> &Attempt {
        self.book.record(&node()).unwrap().attempts.back().unwrap()
    }

    fn says(&self) -> Option<&str> {
        self.attempt().diagnosis.as_ref().map(|said| said.name.as_str())
    }
}

fn node() -> Who {
    Who::Node("x1000c0s0b0n0".into())
}

fn gets() -> Gets {
    Gets {
        ip: IP,
        boot_file: true,
        note: None,
    }
}

fn asked(path: &str, status: u16, text: &str, mac: Option<Mac>) -> Asked {
    Asked {
        path: path.into(),
        mac,
        status,
        body: Bytes::copy_from_slice(text.as_bytes()),
        agent: "".into(),
    }
}

#[test]
fn a_boot_is_a_step_for_each_stage_and_booted_with_the_last_one_that_is_expected() {
    let mut rig = Rig::new();
    for stage in Stage::ALL {
        assert!(
            rig.book.record(&node()).is_none() || rig.attempt().state == State::UnderWay,
            "before {stage:?}"
        );
        // The stages before are there already; a second boot to the next one only adds it.
        let mut anew = Rig::new();
        anew.boot_to(stage);
        let stages: Vec<Stage> = anew.attempt().steps.iter().map(|step| step.stage).collect();
        assert_eq!(stages, Stage::ALL[..=stage.number()], "{stage:?}");
        let next = Stage::ALL.get(stage.number() + 1);
        let expected = if stage == Stage::PhoneHome {
            State::Booted
        } else {
            State::UnderWay
        };
        assert_eq!(anew.attempt().state, expected, "{stage:?}");
        if expected == State::UnderWay {
            assert_eq!(anew.attempt().next(Habits::default()), next.copied(), "{stage:?}");
        }
        rig = anew;
    }
    assert!(
        rig.attempt()
            .steps
            .iter()
            .all(|step| step.end == End::Done && step.tries == 1)
    );
    assert_eq!((rig.attempt().number, rig.says()), (1, None));
    assert_eq!(rig.attempt().hints.arch, "x86_64-efi");
    rig.wait(3600);
    assert_eq!((rig.attempt().state, rig.says()), (State::Booted, None));
}

#[test]
fn who_needs_no_phone_home_is_booted_with_the_last_document_and_who_has_none_with_the_root_image() {
    let mut rig = Rig::new();
    rig.boot_to(Stage::MetaData);
    rig.document(IP, "/cloud-init/compute.yaml", 200, "#cloud-config\n");
    assert_eq!(rig.attempt().state, State::Booted);

    let mut rig = Rig::new();
    rig.boot_to(Stage::IpxeDhcp);
    let script = SCRIPT.replace(" ds=nocloud", " x=");
    rig.tell(Event::Script(
        IP,
        asked("/boot/v1/bootscript", 200, &script, Some(NODE)),
    ));
    for file in ["/b/vmlinuz", "/b/initrd"] {
        rig.file(file);
    }
    rig.address(Asker::Os);
    assert_eq!(rig.attempt().state, State::UnderWay);
    rig.file("/b/root");
    assert_eq!(rig.attempt().state, State::Booted);
}

#[test]
fn who_phoned_home_before_is_expected_to() {
    let mut rig = Rig::new();
    rig.boot_to(Stage::PhoneHome);
    rig.boot_to(Stage::MetaData);
    rig.document(IP, "/cloud-init/compute.yaml", 200, "#cloud-config\n");
    assert_eq!((rig.attempt().number, rig.attempt().state), (2, State::UnderWay));
    rig.wait(700);
    assert_eq!(rig.says(), Some("phone-home-missing"));
    rig.document(IP, "/cloud-init/phone-home/i", 200, "");
    assert_eq!((rig.attempt().state, rig.says()), (State::Booted, None));
}

#[test]
fn a_step_that_does_not_come_is_named_when_it_is_late_and_not_before() {
    for (reached, seconds, name) in [
        (Stage::FirmwareDhcp, 20, "loader-never-asked-for"),
        (Stage::Loader, 60, "loader-silent"),
        (Stage::IpxeDhcp, 20, "script-never-asked-for"),
        (Stage::Script, 20, "kernel-never-asked-for"),
        (Stage::Kernel, 20, "initramfs-never-asked-for"),
        (Stage::Initramfs, 60, "system-silent"),
        (Stage::OsDhcp, 60, "root-never-asked-for"),
        (Stage::Root, 180, "cloud-init-silent"),
        (Stage::MetaData, 60, "cloud-config-never-asked-for"),
        (Stage::CloudConfig, 600, "phone-home-missing"),
    ] {
        let mut rig = Rig::new();
        rig.boot_to(reached);
        rig.wait(seconds - 1);
        assert_eq!(rig.says(), None, "{reached:?}");
        rig.wait(3);
        assert_eq!(
            (rig.says(), rig.attempt().state),
            (Some(name), State::Stuck),
            "{reached:?}"
        );
        assert_eq!(rig.book.said.get(name), Some(&1), "{reached:?}");
        rig.wait(100);
        assert_eq!(rig.book.said.get(name), Some(&1), "said once");
    }
}

#[test]
fn a_node_that_goes_on_after_all_is_not_stuck_any_more() {
    let mut rig = Rig::new();
    rig.boot_to(Stage::Initramfs);
    rig.wait(120);
    assert_eq!(rig.attempt().state, State::Stuck);
    rig.address(Asker::Os);
    assert_eq!((rig.attempt().state, rig.says()), (State::UnderWay, None));
}

#[test]
fn what_is_refused_is_named_at_once_with_its_stage() {
    let mut rig = Rig::new();
    rig.boot_to(Stage::IpxeDhcp);
    let polls = "#!ipxe\nsleep 10\nchain http://172.16.0.254:8081/boot/v1/bootscript?mac=1\n";
    rig.tell(Event::Script(IP, asked("/boot/v1/bootscript", 200, polls, Some(NODE))));
    assert_eq!(rig.says(), Some("no-boot-parameters"));
    rig.script(404);
    assert_eq!(rig.says(), Some("script-refused"));
    rig.script(200);
    assert_eq!(rig.says(), None);
    rig.transfer("/b/vmlinuz", 0, 0, Bytes_::Refused(404));
    assert_eq!(rig.says(), Some("kernel-refused"));
    // iPXE begins again with the script.
    rig.script(200);
    rig.file("/b/vmlinuz");
    assert_eq!(rig.says(), None);
    rig.transfer("/b/initrd", 0, 1000, Bytes_::UnderWay);
    rig.transfer("/b/initrd", 500, 1000, Bytes_::Broken);
    assert_eq!(rig.says(), Some("initramfs-broken-off"));
    assert_eq!(rig.attempt().number, 1);

    let mut rig = Rig::new();
    rig.boot_to(Stage::FirmwareDhcp);
    rig.transfer("nothing.efi", 0, 0, Bytes_::Refused(404));
    assert_eq!(rig.says(), Some("loader-refused"));
}

#[test]
fn dhcp_that_leads_nowhere_is_named() {
    let cases = [
        (Outcome::Silence("no_pool"), "no-address"),
        (
            Outcome::OtherServer(Some(Ipv4Addr::new(172, 16, 0, 9))),
            "foreign-dhcp-server",
        ),
    ];
    for (outcome, name) in cases {
        let mut rig = Rig::new();
        rig.dhcp(NODE, Asker::Firmware, true, Outcome::Offered(gets()));
        rig.dhcp(NODE, Asker::Firmware, false, outcome);
        assert_eq!(rig.says(), Some(name));
    }
    let mut rig = Rig::new();
    let nothing = Gets {
        boot_file: false,
        note: Some("no_loader"),
        ..gets()
    };
    rig.dhcp(NODE, Asker::Firmware, true, Outcome::Offered(nothing));
    rig.dhcp(NODE, Asker::Firmware, false, Outcome::Has(nothing));
    assert_eq!(rig.says(), Some("no-loader"));
}

#[test]
fn offers_that_nobody_takes_are_the_relays_fault_where_there_is_one() {
    for (relay, name) in [(None, "offer-not-taken"), (Some(IP), "relay-without-route")] {
        let mut rig = Rig::new();
        for _ in 0..4 {
            rig.tell(Event::Dhcp(Dhcp {
                mac: NODE,
                six: false,
                xid: 7,
                asker: Asker::Firmware,
                begins: true,
                renews: false,
                relay,
                outcome: Outcome::Offered(gets()),
                hints: None,
            }));
            rig.wait(5);
        }
        assert_eq!(rig.says(), Some(name));
        assert_eq!(rig.attempt().steps[0].tries, 4);
        rig.dhcp(NODE, Asker::Firmware, false, Outcome::Has(gets()));
        assert_eq!(rig.says(), None);
    }
}

#[test]
fn a_loader_for_other_machines_is_named_when_it_was_fetched() {
    let mut rig = Rig::new();
    rig.rack.program = Arch::Arm64Efi;
    rig.boot_to(Stage::Loader);
    assert_eq!(rig.says(), Some("wrong-loader"));
}

#[test]
fn a_root_image_that_comes_slowly_is_named_with_its_rate_and_is_not_stuck() {
    let mut rig = Rig::new();
    rig.boot_to(Stage::OsDhcp);
    rig.transfer("/b/root", 0, 1 << 30, Bytes_::UnderWay);
    for second in 1..=15 {
        rig.transfer("/b/root", second * 300_000, 1 << 30, Bytes_::UnderWay);
        rig.wait(1);
    }
    assert_eq!((rig.says(), rig.attempt().state), (Some("root-slow"), State::UnderWay));
    assert!(rig.attempt().diagnosis.as_ref().unwrap().text.contains("kB a second"));
    rig.wait(40);
    assert_eq!((rig.says(), rig.attempt().state), (Some("root-stalled"), State::Stuck));
    rig.transfer("/b/root", 1 << 30, 1 << 30, Bytes_::Done);
    assert_eq!((rig.says(), rig.attempt().state), (None, State::UnderWay));
}

#[test]
fn cloud_init_from_an_address_of_nobody_is_told_by_that_address() {
    let mut rig = Rig::new();
    let ip = IpAddr::from([172, 16, 0, 99]);
    rig.document(ip, "/cloud-init/meta-data", 404, "");
    let record = rig.book.record(&Who::Ip(ip)).unwrap();
    let said = record.attempts[0].diagnosis.as_ref().unwrap();
    assert_eq!(said.name, "unknown-address");
    assert!(said.text.contains("172.16.0.99"), "{}", said.text);
}

#[test]
fn who_asks_for_the_script_of_another_node_does_not_touch_its_timeline() {
    let mut rig = Rig::new();
    rig.boot_to(Stage::PhoneHome);
    let before = rig.book.record(&node()).unwrap().clone();
    let stranger = IpAddr::from([172, 16, 0, 66]);
    for status in [200, 404] {
        rig.tell(Event::Script(
            stranger,
            asked("/boot/v1/bootscript", status, SCRIPT, Some(NODE)),
        ));
    }
    rig.document(stranger, "/cloud-init/phone-home/i", 403, "");
    rig.tell(Event::Loader(
        stranger,
        Transfer {
            name: "x.efi".into(),
            sent: 0,
            of: None,
            state: Bytes_::Refused(404),
            agent: "".into(),
        },
    ));
    assert_eq!(rig.book.record(&node()).unwrap().attempts, before.attempts);
}

#[test]
fn a_machine_that_begins_anew_gives_its_attempt_up_and_the_last_ones_are_kept() {
    let mut rig = Rig::new();
    for _ in 0..8 {
        rig.boot_to(Stage::Kernel);
    }
    let record = rig.book.record(&node()).unwrap();
    assert_eq!(record.attempts.len(), 5);
    let numbers: Vec<u64> = record.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [4, 5, 6, 7, 8]);
    assert!(
        record
            .attempts
            .iter()
            .take(4)
            .all(|attempt| attempt.state == State::GivenUp)
    );
}

#[test]
fn a_node_that_only_renews_its_address_does_not_boot() {
    let mut rig = Rig::new();
    rig.address(Asker::Os);
    assert_eq!(rig.book.records().count(), 0);
    rig.boot_to(Stage::PhoneHome);
    let before = rig.attempt().clone();
    rig.address(Asker::Os);
    assert_eq!(rig.attempt(), &before);
}

#[test]
fn a_machine_that_comes_into_the_inventory_keeps_what_it_did() {
    let mut rig = Rig::new();
    rig.book.restore(Who::Mac(NODE), Record::of([Attempt::new(1, 500)]));
    rig.boot_to(Stage::Kernel);
    assert!(rig.book.record(&Who::Mac(NODE)).is_none());
    assert_eq!(rig.attempt().number, 1);
}

#[test]
fn a_flood_of_strangers_costs_no_node_its_timeline() {
    let mut rig = Rig::new();
    rig.boot_to(Stage::Root);
    for number in 0..5000_u16 {
        let [a, b] = number.to_be_bytes();
        rig.dhcp(
            Mac([2, 0, 0, 0, a, b]),
            Asker::Firmware,
            true,
            Outcome::Silence("no_pool"),
        );
    }
    assert!(rig.book.records().count() <= 1025);
    assert!(rig.book.forgotten > 3000);
    assert_eq!(rig.attempt().at(), Some(Stage::Root));
    assert!(rig.book.changed().contains(&node()));
}

#[test]
fn each_stage_is_told_to_who_watches_however_quickly_it_passes() {
    let mut rig = Rig::new();
    rig.boot_to(Stage::Loader);
    assert!(rig.book.moves().is_empty(), "nobody watches");
    rig.book.is_watched = true;
    rig.boot_to(Stage::PhoneHome);
    let stages: Vec<Stage> = rig.book.moves().iter().filter_map(|boot| boot.stage).collect();
    assert_eq!(stages, Stage::ALL);
    assert!(rig.book.moves().is_empty());
}

#[test]
fn a_record_survives_being_written_and_read() {
    let mut rig = Rig::new();
    rig.boot_to(Stage::CloudConfig);
    rig.wait(700);
    let record = rig.book.record(&node()).unwrap().clone();
    let text = serde_json::to_string(&record).unwrap();
    let read: Record = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    let mut book = Book::new(Limits::default(), Deadlines::default());
    book.restore(node(), read);
    let event = Event::Document(IP, asked("/cloud-init/phone-home/i", 200, "", None));
    book.take(&event, &rig.rack, rig.now);
    assert_eq!(book.record(&node()).unwrap().attempts[0].state, State::Booted);
}

#[test]
fn the_view_has_stragglers_first_and_percentiles_of_what_was_reached() {
    let mut rig = Rig::new();
    rig.boot_to(Stage::PhoneHome);
    rig.dhcp(STRANGER, Asker::Firmware, true, Outcome::Silence("no_pool"));
    let boots = Boots::of(&rig.book, rig.now);
    let order: Vec<&str> = boots.boots.iter().map(|boot| boot.who.as_str()).collect();
    assert_eq!(order, ["52:54:00:00:00:09", "x1000c0s0b0n0"]);
    assert_eq!(boots.stages.len(), Stage::ALL.len());
    assert!(boots.stages.iter().all(|stage| stage.count == 1 && stage.p50_ms <= 500));
}

/// Whatever comes in whatever order: nothing panics, memory is bounded, and what is said is one of the things that can be.
#[test]
fn events_in_any_order_keep_the_book_in_its_bounds() {
    let seeds = 0..300_u64;
    for seed in seeds {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut rig = Rig::new();
        for _ in 0..400 {
            let mac = if random(3) == 0 { STRANGER } else { NODE };
            let asker = [Asker::Firmware, Asker::Ipxe, Asker::Os][random(3) as usize];
            let names = ["ipxe-x86_64.efi", "/b/vmlinuz", "/b/initrd", "/b/root", "/b/none"];
            let states = [
                Bytes_::UnderWay,
                Bytes_::Done,
                Bytes_::Aborted,
                Bytes_::Broken,
                Bytes_::Refused(404),
            ];
            match random(8) {
                0 => rig.dhcp(mac, asker, true, Outcome::Offered(gets())),
                1 => rig.dhcp(mac, asker, false, Outcome::Has(gets())),
                2 => rig.dhcp(mac, asker, random(2) == 0, Outcome::Silence("no_pool")),
                3 => rig.script([200, 404, 503][random(3) as usize]),
                4 | 5 => {
                    let (name, state) = (names[random(5) as usize], states[random(5) as usize]);
                    rig.transfer(name, random(2000), 1000, state);
                }
                6 => {
                    let paths = ["meta-data", "user-data", "vendor-data", "compute.yaml", "phone-home/1"];
                    let path = format!("/cloud-init/{}", paths[random(5) as usize]);
                    rig.document(
                        IP,
                        &path,
                        [200, 404][random(2) as usize],
                        "#include\nhttp://x:1/a.yaml\n",
                    );
                }
                _ => rig.wait(random(200)),
            }
        }
        let changed: BTreeSet<Who> = rig.book.changed();
        assert!(changed.len() <= 3, "seed {seed}");
        for (who, record) in rig.book.records() {
            assert!(record.attempts.len() <= 5, "seed {seed}: {who}");
            for attempt in &record.attempts {
                assert!(attempt.steps.len() <= 48, "seed {seed}: {who}");
                assert!(
                    attempt.steps.iter().all(|step| step.heard_ms >= step.began_ms),
                    "seed {seed}: {who}"
                );
                assert!(
                    attempt.state != State::Booted || attempt.diagnosis.is_none(),
                    "seed {seed}: {who}: {attempt:?}"
                );
            }
        }
    }
}
