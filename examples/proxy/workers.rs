//! Threads that serve connections, each with a runtime of its own.
//!
//! A connection stays with its thread, and what is asked of the origin for it as well. Within a thread tasks have their turns
//! in order: all that have been woken ask Redis before any of it is sent, so that one write carries what many have asked.
//! A runtime that is shared by threads wakes the sender after the first of them, which costs most of a hit twice.

use std::cell::Cell;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(0) };
}

/// All of them: the thread that has begun is the first.
#[derive(Debug)]
pub(crate) struct Workers {
    handles: Vec<Handle>,
    next: AtomicUsize,
}

/// The place of this thread among them.
pub(crate) fn index() -> usize {
    INDEX.get()
}

// ===== impl Workers =====

impl Workers {
    /// So many, of which this is one; without a number one for each processor.
    ///
    /// # Errors
    ///
    /// The system has no more threads or descriptors.
    pub(crate) fn start(count: Option<NonZeroUsize>) -> io::Result<Self> {
        let count = count.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        let mut handles = vec![Handle::current()];
        for index in 1..count.get() {
            let (begun, has_begun) = mpsc::channel();
            thread::Builder::new().name(format!("proxy-{index}")).spawn(move || {
                INDEX.set(index);
                match Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => {
                        let _ = begun.send(Ok(runtime.handle().clone()));
                        // It ends with the process.
                        runtime.block_on(std::future::pending::<()>());
                    }
                    Err(error) => drop(begun.send(Err(error))),
                }
            })?;
            handles.push(has_begun.recv().map_err(io::Error::other)??);
        }
        Ok(Self { handles, next: AtomicUsize::new(0) })
    }

    pub(crate) fn count(&self) -> usize {
        self.handles.len()
    }

    /// This thread alone.
    pub(crate) fn alone() -> Self {
        Self { handles: vec![Handle::current()], next: AtomicUsize::new(0) }
    }

    /// Gives a connection to the next of them.
    pub(crate) fn serve<F>(&self, stream: TcpStream, serve: impl FnOnce(TcpStream) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.handles.len();
        if index == 0 {
            self.handles[0].spawn(serve(stream));
            return;
        }
        // Its new thread is to hear of it.
        let Ok(stream) = stream.into_std() else { return };
        self.handles[index].spawn(async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => serve(stream).await,
                Err(error) => tracing::warn!(%error, "a connection was lost on its way to a thread"),
            }
        });
    }
}
