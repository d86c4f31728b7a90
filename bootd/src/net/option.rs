//! Options of sockets that no crate here has a name for: numbers, of one level and name.
//!
//! Contains unsafe code: the two calls.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// How many bytes a second a connection sends at most (SO_MAX_PACING_RATE); of a listening socket those that it accepts have it, too.
pub fn set_pace(socket: impl AsFd, bytes_a_second: u64) -> io::Result<()> {
    // The largest number means no limit; in four bytes each kernel takes it.
    let pace = u32::try_from(bytes_a_second).unwrap_or(u32::MAX - 1);
    set_option(socket, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, pace.cast_signed())
}

/// Sets an option.
pub(super) fn set_option(
    socket: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value is a number of this length that lives for the call; the system only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads one.
pub(super) fn option(socket: impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the value is a place of this length; the system writes no more than it, and any bytes are a number.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_has_the_pace_of_the_socket_that_accepted_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set_pace(&listener, 12_500_000).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let pace = option(&accepted, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE);
        assert_eq!(pace.unwrap(), 12_500_000);
    }
}
