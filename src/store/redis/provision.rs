//! Settings of the server itself, for those whose Redis it is: they are made each time a connection is.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};
use tokio::time;

use super::link::Link;
use super::replies::{Failure, Verdict};
use crate::doctor::{Finding, Severity};

/// What is to be set, by the names that the server has for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Provision {
    settings: Vec<(&'static str, String)>,
}

const PATIENCE: Duration = Duration::from_millis(500);

impl Provision {
    /// The last word counts.
    pub(crate) fn set(&mut self, name: &'static str, value: String) {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value));
    }
}

impl Link {
    /// Makes the settings, and keeps what came of it. A server that refuses them is as good a cache as before.
    pub(super) async fn provide(&self, connection: &mut MultiplexedConnection) {
        if self.is_replica || self.settings.provision.settings.is_empty() {
            return;
        }
        let mut refused = Vec::new();
        for (name, value) in &self.settings.provision.settings {
            let mut command = redis::cmd("CONFIG");
            command.arg("SET").arg(name).arg(value);
            if let Err(why) = carried_out(connection, &command).await {
                refused.push(format!("{name} cannot be set ({why})"));
            }
        }
        let outcome = match refused.is_empty() {
            true => Ok(()),
            false => Err(format!("{}: grant +config|set to this user, or set it in redis.conf", refused.join(", "))),
        };
        let Ok(mut provided) = self.provided.lock() else { return };
        if let Err(refused) = &outcome
            && provided.as_ref() != Some(&outcome)
        {
            tracing::warn!(redis = %self.address, "{refused}");
        }
        *provided = Some(outcome);
    }

    /// `None` where nothing was to be set.
    pub(super) fn provision_found(&self) -> Option<Finding> {
        let provided = self.provided.lock().ok()?.clone()?;
        let names: Vec<_> =
            self.settings.provision.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        Some(match provided {
            Ok(()) => Finding::new("settings", Severity::Fine, format!("were made: {}", names.join(", "))),
            Err(refused) => Finding::new("settings", Severity::Degraded, refused),
        })
    }
}

async fn carried_out(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<(), &'static str> {
    let answer =
        time::timeout(PATIENCE, connection.send_packed_command(command)).await.map_err(|_| "no answer in time")?;
    match answer.and_then(Value::extract_error) {
        Ok(_) => Ok(()),
        Err(error) if Failure::from(&error).verdict == Verdict::NotGranted => Err("not granted"),
        Err(_) => Err("refused"),
    }
}
