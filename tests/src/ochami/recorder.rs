//! A proxy before bootd that writes down what a client says: what the real program sends, to compare.
//!
//! It listens on the port beside the boot listener's. Where requests name that port they name bootd's when they are
//! passed on and written down; both have as many digits, so that nothing else changes.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};

use super::{Line, read_body, read_head};
use crate::SERVER;

/// Its port.
pub const PORT: u16 = 8082;

/// A running one; its thread ends with the process.
pub struct Recorder {
    said: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// Starts it, in the namespace of the calling thread.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((SERVER, PORT)).context("the recorder's port")?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let recorder = Self {
            said: Arc::clone(&said),
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let said = Arc::clone(&said);
                thread::spawn(move || pass_on(stream, &said));
            }
        });
        Ok(recorder)
    }

    /// The requests since the last time, in order, each with all of its bytes.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Until the client leaves.
fn pass_on(stream: TcpStream, said: &Mutex<Vec<String>>) -> Result<()> {
    let mut client = BufReader::new(stream);
    let mut bootd = Line::open()?;
    loop {
        let head = read_head(&mut client)?;
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length = length.map_or(Ok(0), str::parse).context("content-length")?;
        let body = read_body(&mut client, length)?;
        let request = format!("{head}\r\n{body}").replace(&format!("{SERVER}:{PORT}"), &format!("{SERVER}:8081"));
        ensure!(
            request.len() == head.len() + 2 + body.len(),
            "the ports are not equally long"
        );
        said.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request.clone());
        let answer = bootd.ask(request.as_bytes())?;
        let bytes = format!("{}\r\n{}", answer.head, answer.body);
        client.get_mut().write_all(bytes.as_bytes())?;
    }
}
