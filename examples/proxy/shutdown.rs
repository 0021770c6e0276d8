//! The signals that end the proxy: the first asks, the second insists.

use std::io;
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(crate) struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

// ===== impl Shutdown =====

impl Shutdown {
    /// Begins to listen, so that no signal is lost later.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Completes at the next signal.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Ends the process at the next signal.
    pub(crate) async fn insisted(mut self) {
        self.asked().await;
        process::exit(1);
    }
}
