//! Listening sockets that were open before this process was: systemd keeps those of `bootd.socket` while bootd starts anew, so that nobody's
//! connection is refused meanwhile.
//!
//! A socket belongs to the `http.listener` that has its address; whatever else is handed over is told and closed. Knows the descriptors of
//! `LISTEN_FDS` (sd_listen_fds(3)) and nothing else; never opens a socket.

use std::net::{SocketAddr, TcpListener};

/// The sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Handed {
    sockets: Vec<(SocketAddr, TcpListener)>,
    /// Descriptors that are something else.
    others: usize,
}

impl Handed {
    /// Takes over what was given to this process. To be called once, before there are threads: it removes the variables that say so.
    pub fn take() -> Self {
        let mut given = listenfd::ListenFd::from_env();
        let mut handed = Self::default();
        for number in 0..given.len() {
            let socket = given.take_tcp_listener(number).ok().flatten();
            match socket.and_then(|socket| Some((socket.local_addr().ok()?, socket))) {
                Some(socket) => handed.sockets.push(socket),
                None => handed.others += 1,
            }
        }
        handed
    }

    /// The socket of this address, if it is there.
    pub fn at(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let found = self.sockets.iter().position(|(at, _)| *at == address)?;
        Some(self.sockets.swap_remove(found).1)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        for (address, _) in &self.sockets {
            tracing::warn!(%address, "a socket was handed over that no http.listener has: bootd.socket and bootd.toml must name the same addresses");
        }
        if self.others > 0 {
            tracing::warn!(
                count = self.others,
                "descriptors were handed over that are no TCP listeners"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_given_to_the_listener_of_its_address_once() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut handed = Handed {
            sockets: vec![(address, socket)],
            others: 0,
        };
        assert!(handed.at("127.0.0.1:1".parse().unwrap()).is_none());
        assert_eq!(handed.at(address).unwrap().local_addr().unwrap(), address);
        assert!(handed.at(address).is_none());
    }
}
