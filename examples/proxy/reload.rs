//! SIGHUP: settings are read again, and those that can change do.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::access::Access;
use crate::access_log::Logging;
use crate::admin::Admin;
use crate::cli::Cli;
use crate::settings::Effective;
use crate::tls::Tls;

/// What can change while the proxy runs.
pub(crate) struct Reload {
    pub(crate) logging: Logging,
    pub(crate) admin: Arc<Admin>,
    pub(crate) tls: Tls,
    pub(crate) access: Option<Arc<Access>>,
    pub(crate) effective: Effective,
}

/// Settings that this changes.
const CHANGEABLE: [&str; 5] = ["log", "admin-token-file", "client-token-file", "tls-cert", "tls-key"];

// ===== impl Reload =====

impl Reload {
    /// Begins to listen, so that a signal does not end the process.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub(crate) fn begin(mut self) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                match self.again() {
                    Ok(()) => tracing::info!("settings were read again"),
                    Err(reason) => tracing::error!("settings stay as they were: {reason}"),
                }
            }
        });
        Ok(())
    }

    /// All that can be wrong is found before anything is changed.
    fn again(&mut self) -> Result<(), String> {
        let (cli, effective) = Cli::read_again()?;
        let filter = Logging::filter(&cli.log)?;
        let guard = self.admin.guard_by(cli.admin.admin_token_file.as_deref())?;
        let certificates = cli.tls.load()?;
        let tokens = cli.access.client_token_file.as_deref().map(Access::tokens).transpose()?;
        self.logging.reopen()?;
        self.logging.change(filter)?;
        self.admin.change_guard(guard);
        self.tls.change(certificates);
        if let (Some(access), Some(tokens)) = (&self.access, tokens) {
            access.change_tokens(tokens);
        }
        let differs = self.effective.differs_in(&effective);
        // What was off, or is to be, waits as well.
        let changes = |name: &str| CHANGEABLE.contains(&name) && self.effective.has(name) && effective.has(name);
        let later: Vec<&str> = differs.into_iter().filter(|name| !changes(name)).collect();
        if !later.is_empty() {
            tracing::warn!(settings = later.join(", "), "these change when the proxy is started anew");
        }
        // What waits for a new start is told each time.
        Ok(())
    }
}
