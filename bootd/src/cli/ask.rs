//! Asks the running bootd through its admin socket.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{Exit, Place, load};
use crate::config;

/// Fetches a view as text; what goes wrong is printed with what to do.
pub(super) fn text(place: &Place, path: &str) -> Result<String, Exit> {
    send(place, Method::GET, path, String::new())
}

/// Asks the running bootd to do something, and gives what it says.
pub(super) fn post<T: DeserializeOwned>(place: &Place, path: &str) -> Result<T, Exit> {
    post_text(place, path, String::new())
}

/// The same, with something to go by.
pub(super) fn post_text<T: DeserializeOwned>(place: &Place, path: &str, body: String) -> Result<T, Exit> {
    understood(&send(place, Method::POST, path, body)?)
}

/// Has each server-sent event of a view given to `each`, by its type and data, until bootd ends.
pub(super) fn events(place: &Place, path: &str, mut each: impl FnMut(&str, &str)) -> Exit {
    let mut rest = String::new();
    let mut name = String::new();
    let asked = exchange(place, Method::GET, path, String::new(), |part| {
        rest.push_str(part);
        while let Some(end) = rest.find('\n') {
            let line: String = rest.drain(..=end).collect();
            match line.trim_end().split_once(": ") {
                Some(("event", text)) => text.clone_into(&mut name),
                Some(("data", text)) => each(&name, text),
                _ => {}
            }
        }
    });
    match asked {
        Ok(_) => {
            eprintln!("bootd: the running bootd ended");
            Exit::Failed
        }
        Err(exit) => exit,
    }
}

/// Fetches what is no text.
pub(super) fn bytes(place: &Place, path: &str) -> Result<Vec<u8>, Exit> {
    exchange(place, Method::GET, path, String::new(), |_| {})
}

fn send(place: &Place, method: Method, path: &str, body: String) -> Result<String, Exit> {
    let bytes = exchange(place, method, path, body, |_| {})?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `each`: is given each part of a good answer as it comes, as far as it is text.
fn exchange(
    place: &Place,
    method: Method,
    path: &str,
    body: String,
    mut each: impl FnMut(&str),
) -> Result<Vec<u8>, Exit> {
    // A bootd that serves can be asked while its next configuration is being written.
    let config = place.of_running();
    let socket = match config::admin_socket(&config) {
        Some(socket) => socket,
        None => load(&Place { config })?.admin_socket,
    };
    let failed = |what: &dyn std::fmt::Display| {
        eprintln!("bootd: {}: {what}", socket.display());
        Exit::Failed
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    runtime.block_on(async {
        let stream = UnixStream::connect(&socket).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                failed(&"no bootd answers there; start `bootd serve`, or name its configuration with --config")
            }
            std::io::ErrorKind::PermissionDenied => {
                failed(&"not allowed; run this as root or as bootd's user, or join its group (usermod -aG bootd NAME)")
            }
            _ => failed(&error),
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "bootd")
            .body(Full::<Bytes>::from(body))
            .map_err(|error| failed(&error))?;
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = response.status();
        let (mut parts, mut bytes) = (response.into_body(), Vec::new());
        let is_stream = path.ends_with("/changes");
        while let Some(part) = parts.frame().await {
            let part = part.map_err(|error| failed(&error))?;
            let part = part.data_ref().map(Bytes::as_ref).unwrap_or_default();
            if is_stream && status.is_success() {
                each(&String::from_utf8_lossy(part));
            } else {
                bytes.extend_from_slice(part);
            }
        }
        if status.is_success() {
            return Ok(bytes);
        }
        let text = String::from_utf8_lossy(&bytes);
        let said: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        eprintln!("bootd: {}", said["error"].as_str().unwrap_or(&text));
        Err(if status.is_client_error() {
            Exit::Wrong
        } else {
            Exit::Failed
        })
    })
}

/// Fetches a view.
pub(super) fn view<T: DeserializeOwned>(place: &Place, path: &str) -> Result<T, Exit> {
    understood(&text(place, path)?)
}

fn understood<T: DeserializeOwned>(text: &str) -> Result<T, Exit> {
    serde_json::from_str(text).map_err(|error| {
        eprintln!("bootd: the running bootd's answer is not understood (is it another version?): {error}");
        Exit::Failed
    })
}

/// Prints a view as JSON, indented.
pub(super) fn print_json(place: &Place, path: &str) -> Exit {
    match view::<serde_json::Value>(place, path) {
        Ok(value) => {
            say!("{value:#}");
            Exit::Good
        }
        Err(exit) => exit,
    }
}
