//! What nodes say of themselves: that they are up, and the key of their end of a tunnel (contract 4.7).
//!
//! Only for nodes, by their address. Nothing is stored; a node's keys are its own affair and are never logged. There is no WireGuard here.

use bootd_sdk::form;
use bootd_sdk::json;
use bootd_sdk::prelude::*;
use bootd_sdk::text::shown;

use crate::routes::{plain, unprocessable};

/// A node says that it is up.
pub(crate) fn phone_home(request: &Request) -> Answer {
    let Some(fields) = form::pairs(&request.body) else {
        return Answer {
            status: 400,
            ..Answer::default()
        };
    };
    let Some(node) = &request.node else {
        return unprocessable();
    };
    let hostname = shown(form::first(&fields, "hostname").unwrap_or_default());
    tracing::info!(
        node = node.id.as_str(),
        hostname = hostname.as_str(),
        "node phoned home"
    );
    Answer::default()
}

/// A node asks for a tunnel. It hears that there is none, so that it goes on without.
pub(crate) fn wg_init(request: &Request) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "json::null_is_default")]
        public_key: String,
    }
    match json::parse::<Body>(&request.body) {
        Err(_) => plain(400, "Invalid request body\n"),
        Ok(Body { public_key }) if public_key.is_empty() => plain(400, "Public key is required\n"),
        Ok(_) => plain(404, "this server has no WireGuard\n"),
    }
}
