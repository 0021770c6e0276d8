//! Where settings come from: flags, before the environment, before a file. All have the same names there.
//!
//! `--default-ttl 60s`, `CACHE_PROXY_DEFAULT_TTL=60s`, and `default-ttl = "60s"` in the TOML file that `--config` or
//! `CACHE_PROXY_CONFIG` names, are one setting. What is in a file `.env` in the working directory counts as environment.
//! Whatever is not set by a flag becomes one, so that there is one parser, and one text for each mistake.

mod effective;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use clap::{Arg, ArgAction, Command};
use toml::{Table, Value};

pub(crate) use effective::Effective;

/// Variables of the environment begin so.
const PREFIX: &str = "CACHE_PROXY_";
/// How alike a name must be to be suggested.
const ALIKE: f64 = 0.75;
/// What can be said by a flag alone.
const FLAGS_ONLY: [&str; 5] = ["help", "version", "config", "check", "print-config"];
/// Variables that mean something to others too.
const COMMON: [(&str, &str); 2] = [("redis", "REDIS_URL"), ("log", "RUST_LOG")];

/// A setting in words: what it is set to, once or several times, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    values: Vec<String>,
    /// For messages.
    place: String,
}

/// Settings by their names.
type Settings = BTreeMap<String, Given>;

/// The arguments with what the environment and the file add to them, and where each of the added ones comes from.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) all: Vec<OsString>,
    places: BTreeMap<String, String>,
}

// ===== impl Arguments =====

impl Arguments {
    /// Those of this process.
    ///
    /// # Errors
    ///
    /// A sentence about what cannot be read or understood.
    pub(crate) fn of_process(command: &Command) -> Result<Self, String> {
        let mut environment = of_dotenv(Path::new(".env"))?;
        environment.extend(env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))));
        Self::of(command, env::args_os().collect(), environment)
    }

    fn of(command: &Command, own: Vec<OsString>, environment: BTreeMap<String, OsString>) -> Result<Self, String> {
        let environment = of_environment(command, &environment)?;
        let named =
            |name: &str| own.iter().filter_map(|argument| argument.to_str()).any(|argument| is_flag(argument, name));
        let file = after(&own, "config").or_else(|| environment.get("config").map(|given| given.values[0].clone()));
        let mut settings = match file {
            Some(file) => of_file(command, Path::new(&file))?,
            None => Settings::new(),
        };
        settings.extend(environment.into_iter().filter(|(name, _)| name != "config"));
        settings.retain(|name, _| !named(name));
        let mut all = own;
        let added = settings.iter().flat_map(|(name, given)| words(command, name, given));
        // After the program's name, before its own arguments.
        all.splice(1.min(all.len())..1.min(all.len()), added.map(OsString::from));
        let places = settings.into_iter().map(|(name, given)| (name, given.place)).collect();
        Ok(Self { all, places })
    }

    /// Where the first setting comes from that a message names.
    pub(crate) fn place_of(&self, message: &str) -> Option<&str> {
        let is_named = |name: &str| message.split([' ', '\'', '=', ';']).any(|word| word == format!("--{name}"));
        self.places.iter().find(|(name, _)| is_named(name)).map(|(_, place)| place.as_str())
    }
}

/// `--name`, or `--name=value`.
fn is_flag(argument: &str, name: &str) -> bool {
    argument
        .strip_prefix("--")
        .and_then(|rest| rest.strip_prefix(name))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

/// The value of a flag among arguments that nobody has parsed yet.
fn after(own: &[OsString], name: &str) -> Option<String> {
    let mut words = own.iter().filter_map(|argument| argument.to_str());
    let flag = words.find(|argument| is_flag(argument, name))?;
    flag.split_once('=').map(|(_, value)| value.to_owned()).or_else(|| words.next().map(ToOwned::to_owned))
}

/// A setting as flags.
fn words(command: &Command, name: &str, given: &Given) -> Vec<String> {
    let is_switch = argument(command, name).is_some_and(|argument| matches!(argument.get_action(), ArgAction::SetTrue));
    match is_switch {
        true => given.values.iter().filter(|value| *value == "true").map(|_| format!("--{name}")).collect(),
        false => given.values.iter().map(|value| format!("--{name}={value}")).collect(),
    }
}

fn argument<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|argument| argument.get_long() == Some(name))
}

/// Names that may be set, in the order of the help.
fn names(command: &Command) -> impl Iterator<Item = &str> {
    command.get_arguments().filter_map(Arg::get_long).filter(|name| !FLAGS_ONLY.contains(name))
}

/// The one of `known` that was probably meant.
pub(crate) fn alike<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let alike = |known: &&str| strsim::jaro_winkler(known, name);
    let best = known.into_iter().max_by(|one, other| alike(one).total_cmp(&alike(other)));
    best.filter(|best| alike(best) > ALIKE)
}

fn unknown(command: &Command, place: &str, name: &str, shown: impl Fn(&str) -> String) -> String {
    match alike(name, names(command)) {
        Some(best) => format!("{place} is no setting; did you mean {}?", shown(best)),
        None => format!("{place} is no setting; --help lists them, without their --"),
    }
}

// ===== the environment =====

/// Nothing where there is no such file.
fn of_dotenv(path: &Path) -> Result<BTreeMap<String, OsString>, String> {
    match dotenvy::from_path_iter(path) {
        Ok(pairs) => pairs
            .map(|pair| pair.map(|(name, value)| (name, value.into())))
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{}: {}", path.display(), without_line(&error))),
        Err(error) if error.not_found() => Ok(BTreeMap::new()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// The line itself may be a secret.
fn without_line(error: &dotenvy::Error) -> String {
    match error {
        dotenvy::Error::LineParse(_, at) => {
            format!("a line cannot be understood, from its octet {at} on; write NAME=VALUE")
        }
        error => error.to_string(),
    }
}

/// What Kubernetes puts into the environment for a service named cache-proxy.
fn is_of_kubernetes(name: &str) -> bool {
    name == "port" || name.starts_with("port-") || name.starts_with("service-")
}

fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase().replace('-', "_"))
}

fn of_environment(command: &Command, environment: &BTreeMap<String, OsString>) -> Result<Settings, String> {
    let mut settings = Settings::new();
    let common = COMMON.iter().map(|(name, variable)| ((*name).to_owned(), (*variable).to_owned()));
    let own = environment.keys().filter_map(|key| {
        let name = key.strip_prefix(PREFIX)?;
        Some((name.to_lowercase().replace('_', "-"), key.clone()))
    });
    let own = own.filter(|(name, _)| !is_of_kubernetes(name));
    // Our own names are the last, and so outrank the common ones.
    for (name, variable_name) in common.chain(own) {
        let Some(value) = environment.get(&variable_name) else { continue };
        let value = value.to_str().ok_or_else(|| format!("{variable_name} is no text"))?;
        let known = argument(command, &name).filter(|_| name == "config" || !FLAGS_ONLY.contains(&name.as_str()));
        let Some(argument) = known else { return Err(unknown(command, &variable_name, &name, variable)) };
        if value.is_empty() {
            continue;
        }
        let value = match (argument.get_action(), value.to_lowercase().as_str()) {
            (ArgAction::SetTrue, "1" | "true" | "yes" | "on") => "true".to_owned(),
            (ArgAction::SetTrue, "0" | "false" | "no" | "off") => "false".to_owned(),
            (ArgAction::SetTrue, _) => return Err(format!("{variable_name}={value}: write true or false")),
            _ => value.to_owned(),
        };
        settings.insert(name, Given { values: vec![value], place: variable_name });
    }
    Ok(settings)
}

// ===== the file =====

fn of_file(command: &Command, path: &Path) -> Result<Settings, String> {
    let place = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("--config {place}: {error}"))?;
    of_text(command, &text).map_err(|error| format!("{place}: {error}")).map(|mut settings| {
        settings.values_mut().for_each(|given| given.place = format!("{place}: {}", given.place));
        settings
    })
}

fn of_text(command: &Command, text: &str) -> Result<Settings, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string().trim().replace('\n', "; "))?;
    let mut settings = Settings::new();
    for (name, value) in table {
        let known = argument(command, &name).filter(|_| !FLAGS_ONLY.contains(&name.as_str()));
        let Some(argument) = known else { return Err(unknown(command, &name, &name, ToOwned::to_owned)) };
        let is_switch = matches!(argument.get_action(), ArgAction::SetTrue);
        let values = match value {
            Value::Array(values) if matches!(argument.get_action(), ArgAction::Append) => {
                values.iter().map(|value| member(&name, value)).collect::<Result<_, _>>()?
            }
            Value::Boolean(value) if is_switch => vec![value.to_string()],
            _ if is_switch => return Err(format!("{name}: write true or false")),
            Value::Array(_) => return Err(format!("{name} has one value, and no list of them")),
            value => vec![scalar(&name, &value)?],
        };
        settings.insert(name.clone(), Given { values, place: name });
    }
    Ok(settings)
}

/// One of several. A table is what a rule in words has: `host = "a"` is `host=a`.
fn member(name: &str, value: &Value) -> Result<String, String> {
    let Value::Table(table) = value else { return scalar(name, value) };
    let word = |(key, value): (&String, &Value)| match value {
        Value::Boolean(value) => Ok(format!("{key}={value}")),
        Value::Array(values) => {
            let texts: Result<Vec<_>, _> = values.iter().map(|value| scalar(&format!("{name}.{key}"), value)).collect();
            texts.map(|texts| format!("{key}={}", texts.join(",")))
        }
        value => scalar(&format!("{name}.{key}"), value).map(|text| format!("{key}={text}")),
    };
    let words: Vec<String> = table.iter().map(word).collect::<Result<_, _>>()?;
    match words.iter().find(|word| word.contains(char::is_whitespace)) {
        Some(word) => Err(format!("{name}: there is a blank in {word:?}")),
        None => Ok(words.join(" ")),
    }
}

fn scalar(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        _ => Err(format!("{name}: write a text or a number")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn merged(own: &[&str], environment: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let own = ["proxy"].iter().chain(own).map(OsString::from).collect();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        let merged = Arguments::of(&Cli::command(), own, environment)?;
        Ok(merged.all.into_iter().skip(1).map(|word| word.into_string().expect("text")).collect())
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("it can be written");
        file
    }

    #[test]
    fn flags_go_before_the_environment_and_that_before_the_file() {
        let file = file("ttl = \"1s\"\nmin-ttl = \"1s\"\nmax-ttl = \"1s\"\nmax-fetches = 7\n");
        let config = format!("--config={}", file.path().display());
        let environment = [("CACHE_PROXY_TTL", "2s"), ("CACHE_PROXY_MIN_TTL", "2s"), ("PATH", "/bin")];
        let found = merged(&[&config, "--ttl", "3s"], &environment).expect("it can be read");
        assert_eq!(found, ["--max-fetches=7", "--max-ttl=1s", "--min-ttl=2s", &config, "--ttl", "3s"]);
    }

    #[test]
    fn the_file_may_be_named_by_the_environment() {
        let file = file("upgrades = true\nstrict-purges = false\nkey-header = [\"a\", \"b\"]\nearly-refresh = 0.5\n");
        let path = file.path().to_str().expect("text");
        let found = merged(&[], &[("CACHE_PROXY_CONFIG", path)]).expect("it can be read");
        assert_eq!(found, ["--early-refresh=0.5", "--key-header=a", "--key-header=b", "--upgrades"]);
    }

    #[test]
    fn tables_of_the_file_are_rules_in_words() {
        let file = file(
            "[[route]]\nhost = \"a\"\nttl = 5\nbypass = true\n[[route]]\npath = \"/b\"\nttl = \"1m\"\nkey-header = [\"a\", \"b\"]\n",
        );
        let config = format!("--config={}", file.path().display());
        let found = merged(&[&config], &[]).expect("it can be read");
        assert_eq!(found, ["--route=bypass=true host=a ttl=5", "--route=key-header=a,b path=/b ttl=1m", &config]);
        let refused = of_text(&Cli::command(), "route = [{ path = \"/a /b\" }]").expect_err("two paths");
        assert!(refused.contains("a blank in \"path=/a /b\""), "{refused}");
    }

    #[test]
    fn a_file_of_variables_counts_as_environment() {
        let file = file("# ours\nCACHE_PROXY_TTL=2s\nexport REDIS_URL='redis://a'\n");
        let found = of_dotenv(file.path()).expect("it can be read");
        assert_eq!((&*found["CACHE_PROXY_TTL"], &*found["REDIS_URL"]), ("2s".as_ref(), "redis://a".as_ref()));
        assert_eq!(of_dotenv(Path::new("/nowhere/at/all")), Ok(BTreeMap::new()));
        let refused = of_dotenv(self::file("A=1\nDB_PASSWORD=pa55 word\n").path()).expect_err("two words");
        assert!(refused.contains("cannot be understood") && !refused.contains("pa55"), "{refused}");
    }

    #[test]
    fn common_variables_count_and_our_own_outrank_them() {
        let redis = |environment: &[_]| merged(&[], environment).expect("it can be read");
        assert_eq!(redis(&[("REDIS_URL", "redis://a")]), ["--redis=redis://a"]);
        assert_eq!(redis(&[("CACHE_PROXY_REDIS", "redis://b"), ("REDIS_URL", "redis://a")]), ["--redis=redis://b"]);
        assert_eq!(redis(&[("CACHE_PROXY_UPGRADES", "yes"), ("CACHE_PROXY_STRICT_PURGES", "0")]), ["--upgrades"]);
        assert_eq!(redis(&[("CACHE_PROXY_TTL", "")]), [""; 0]);
        let kubernetes =
            ["PORT", "SERVICE_HOST", "SERVICE_PORT", "PORT_80_TCP"].map(|name| format!("CACHE_PROXY_{name}"));
        let kubernetes: Vec<_> = kubernetes.iter().map(|name| (name.as_str(), "tcp://10.0.0.1:80")).collect();
        assert_eq!(redis(&kubernetes), [""; 0]);
    }

    #[test]
    fn what_is_no_setting_is_refused_with_the_one_that_was_meant() {
        let refused = |text: &str| {
            let file = file(text);
            merged(&["--config", file.path().to_str().expect("text")], &[]).expect_err(text)
        };
        assert!(refused("max-entires = 5").contains("did you mean max-entries?"));
        assert!(refused("qqq = 5").contains("--help"));
        assert!(refused("check = true").contains("no setting"));
        assert!(refused("upgrades = \"perhaps\"").contains("true or false"));
        assert!(refused("ttl = [\"1s\"]").contains("one value"));
        assert!(refused("ttl = { a = 1 }").contains("a text or a number"));
        assert!(refused("ttl = ").contains("TOML"));
        let refused = |name| merged(&[], &[(name, "1")]).expect_err(name);
        assert!(refused("CACHE_PROXY_MAX_ENTIRES").contains("did you mean CACHE_PROXY_MAX_ENTRIES?"));
        assert!(refused("CACHE_PROXY_CHECK").contains("no setting"));
        assert!(merged(&["--config", "/nowhere/at/all"], &[]).expect_err("no file").contains("/nowhere/at/all"));
    }
}
