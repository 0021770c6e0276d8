//! What [`CacheHandle::doctor`](crate::CacheHandle::doctor) finds.

use std::fmt;

/// What was found about the store, and what follows from it.
///
/// Its `Display` has a line for each finding, for people. It shows no password, no key and nothing that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at, in a word: `connection`, `server`, `rights`…
    pub subject: &'static str,
    /// How well it is.
    pub severity: Severity,
    /// What was found, what follows from it, and what helps.
    pub says: String,
}

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// As it should be.
    Fine,
    /// The cache works, and does less than it could.
    Degraded,
    /// Nothing is stored, or nothing is found.
    Broken,
}

impl Diagnosis {
    pub(crate) fn new(findings: Vec<Finding>) -> Self {
        Self { findings }
    }

    /// In the order in which they were made.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The worst of them.
    pub fn severity(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Fine)
    }
}

impl Finding {
    pub(crate) fn new(subject: &'static str, severity: Severity, says: impl Into<String>) -> Self {
        Self { subject, severity, says: says.into() }
    }
}

impl Severity {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Degraded => "degraded",
            Self::Broken => "broken",
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9} {:<11} {}", self.severity.as_str(), self.subject, self.says)
    }
}
