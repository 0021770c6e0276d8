//! The settings as they are after all that says something about them, without secrets.

use std::collections::BTreeMap;
use std::fmt;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command};
use toml::Value;

use super::names;
use crate::redact::redact;

/// What is printed by `--print-config`, and can be read again as a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Effective {
    values: BTreeMap<String, Setting>,
}

#[derive(Clone, Debug, PartialEq)]
struct Setting {
    value: Value,
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
                return Some(Setting { value: Value::Boolean(matches.get_flag(id)), is_default });
            }
            let mut texts: Vec<Value> =
                matches.get_raw(id)?.map(|text| Value::String(redact(&text.to_string_lossy()))).collect();
            let value = match argument.get_action() {
                ArgAction::Append => Value::Array(texts),
                _ => texts.pop()?,
            };
            Some(Setting { value, is_default })
        };
        Self { values: names(command).filter_map(|name| Some((name.to_owned(), value(name)?))).collect() }
    }

    /// The names of what is another in `newer`.
    pub(crate) fn differs_in<'a>(&'a self, newer: &'a Self) -> Vec<&'a str> {
        let all = self.values.keys().chain(newer.values.keys().filter(|name| !self.values.contains_key(*name)));
        all.filter(|name| self.values.get(*name) != newer.values.get(*name)).map(String::as_str).collect()
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, Setting { value, is_default }) in &self.values {
            let note = if *is_default { "  # default" } else { "" };
            writeln!(f, "{name} = {value}{note}")?;
        }
        Ok(())
    }
}
