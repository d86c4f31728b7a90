//! Safe Rust over bootd's plugin ABI: a plugin is a type that implements [`Plugin`], and one line, [`export_plugin!`].
//!
//! Everything is ordinary blocking Rust on threads that the host owns. Panics stop at the border: the instance is taken out of service
//! and the host starts another. `tracing` events go to bootd's log. [`fake::FakeHost`] stands in for bootd in unit tests.
//!
//! ```
//! use bootd_sdk::prelude::*;
//!
//! #[derive(Deserialize)]
//! struct Settings { greeting: String }
//!
//! struct Hello { settings: Settings }
//!
//! impl Plugin for Hello {
//!     const NAME: &'static str = "hello";
//!     type Settings = Settings;
//!
//!     fn init(start: Start<Settings>, setup: &mut Setup) -> Result<Self, Error> {
//!         setup.routes.push(Route::new("GET", "/hello", Access::Open));
//!         Ok(Hello { settings: start.settings })
//!     }
//!
//!     fn handle(&self, request: Request) -> Answer {
//!         let who = request.node.map_or("stranger".into(), |node| node.id);
//!         Answer::text(200, format!("{}, {who}\n", self.settings.greeting))
//!     }
//! }
//! export_plugin!(Hello);
//! # fn main() {}
//! ```

mod border;
pub mod changes;
pub mod etag;
pub mod fake;
pub mod file;
pub mod form;
mod host;
pub mod json;
pub mod lead;
pub mod mac;
pub mod sources;
pub mod text;
pub mod time;
pub mod upstream;
pub mod wire;
pub mod xname;
pub mod yaml;

pub use border::{Table, table};
pub use host::{Host, HostError, Number, Stopping};

use serde::de::DeserializeOwned;

/// What most plugins need.
pub mod prelude {
    pub use crate::mac::Mac;
    pub use crate::wire::{
        Access, Answer, Event, EventKind, Fetch, Fetched, Happening, Health, Mistake, Node, Publication, Query,
        Request, Route, Setup,
    };
    pub use crate::{Error, Host, HostError, Number, Plugin, Start, Stopping, export_plugin};
    pub use serde::Deserialize;
}

/// What an `init` or `run` ends with when it fails: text for the operator.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What `init` gets.
pub struct Start<S> {
    /// The plugin's own settings: the `config` table of bootd.toml.
    pub settings: S,
    /// `local` or `upstream`.
    pub mode: String,
    /// The folder of bootd.toml: relative paths in the settings are relative to it.
    pub folder: std::path::PathBuf,
    /// The appliance.
    pub server: wire::Server,
    /// The host; keep it for `run`, `handle` and `resolve`.
    pub host: Host,
}

/// A plugin: four blocking functions, of which only `init` must be written.
pub trait Plugin: Send + Sync + Sized + 'static {
    /// Its name, as in `libbootd_NAME.so` with `-` as `_`.
    const NAME: &'static str;
    /// The modes that it has. Another one is refused before the settings are read, as a mistake in bootd.toml.
    const MODES: &'static [&'static str] = &["local", "upstream"];
    /// Its `config` table. Settings that cannot be read are a mistake in bootd.toml.
    type Settings: DeserializeOwned;
    /// Each mode has settings of its own: [`Plugin::Settings`] is an enum with a variant for each of [`Plugin::MODES`], named like it.
    const SETTINGS_BY_MODE: bool = false;

    /// Makes an instance and says what it provides. May publish. An error here keeps the plugin out of service, with its text shown.
    fn init(start: Start<Self::Settings>, setup: &mut wire::Setup) -> Result<Self, Error>;

    /// The background thread: returns when a [`Host::sleep`] says [`Stopping`].
    fn run(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Answers an HTTP request on one of the plugin's routes. Several calls run at once.
    fn handle(&self, request: wire::Request) -> wire::Answer {
        let _ = request;
        wire::Answer::text(404, "404 page not found\n")
    }

    /// Looks up a MAC that the inventory does not have. Several calls run at once.
    fn resolve(&self, mac: mac::Mac) -> Option<wire::Node> {
        let _ = mac;
        None
    }
}

/// Exports a type that implements [`Plugin`] under the ABI's entry symbol. Once in a shared object.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        #[allow(unsafe_code)]
        const _: () = {
            static TABLE: $crate::Table = $crate::table::<$plugin>(env!("CARGO_PKG_VERSION"));

            // SAFETY: the symbol is this ABI's own and a shared object exports it once.
            #[unsafe(no_mangle)]
            extern "C" fn bootd_plugin_entry_v1(host: *const core::ffi::c_void) -> *const core::ffi::c_void {
                TABLE.entry(host)
            }
        };
    };
}

/// The plugin in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
