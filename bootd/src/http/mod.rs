//! HTTP: the listeners, who may have what, and what answers.
//!
//! `service` accepts connections and bounds them, as long as `door` says that they are this process's; `tls` has the certificates of those that
//! speak TLS; `paths` says which paths a listener serves; `bodies` and `answers` bound what requests and answers take; `router` leads a request to a
//! plugin's route, a loader, an artifact or the public `keys`; `artifacts` answers like a read-only S3 service, with `listing` for what is asked of
//! buckets. All of it runs on one tokio runtime that no other part shares.

mod answers;
pub mod artifacts;
mod bodies;
mod deadline;
mod door;
mod heads;
mod holding;
mod keys;
mod listeners;
mod listing;
pub mod loaders;
mod paths;
mod plain;
pub mod range;
mod ready;
mod router;
mod service;
mod tls;
mod told;
mod xml;

pub use door::Door;
pub use listeners::{Lanes, Listeners, Opened};
pub(crate) use router::url_host;
pub use router::{App, Bounds, Connection, InService};
pub use service::{BindError, bind, run};
pub use tls::Certificates;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};

/// What can end a body early.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A response body.
pub type Body = BoxBody<Bytes, BodyError>;

/// A body that is in memory already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}
