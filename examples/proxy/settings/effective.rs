//! The settings as they are after all that says something about them, without secrets.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command};
use toml::Value;

use super::names;
use crate::redact::redact;

/// What is printed by `--print-config`, and can be read again as a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effective {
    values: BTreeMap<String, Setting>,
}

#[derive(Clone, Debug)]
struct Setting {
    /// To be shown.
    value: Value,
    /// Of all that it is set to, secrets included.
    digest: blake3::Hash,
    is_default: bool,
}

// ===== impl Effective =====

impl Effective {
    pub(crate) fn of(command: &Command, matches: &ArgMatches) -> Self {
        let value = |name: &str| {
            let argument = super::argument(command, name)?;
            let id = argument.get_id().as_str();
            let is_default = matches.value_source(id) == Some(ValueSource::DefaultValue);
            if matches!(argument.get_action(), ArgAction::SetTrue) {
                let is_on = matches.get_flag(id);
                return Some(Setting {
                    value: Value::Boolean(is_on),
                    digest: blake3::hash(&[u8::from(is_on)]),
                    is_default,
                });
            }
            let mut texts: Vec<Value> =
                matches.get_raw(id)?.map(|text| Value::String(redact(&text.to_string_lossy()))).collect();
            let value = match argument.get_action() {
                ArgAction::Append => Value::Array(texts),
                _ => texts.pop()?,
            };
            let digest = digest(matches.get_raw(id)?);
            Some(Setting { value, digest, is_default })
        };
        Self { values: names(command).filter_map(|name| Some((name.to_owned(), value(name)?))).collect() }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The names of what is another in `newer`.
    pub(crate) fn differs_in<'a>(&'a self, newer: &'a Self) -> Vec<&'a str> {
        let all = self.values.keys().chain(newer.values.keys().filter(|name| !self.values.contains_key(*name)));
        let digest = |settings: &Self, name: &str| settings.values.get(name).map(|setting| setting.digest);
        all.filter(|name| digest(self, name) != digest(newer, name)).map(String::as_str).collect()
    }
}

/// Lengths keep values apart.
fn digest<'a>(values: impl Iterator<Item = &'a OsStr>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for value in values {
        let octets = value.as_encoded_bytes();
        hasher.update(&octets.len().to_le_bytes()).update(octets);
    }
    hasher.finalize()
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, Setting { value, is_default, .. }) in &self.values {
            let note = if *is_default { "  # default" } else { "" };
            writeln!(f, "{name} = {value}{note}")?;
        }
        Ok(())
    }
}
