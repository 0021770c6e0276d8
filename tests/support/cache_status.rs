//! Reads `Cache-Status` (RFC 9211) as what it is, a structured field: a list of items with parameters (RFC 8941 §3.1).

use std::fmt;

use http::HeaderMap;

/// One cache's word on a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub cache: String,
    pub parameters: Vec<(String, Value)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Boolean(bool),
    Integer(i64),
    Token(String),
    Text(String),
}

impl Member {
    pub fn get(&self, parameter: &str) -> Option<&Value> {
        self.parameters.iter().find(|(name, _)| name == parameter).map(|(_, value)| value)
    }

    pub fn has(&self, parameter: &str) -> bool {
        self.get(parameter) == Some(&Value::Boolean(true))
    }

    pub fn integer(&self, parameter: &str) -> Option<i64> {
        match self.get(parameter)? {
            Value::Integer(number) => Some(*number),
            other => panic!("{parameter}={other} is no integer"),
        }
    }

    /// A token, or a text: both are words.
    pub fn word(&self, parameter: &str) -> Option<&str> {
        match self.get(parameter)? {
            Value::Token(word) | Value::Text(word) => Some(word),
            other => panic!("{parameter}={other} is no word"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "?{}", u8::from(*value)),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Token(word) => f.write_str(word),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// The members, the cache nearest to the origin first.
///
/// # Panics
/// When a line is not a list of items, or a parameter comes twice.
pub fn members_of(headers: &HeaderMap) -> Vec<Member> {
    let mut members = Vec::new();
    for line in headers.get_all("cache-status") {
        let line = line.to_str().expect("Cache-Status is ASCII");
        let mut reader = Reader { line, rest: line };
        loop {
            members.push(reader.member());
            reader.blanks();
            if reader.rest.is_empty() {
                break;
            }
            reader.sign(',');
            reader.blanks();
        }
    }
    members
}

struct Reader<'a> {
    line: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn member(&mut self) -> Member {
        let cache = match self.value() {
            Value::Token(name) | Value::Text(name) => name,
            other => self.fail(&format!("{other} cannot name a cache")),
        };
        let mut parameters: Vec<(String, Value)> = Vec::new();
        while self.accepts(';') {
            self.blanks();
            let name = self.take(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || "_-.*".contains(char));
            assert!(
                name.starts_with(|char: char| char.is_ascii_lowercase() || char == '*'),
                "{}",
                self.fail_text("a key")
            );
            assert!(parameters.iter().all(|(known, _)| known != name), "{name} comes twice in {:?}", self.line);
            let name = name.to_owned();
            let value = if self.accepts('=') { self.value() } else { Value::Boolean(true) };
            parameters.push((name, value));
        }
        Member { cache, parameters }
    }

    fn value(&mut self) -> Value {
        match self.rest.chars().next() {
            Some('"') => Value::Text(self.text()),
            Some('?') => {
                self.sign('?');
                Value::Boolean(match self.take(|char| char == '0' || char == '1') {
                    "0" => false,
                    "1" => true,
                    _ => self.fail("a boolean is ?0 or ?1"),
                })
            }
            Some(char) if char.is_ascii_digit() || char == '-' => {
                let digits = self.take(|char| char.is_ascii_digit() || char == '-');
                Value::Integer(digits.parse().unwrap_or_else(|_| self.fail("an integer was expected")))
            }
            Some(char) if char.is_ascii_alphabetic() || char == '*' => {
                let word = self.take(|char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(char));
                Value::Token(word.to_owned())
            }
            _ => self.fail("a value was expected"),
        }
    }

    fn text(&mut self) -> String {
        self.sign('"');
        let mut text = String::new();
        loop {
            let mut chars = self.rest.chars();
            match (chars.next(), chars.next()) {
                (Some('"'), _) => {
                    self.sign('"');
                    return text;
                }
                (Some('\\'), Some(escaped @ ('"' | '\\'))) => {
                    text.push(escaped);
                    self.rest = &self.rest[2..];
                }
                (Some(char @ ' '..='~'), _) if char != '\\' => {
                    text.push(char);
                    self.rest = &self.rest[1..];
                }
                _ => self.fail("a text that ends was expected"),
            }
        }
    }

    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|char| !belongs(char)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn accepts(&mut self, sign: char) -> bool {
        let after = self.rest.strip_prefix(sign);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn sign(&mut self, sign: char) {
        assert!(self.accepts(sign), "{}", self.fail_text(&format!("{sign:?}")));
    }

    fn fail(&self, why: &str) -> ! {
        panic!("{}", self.fail_text(why))
    }

    fn fail_text(&self, wanted: &str) -> String {
        format!("{:?} is no Cache-Status: {wanted}, at {:?}", self.line, self.rest)
    }
}
