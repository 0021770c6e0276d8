//! The query parameters of `params`: a JSON object, and nothing in it that a query could not say.

use serde_json::Value;
use url::Url;

use crate::question::LONGEST;

/// Names and values, in the order of the names. A name with a list stands once for each member of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Params(Vec<(String, String)>);

// ===== impl Params =====

impl Params {
    /// Reads `{"page": 2, "tag": ["a", "b"]}`. Numbers keep all their digits.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong.
    pub(crate) fn read(json: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(json).map_err(|error| format!("params is no JSON: {error}"))?;
        let Value::Object(members) = value else {
            return Err("params must be a JSON object, for example {\"page\": 2}".to_owned());
        };
        let (mut pairs, mut octets) = (Vec::new(), 0);
        for (name, value) in members {
            let values = match value {
                Value::Array(values) => values,
                value => vec![value],
            };
            for value in values {
                let value = plain(value).ok_or_else(|| {
                    format!("params: {name:?} must be a string, a number, a boolean, or an array of those")
                })?;
                // A long name with a long list would take far more room than it came in.
                octets += name.len() + value.len() + 2;
                if octets > LONGEST {
                    return Err(format!("params are too long: {LONGEST} octets as a query at most"));
                }
                pairs.push((name.clone(), value));
            }
        }
        Ok(Self(pairs))
    }

    /// Appends them to the URL's own query.
    pub(crate) fn append_to(&self, url: &mut Url) {
        if !self.0.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.0);
        }
    }
}

fn plain(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
