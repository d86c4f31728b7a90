//! Whether connections are accepted: by this process, by the one that follows it, or for a moment by none, while they wait in the kernel.
//!
//! The listening sockets are shared with the other process, so a connection that is not accepted here is accepted there. Connections that are open
//! stay here: after [`Door::leave`] each answer is its connection's last one, and what is being sent is sent to its end.

use tokio::sync::watch;

/// One for all listeners. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Door(watch::Sender<Is>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Open,
    Shut,
    /// For good.
    Left,
}

impl Default for Door {
    fn default() -> Self {
        Self(watch::Sender::new(Is::Open))
    }
}

impl Door {
    /// Nobody comes in for a moment.
    pub fn shut(&self) {
        self.0.send_replace(Is::Shut);
    }

    /// Who waits comes in.
    pub fn open(&self) {
        self.0.send_replace(Is::Open);
    }

    /// Who waits, and who comes, is for another process.
    pub fn leave(&self) {
        self.0.send_replace(Is::Left);
    }

    /// Whether it is another process's.
    pub fn is_left(&self) -> bool {
        *self.0.borrow() == Is::Left
    }

    /// Waits until it is open. `false`: it will not be.
    pub async fn is_open(&self) -> bool {
        let mut told = self.0.subscribe();
        let known = told.wait_for(|is| *is != Is::Shut).await;
        known.is_ok_and(|is| *is == Is::Open)
    }

    /// Waits until it is not open.
    pub async fn closes(&self) {
        let mut told = self.0.subscribe();
        // The sender is here, too.
        let _ = told.wait_for(|is| *is != Is::Open).await;
    }
}
