//! What there is at present, as numbers: read when somebody asks for `/metrics`, and never kept up to date in between.
//!
//! Looks at snapshots and tables for moments, under the locks that their other readers take. Has no label that a client could choose.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Admin;
use crate::boots::{Stage, State};
use crate::dhcp;
use crate::log;

/// All of it.
pub(super) fn read(admin: &Admin) -> Registry {
    let mut present = Present(Registry::with_prefix("bootd"));
    present.inventory(admin);
    present.leases(admin);
    present.boots(admin);
    present.cache(admin);
    present.state(admin);
    present.0
}

struct Present(Registry);

/// Labels and their values.
type Labels = Vec<(&'static str, String)>;
type Numbers = Family<Labels, Gauge<f64, AtomicU64>>;

impl Present {
    fn inventory(&mut self, admin: &Admin) {
        let app = &admin.app();
        self.number(
            "inventory_nodes",
            "Nodes of the inventory",
            app.inventory.snapshot().len() as f64,
        );
        let refused = app.inventory.refused_rows().into_iter();
        self.numbers(
            "inventory_refused_rows",
            "Rows that plugins publish and the inventory leaves out, by plugin",
            refused.map(|(plugin, rows)| (vec![("plugin", plugin)], rows as f64)),
        );
    }

    fn leases(&mut self, admin: &Admin) {
        let pools = admin.leases.fill();
        let subnet = |fill: &dhcp::PoolFill| ("subnet", format!("{}/{}", fill.subnet.0, fill.subnet.1));
        self.numbers(
            "dhcp_pool_addresses",
            "Addresses of a pool, by its subnet",
            pools.iter().map(|fill| (vec![subnet(fill)], fill.addresses as f64)),
        );
        let taken = pools.iter().flat_map(|fill| {
            TAKEN.map(|state| {
                let labels = vec![subnet(fill), ("state", state.name().into())];
                (labels, fill.states.get(&state).copied().unwrap_or_default() as f64)
            })
        });
        self.numbers(
            "dhcp_leases",
            "Addresses of a pool that are not free, by subnet and why",
            taken,
        );
    }

    fn boots(&mut self, admin: &Admin) {
        let tally = admin.app().watch.tally();
        let each = State::ALL.into_iter().flat_map(|state| {
            let tally = &tally;
            Stage::ALL.map(move |stage| {
                let boots = tally.boots.get(&(state, stage)).copied().unwrap_or_default();
                (
                    vec![("state", state.name().into()), ("stage", stage.name().into())],
                    boots as f64,
                )
            })
        });
        self.numbers(
            "boots",
            "Clients, by the state of their newest attempt to boot and the stage that it reached",
            each,
        );
    }

    fn cache(&mut self, admin: &Admin) {
        let Some(amounts) = admin.app().artifacts.amounts() else {
            return;
        };
        let all = [
            ("cache_objects", "Objects that are kept", amounts.objects as f64),
            (
                "cache_bytes",
                "Bytes of the objects that are kept",
                amounts.bytes as f64,
            ),
            (
                "cache_budget_bytes",
                "Bytes that kept objects may have together",
                amounts.budget as f64,
            ),
            ("cache_fills", "Objects that are being fetched", amounts.fills as f64),
            (
                "cache_stale_objects",
                "Objects that are kept and may be old, because their origin could not be asked or has others",
                amounts.stale as f64,
            ),
            (
                "cache_waiting_objects",
                "New versions that are here and wait for the other files of their scripts",
                amounts.waiting as f64,
            ),
            (
                "cache_former_objects",
                "Versions that stay for nodes whose script is of before a change",
                amounts.former as f64,
            ),
        ];
        for (name, help, value) in all {
            self.number(name, help, value);
        }
    }

    fn state(&mut self, admin: &Admin) {
        let fails = admin.store.trouble().is_some();
        self.number(
            "store_up",
            "1: the last commit to the state file succeeded",
            if fails { 0.0 } else { 1.0 },
        );
        self.0.register(
            "store_commit_duration_seconds",
            "How long commits to the state file take, until they are on the disk",
            admin.store.commits().clone(),
        );
        self.0.register(
            "log_lost_lines",
            "Log lines that were lost because whoever takes them was too slow",
            ConstCounter::new(log::lost() as u64),
        );
    }

    fn number(&mut self, name: &str, help: &str, value: f64) {
        let gauge: Gauge<f64, AtomicU64> = Gauge::default();
        gauge.set(value);
        self.0.register(name, help, gauge);
    }

    fn numbers(&mut self, name: &str, help: &str, all: impl Iterator<Item = (Labels, f64)>) {
        let family = Numbers::default();
        for (labels, value) in all {
            family.get_or_create_owned(&labels).set(value);
        }
        self.0.register(name, help, family);
    }
}

/// The states in which an address is not free.
const TAKEN: [dhcp::State; 4] = [
    dhcp::State::Offered,
    dhcp::State::Leased,
    dhcp::State::Declined,
    dhcp::State::Conflict,
];
