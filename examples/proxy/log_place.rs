//! Where the log goes: standard error, or the end of a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tracing_subscriber::fmt::MakeWriter;

/// Clones write to the same place.
#[derive(Clone, Debug)]
pub(crate) struct LogPlace {
    file: Option<Arc<Named>>,
}

#[derive(Debug)]
struct Named {
    path: PathBuf,
    open: RwLock<Arc<File>>,
}

/// One line is one write.
#[derive(Debug)]
pub(crate) enum LogWriter {
    StandardError,
    File(Arc<File>),
}

// ===== impl LogPlace =====

impl LogPlace {
    /// # Errors
    ///
    /// When the file cannot be written to.
    pub(crate) fn new(file: Option<&Path>) -> Result<Self, String> {
        let Some(path) = file else { return Ok(Self { file: None }) };
        let open = RwLock::new(opened(path)?);
        Ok(Self { file: Some(Arc::new(Named { path: path.to_owned(), open })) })
    }

    /// After the file was given another name: what follows goes to a new one. One that cannot be opened changes nothing.
    pub(crate) fn reopen(&self) -> Result<(), String> {
        if let Some(file) = &self.file {
            let new = opened(&file.path)?;
            *file.open.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        Ok(())
    }
}

fn opened(path: &Path) -> Result<Arc<File>, String> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map(Arc::new).map_err(|error| format!("--log-file {}: {error}", path.display()))
}

impl<'a> MakeWriter<'a> for LogPlace {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        match &self.file {
            None => LogWriter::StandardError,
            Some(file) => LogWriter::File(Arc::clone(&file.open.read().unwrap_or_else(PoisonError::into_inner))),
        }
    }
}

impl Write for LogWriter {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::StandardError => io::stderr().write(octets),
            Self::File(file) => (&**file).write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
