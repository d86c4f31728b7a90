//! The heads of a request and of its answer, as the capture keeps them. Pure. What authorizes somebody is left out: headers with tokens, and queries
//! that are signatures.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use hyper::body::Body as _;
use hyper::header::CONTENT_LENGTH;
use hyper::{HeaderMap, Method, Response, Uri};

use super::Body;
use crate::boots::Event;
use crate::capture::{Direction, Kind, Packet, Whose};

/// A request that came, before its answer is known.
pub(super) struct Heads {
    client: SocketAddr,
    server: SocketAddr,
    request: Packet,
}

impl Heads {
    /// `peer`: the client itself, be it behind a proxy.
    pub(super) fn of(
        peer: IpAddr,
        port: u16,
        server: SocketAddr,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Self {
        let client = SocketAddr::new(peer, port);
        let mut text = String::with_capacity(512);
        for part in [method.as_str(), " ", uri.path()] {
            text.push_str(part);
        }
        if let Some(query) = uri.query() {
            text.push('?');
            text.push_str(if is_secret(query) { "(left out)" } else { query });
        }
        text.push_str(" HTTP/1.1\r\n");
        lines(&mut text, headers);
        Self {
            client,
            server,
            request: Packet::new(Kind::Tcp, Direction::FromClient, client, server, text.as_bytes()),
        }
    }

    /// With its answer.
    pub(super) fn answered(self, response: &Response<Body>) -> [Event; 2] {
        let status = response.status();
        let mut text = String::with_capacity(256);
        let _ = write!(
            text,
            "HTTP/1.1 {} {}\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default()
        );
        // What reads captures waits for as many bytes as a head names, and there are none here.
        let bytes = response.body().size_hint().exact().unwrap_or_default();
        let _ = write!(text, "content-length: 0\r\nx-bootd-left-out: {bytes} bytes\r\n");
        lines(&mut text, response.headers());
        let answer = Packet::new(
            Kind::Tcp,
            Direction::ToClient,
            self.client,
            self.server,
            text.as_bytes(),
        );
        let whose = Whose::Ip(self.client.ip());
        [Event::Packet(whose, self.request), Event::Packet(whose, answer)]
    }
}

/// Whether a query authorizes somebody.
fn is_secret(query: &str) -> bool {
    query.split('&').any(|pair| {
        let name = pair.split('=').next().unwrap_or_default().to_ascii_lowercase();
        name.starts_with("x-amz-")
            || ["token", "secret", "key", "signature", "password"]
                .iter()
                .any(|word| name.ends_with(word))
    })
}

fn lines(text: &mut String, headers: &HeaderMap) {
    for (name, value) in headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
        let name = name.as_str();
        let is_secret = matches!(name, "authorization" | "proxy-authorization" | "cookie" | "set-cookie")
            || ["token", "secret", "key"].iter().any(|word| name.ends_with(word));
        let value = match is_secret {
            true => "(left out)",
            false => value.to_str().unwrap_or("(no text)"),
        };
        // Piece by piece: it is done for each request.
        for part in [name, ": ", value, "\r\n"] {
            text.push_str(part);
        }
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use hyper::header::AUTHORIZATION;

    use super::*;
    use crate::http::full;

    #[test]
    fn what_authorizes_somebody_is_not_kept() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer abc".parse().unwrap());
        headers.insert("x-amz-security-token", "abc".parse().unwrap());
        headers.insert("user-agent", "iPXE".parse().unwrap());
        let server = SocketAddr::from(([10, 0, 0, 254], 9000));
        let uri: Uri = "/b/k?X-Amz-Signature=abc".parse().unwrap();
        let heads = Heads::of([10, 0, 0, 1].into(), 1024, server, &Method::GET, &uri, &headers);
        let text = format!("{:?}", String::from_utf8_lossy(heads.request.bytes()));
        assert!(
            text.contains("iPXE") && text.contains("/b/k?(left out)") && !text.contains("abc"),
            "{text}"
        );
        let [_, Event::Packet(whose, answer)] = heads.answered(&Response::new(full("body"))) else {
            panic!("no packets")
        };
        assert_eq!(whose, Whose::Ip([10, 0, 0, 1].into()));
        assert!(answer.bytes().starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
}
