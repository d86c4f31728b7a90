//! The listeners that are open, as the configuration in service has them.
//!
//! Another configuration finds its new ones opened before it counts ([`Listeners::open`]); then they are served, and those that it has not are closed
//! ([`Listeners::take`]). One that it has at the same address is never closed: its connections go on, by what is said of it now.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::door::Door;
use super::router::InService;
use super::service::{BindError, bind, run};
use crate::config::{Config, Listener, Service};
use crate::net::{Sockets, set_pace};

/// Where listeners are served.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// Scripts, documents and loaders.
    pub scripts: Handle,
    /// Images: however many bytes of them leave, no script waits behind them.
    pub images: Handle,
}

/// All of them.
pub struct Listeners {
    app: InService,
    lanes: Lanes,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    sockets: Arc<Sockets>,
    door: Door,
    open: Vec<Open>,
    /// Those that the configuration before had; their sockets go at any moment.
    closed: Vec<SocketAddr>,
}

/// One that is served.
struct Open {
    listener: Arc<Listener>,
    socket: Arc<TcpListener>,
    stop: CancellationToken,
}

/// Sockets that are open and not served yet: clients wait in their queues.
#[derive(Debug, Default)]
pub struct Opened(Vec<(Arc<Listener>, Arc<TcpListener>)>);

impl Listeners {
    /// None yet. Their tasks end with the shutdown token, and are told apart by `tasks`.
    pub fn new(
        app: InService,
        lanes: Lanes,
        (tasks, shutdown): (TaskTracker, CancellationToken),
        (sockets, door): (Arc<Sockets>, Door),
    ) -> Self {
        Self {
            app,
            lanes,
            tasks,
            shutdown,
            sockets,
            door,
            open: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// Opens those of a configuration that are not there, or takes their sockets that were handed over. Nobody is answered by them yet.
    pub async fn open(&self, config: &Config) -> Result<Opened, BindError> {
        let mut opened = Opened::default();
        for listener in &config.http.listeners {
            if self.open.iter().any(|open| open.listener.address == listener.address) {
                continue;
            }
            let mut tries = if self.closed.contains(&listener.address) {
                TRIES
            } else {
                1
            };
            let socket = loop {
                tries -= 1;
                let bound = {
                    let _lane = self.lane(listener).enter();
                    bind(listener, &self.sockets)
                };
                match bound {
                    Err(error) if error.kind() == ErrorKind::AddrInUse && tries > 0 => tokio::time::sleep(PAUSE).await,
                    bound => break bound?,
                }
            };
            opened.0.push((Arc::new(listener.clone()), socket));
        }
        Ok(opened)
    }

    /// The one that is open at this port, for who finds it taken.
    pub fn at_port(&self, port: u16) -> Option<SocketAddr> {
        let mut addresses = self.open.iter().map(|open| open.listener.address);
        addresses.find(|address| address.port() == port)
    }

    /// Serves what was opened for the configuration in service, and closes what it has not.
    pub fn take(&mut self, config: &Config, opened: Opened) {
        let of = |address: SocketAddr| {
            let mut listeners = config.http.listeners.iter();
            listeners.find(|listener| listener.address == address)
        };
        self.closed.clear();
        for gone in self.open.extract_if(.., |open| of(open.listener.address).is_none()) {
            gone.stop.cancel();
            self.closed.push(gone.listener.address);
        }
        for open in &mut self.open {
            let Some(now) = of(open.listener.address).filter(|now| **now != *open.listener) else {
                continue;
            };
            if now.pace != open.listener.pace
                && let Err(error) = set_pace(&*open.socket, now.pace.unwrap_or(NO_PACE))
            {
                tracing::warn!(listener = %now.address, %error, "the pace of a listener stays as it was");
            }
            open.listener = Arc::new(now.clone());
        }
        for (listener, socket) in opened.0 {
            let stop = self.shutdown.child_token();
            let running = run(
                Arc::clone(&socket),
                Arc::clone(&listener),
                Arc::clone(&self.app),
                self.door.clone(),
                stop.clone(),
            );
            self.tasks.spawn_on(running, self.lane(&listener));
            self.open.push(Open { listener, socket, stop });
        }
    }

    /// A listener stays where it was opened, whatever it serves later.
    fn lane(&self, listener: &Listener) -> &Handle {
        match listener.serve.contains(&Service::Artifacts) {
            true => &self.lanes.images,
            false => &self.lanes.scripts,
        }
    }
}

/// As fast as it goes.
const NO_PACE: u64 = u32::MAX as u64;
/// How often, and after how long, a socket is tried again that was closed a moment ago.
const TRIES: u32 = 25;
const PAUSE: Duration = Duration::from_millis(20);
