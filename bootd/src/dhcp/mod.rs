//! DHCP: addresses, loaders and boot scripts for nodes of the inventory; short leases for everybody else.
//!
//! [`start`] opens the sockets of all interfaces that are there before it says that it works; then each interface has its threads, and one
//! follows interfaces that come, change and go. A packet thread never waits for anything but its
//! socket: known nodes are answered from the inventory's snapshot, the pool's leases are written by the store's own thread, which then sends
//! the ACK. What a packet gets is decided by pure code ([`v4`], [`v6`]); [`explain`] and [`explain6`] run the same code without a packet.

pub mod answer_diff;
mod clock;
mod ignored;
mod interfaces;
pub mod limit;
mod outbox;
mod pressure;
pub(crate) mod recent;
pub mod router;
pub mod rules;
mod served;
pub mod v4;
pub mod v6;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bootd_sdk::mac::Mac;
use serde::{Deserialize, Serialize};

use crate::boots::Watch;
use crate::config::Config;
use crate::inventory::Snapshot;
use crate::metrics::Metrics;
use crate::net::{NetError, Sockets};
use crate::state::{Store, StoreError};
use crate::watchdog::Pause;

pub use ignored::{Ignored, IgnoredError};
pub use interfaces::Warnings;
pub use served::Served;
pub use v4::boot::Stage;
pub use v4::explain::{Explained, explain};
pub use v4::hosts::{Hosts, HostsError};
pub use v4::sqlite::SqliteError;
pub use v4::table::{PoolFill, State};
pub use v4::unsaved::Unsaved;
pub use v6::explain::{Explained6, explain6};
pub use v6::policy::Receiving as Receiving6;

/// What DHCP works with.
#[derive(Clone)]
pub struct Deps {
    /// The configuration that it starts with; [`Service::prepare`] is for others.
    pub config: Arc<Config>,
    /// The inventory.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where leases of the pools are kept.
    pub store: Store,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is told of boots.
    pub watch: Watch,
    /// Whom the operator has ignored.
    pub ignored: Arc<Ignored>,
    /// What another process handed over, and where sockets that are open are counted.
    pub sockets: Arc<Sockets>,
    /// The leases of earlier runs.
    pub former: Former,
    /// A pause of all threads that receive.
    pub pause: Arc<Pause>,
    /// Called with each hardware address that is not in the inventory. It must not wait: the packet thread calls it.
    pub unknown: Arc<dyn Fn(Mac, Option<Then>) -> Lookup + Send + Sync>,
}

/// Where the leases of earlier runs are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Former {
    /// In the store.
    #[default]
    Kept,
    /// Another process has them yet; packets that are about them are kept until [`Service::take_over`].
    Awaited,
}

/// What is to happen when a look-up is over. It holds a packet, so whoever keeps many of these bounds their number.
pub type Then = Box<dyn FnOnce() + Send>;

/// What comes of asking about a hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// A look-up begins. When it is over, found or not, [`Then`] is called once, on another thread; that takes about a second at most.
    Begun,
    /// It began with an earlier packet. Nothing will be called.
    Waiting,
    /// It was looked up a moment ago, or there is nobody to ask. Nothing will be called.
    Nobody,
}

/// Why DHCP cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    /// A socket or an interface.
    #[error("DHCP on {interface}: {source}")]
    Net {
        /// The interface.
        interface: String,
        /// What is wrong, and what to do.
        source: NetError,
    },
    /// The leases of earlier runs cannot be read.
    #[error("the leases of the DHCP pools cannot be read: {0}")]
    Leases(#[from] StoreError),
    /// The server's own DUID.
    #[error("the server's identity for DHCPv6 can be neither read nor kept: {0}")]
    Identity(#[source] StoreError),
    /// The file of hosts.
    #[error("dhcp.hosts: {0}")]
    Hosts(#[from] HostsError),
    /// No thread.
    #[error("no thread for DHCP on {interface}: {source}")]
    Thread {
        /// The interface.
        interface: String,
        /// Why.
        source: std::io::Error,
    },
}

/// An address of a pool, as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// The hardware address of its holder, or its last one; of a conflict, who uses it.
    pub mac: Option<Mac>,
    /// The client identifier that came with it, in hexadecimal.
    pub client_id: Option<String>,
    /// The address.
    pub ip: Ipv4Addr,
    /// Its subnet.
    pub subnet: String,
    /// `offered`, `leased`, `free`, `declined` or `conflict`.
    pub state: State,
    /// Seconds until that ends; 0 when it has ended.
    pub expires_in_s: u64,
    /// What the client calls itself.
    pub hostname: Option<String>,
}

/// The leases of the pools.
#[derive(Clone)]
pub struct Leases(Arc<v4::service::Shell>);

impl Leases {
    /// The addresses of the pools that clients have or had last, and those that rest; by address.
    pub fn all(&self) -> Vec<LeaseView> {
        self.0.leases()
    }

    /// How full each pool is.
    pub fn fill(&self) -> Vec<PoolFill> {
        self.0.fill()
    }

    /// An operator says that nobody has an address. `false`: it is in no pool, or nobody ever had it.
    pub fn free(&self, ip: Ipv4Addr) -> bool {
        self.0.free(ip)
    }
}

/// Writes the leases that run into a file as CoreDHCP keeps them. Says how many there are.
pub fn export_leases(path: &Path, leases: &[LeaseView]) -> Result<usize, SqliteError> {
    let running = v4::handover::running(leases, clock::unix_clock());
    v4::sqlite::write(path, &running)?;
    Ok(running.len())
}

/// DHCP at work.
pub struct Service {
    shell: Arc<v4::service::Shell>,
    ports: Arc<Mutex<interfaces::Watch>>,
    ending: Arc<AtomicBool>,
    warnings: Warnings,
    served: Arc<Served>,
    watch: Mutex<Option<JoinHandle<()>>>,
    prober: Mutex<Option<v4::prober::Prober>>,
}

/// A configuration that DHCP can go by at any moment.
pub struct Prepared {
    rules: v4::service::Rules,
    ports: interfaces::Prepared,
}

/// Opens the sockets of all interfaces that are there, reads the leases of earlier runs, and begins to answer. Interfaces that come later are
/// served when they come.
pub fn start(deps: Deps) -> Result<Service, DhcpError> {
    let six = match &deps.config.dhcp6 {
        Some(dhcp6) => Some(Arc::new(v6::service::Shell::new(deps.clone(), dhcp6)?)),
        None => None,
    };
    let shell = Arc::new(v4::service::Shell::new(deps)?);
    let watch = interfaces::Watch::start(Arc::clone(&shell), six)?;
    let (warnings, served) = (watch.warnings(), watch.lines());
    let (ports, ending) = (Arc::new(Mutex::new(watch)), Arc::<AtomicBool>::default());
    let (watched, told) = (Arc::clone(&ports), Arc::clone(&ending));
    let watch = std::thread::Builder::new()
        .name("dhcp-interfaces".into())
        .spawn(move || interfaces::Watch::run(&watched, &told))
        .map_err(|source| DhcpError::Thread {
            interface: "all interfaces".into(),
            source,
        })?;
    Ok(Service {
        prober: Mutex::new(v4::prober::Prober::start(&shell)),
        shell,
        ports,
        ending,
        warnings,
        served,
        watch: Mutex::new(Some(watch)),
    })
}

impl Service {
    /// Ends the threads, within about a second. Leases that are being written are still acknowledged.
    pub fn stop(&self) {
        self.end();
        if !self.shell.deps().pause.is_for_good() {
            self.shell.hand_over();
        }
    }

    /// Has all threads that receive rest, so that nothing changes any more, and waits for that so long at most. `false`: something goes on yet.
    pub fn pause(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let rests = self.shell.deps().pause.begin(within);
        while rests && self.shell.is_busy() {
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(LOOK_WHETHER_BUSY);
        }
        rests
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.shell.deps().pause.end();
    }

    /// What is known of the pools and is not in the store. To be asked in a pause.
    pub fn unsaved(&self) -> Vec<Unsaved> {
        self.shell.unsaved()
    }

    /// Reads the leases that were [`Former::Awaited`], with what is not in the store, and answers the packets that waited for them.
    pub fn take_over(&self, unsaved: Vec<Unsaved>) -> Result<(), DhcpError> {
        self.shell.take_over(unsaved)
    }

    /// Ends the threads: another process goes on with all of it.
    pub fn leave(&self) {
        self.shell.deps().pause.hand_over();
        self.end();
    }

    /// Reads what another configuration names and opens the sockets that it needs. Nothing changes yet.
    pub fn prepare(&self, config: &Arc<Config>) -> Result<Prepared, DhcpError> {
        Ok(Prepared {
            rules: v4::service::Rules::read(config)?,
            ports: locked(&self.ports).prepare(config)?,
        })
    }

    /// Goes by another configuration from now on. No packet is lost: sockets that are needed before and after are not touched.
    pub fn take(&self, prepared: Prepared) {
        let mut ports = locked(&self.ports);
        if self.shell.take(prepared.rules) == v4::service::Probing::Other {
            let started = v4::prober::Prober::start(&self.shell);
            let before = std::mem::replace(&mut *locked(&self.prober), started);
            drop(before);
        }
        ports.take(prepared.ports);
    }

    /// What clients of DHCPv4 asked lately.
    pub fn recent(&self) -> Vec<recent::Asked> {
        self.shell.recent().all()
    }

    /// The leases of the pools, to look at and to change.
    pub fn leases(&self) -> Leases {
        Leases(Arc::clone(&self.shell))
    }

    /// What is wrong with the interfaces; it changes with time.
    pub fn warnings(&self) -> Warnings {
        Arc::clone(&self.warnings)
    }

    /// Where DHCP is; it changes with time.
    pub fn served(&self) -> Arc<Served> {
        Arc::clone(&self.served)
    }

    fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(watch) = locked(&self.watch).take() {
            // A panic has been printed by now.
            let _ = watch.join();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Between two looks whether packets are kept for plugins or probes.
const LOOK_WHETHER_BUSY: Duration = Duration::from_millis(2);
/// How often the interfaces are looked at: they get other addresses, go, and come back as other ones.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
