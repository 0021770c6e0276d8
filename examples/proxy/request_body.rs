//! The client's request body on its way to the origin, or to nobody.
//!
//! The content of a QUERY arrives twice: from the client, to whoever reads it for the cache, and from memory after that.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::idle_body::{IdleBody, IdleBodyError};

/// How much of an unwanted body is read so that the connection can be used again, and for how long.
const DRAIN_BYTES: u64 = 256 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// A request body with an inactivity deadline, whose progress others can follow.
///
/// A body that nobody reads to its end – a cache hit, an early answer – is drained within bounds when it is
/// dropped. Beyond them the connection closes, so its bytes are never taken for the next request.
#[derive(Debug, Default)]
pub(crate) struct RequestBody {
    inner: Option<Source>,
    upload: Upload,
    drain: Drain,
}

/// Where the rest of a body comes from.
#[derive(Debug)]
enum Source {
    Client(IdleBody),
    /// It was read already, in one piece.
    Memory(Bytes),
}

/// What happens to the unread rest of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Drain {
    /// The server closes the connection or resets the stream.
    #[default]
    Never,
    /// Only once reading has begun: before that, a client that sent `Expect` holds its body back, and
    /// reading would ask for it.
    OnceBegun,
    Always,
}

// ===== impl RequestBody =====

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, idle: Duration, drain: Drain) -> Self {
        if incoming.is_end_stream() {
            return Self::default();
        }
        let upload = Upload::default();
        upload.set(Progress::Moved(Instant::now()));
        Self { inner: Some(Source::Client(IdleBody::new(incoming, idle))), upload, drain }
    }

    /// A view of this body's progress that outlives it.
    pub(crate) fn upload(&self) -> Upload {
        self.upload.clone()
    }

    fn finish(&mut self, progress: Progress) {
        self.inner = None;
        self.upload.set(progress);
    }
}

/// A body that was read already.
impl From<Bytes> for RequestBody {
    fn from(content: Bytes) -> Self {
        let is_empty = content.is_empty();
        let inner = Some(Source::Memory(content)).filter(|_| !is_empty);
        Self { inner, upload: Upload::default(), drain: Drain::Never }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = IdleBodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, IdleBodyError>>> {
        let polled = match &mut self.inner {
            None => return Poll::Ready(None),
            Some(Source::Client(rest)) => Pin::new(rest).poll_frame(cx),
            Some(Source::Memory(content)) => {
                let content = std::mem::take(content);
                self.finish(Progress::Moved(Instant::now()));
                return Poll::Ready(Some(Ok(Frame::data(content))));
            }
        };
        if self.drain == Drain::OnceBegun {
            self.drain = Drain::Always;
        }
        match &polled {
            Poll::Pending => self.upload.set(Progress::AwaitingClient),
            Poll::Ready(Some(Ok(_))) => self.upload.set(Progress::Moved(Instant::now())),
            Poll::Ready(None) => self.finish(Progress::Moved(Instant::now())),
            Poll::Ready(Some(Err(IdleBodyError::Stalled))) => self.finish(Progress::Stalled),
            Poll::Ready(Some(Err(IdleBodyError::Broken(_)))) => self.finish(Progress::Broken),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            None => true,
            Some(Source::Client(rest)) => rest.is_end_stream(),
            Some(Source::Memory(content)) => content.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(Source::Client(rest)) => rest.size_hint(),
            Some(Source::Memory(content)) => SizeHint::with_exact(content.len() as u64),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(Source::Client(rest)) = self.inner.take() else {
            return;
        };
        // Whoever waits for this body waits for the client no longer.
        self.upload.set(Progress::Moved(Instant::now()));
        let wanted = self.drain == Drain::Always && !rest.is_end_stream() && rest.size_hint().lower() <= DRAIN_BYTES;
        if wanted && let Ok(runtime) = Handle::try_current() {
            runtime.spawn(tokio::time::timeout(DRAIN_TIME, drain(rest)));
        }
    }
}

/// Reads `body` to its end, or gives up at the cap.
async fn drain(mut body: IdleBody) {
    let mut left = DRAIN_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// How far a request body has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upload {
    progress: Arc<Mutex<Progress>>,
}

/// Who is waited for, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is no body.
    #[default]
    Nothing,
    /// The client must send more; its own deadline is running.
    AwaitingClient,
    /// The body, or a piece of it, was handed over.
    Moved(Instant),
    /// The client sent nothing within the idle timeout.
    Stalled,
    /// The client broke off.
    Broken,
}

// ===== impl Upload =====

impl Upload {
    pub(crate) fn progress(&self) -> Progress {
        *self.lock()
    }

    fn set(&self, progress: Progress) {
        *self.lock() = progress;
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("no panic while the progress is locked")
    }
}
