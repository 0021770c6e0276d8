//! The tee: sees each frame of a body on its way to the client, and hands the whole to the fill when the body has ended
//! well. Dropped before that, it gives up: nothing is ever stored that was not whole.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::recorder::{Abandoned, Recorder};
use crate::exchange::fill::Fill;

/// A recorder, and what is to become of the recording.
#[derive(Debug)]
pub(crate) struct Tee {
    /// Taken when the story has ended, well or badly.
    recording: Option<Box<Underway>>,
}

#[derive(Debug)]
struct Underway {
    recorder: Recorder,
    fill: Fill,
}

impl Tee {
    pub(crate) fn new(recorder: Recorder, fill: Fill) -> Self {
        Self { recording: Some(Box::new(Underway { recorder, fill })) }
    }

    /// Sees, and keeps nothing.
    pub(crate) fn idle() -> Self {
        Self { recording: None }
    }

    /// Whether there is still something to wait for.
    pub(crate) fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    pub(crate) fn see(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.data(data);
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers(trailers);
        }
    }

    fn data(&mut self, octets: &[u8]) {
        if let Some(underway) = &mut self.recording
            && let Err(reason) = underway.recorder.push(octets)
        {
            self.abandon(reason);
        }
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(underway) = &mut self.recording
            && let Err(reason) = underway.recorder.set_trailers(trailers)
        {
            self.abandon(reason);
        }
    }

    pub(crate) fn end(&mut self) {
        if let Some(underway) = self.recording.take() {
            let Underway { recorder, fill } = *underway;
            match recorder.finish() {
                Ok(recording) => fill.begin(recording),
                Err(reason) => fill.abandon(reason),
            }
        }
    }

    pub(crate) fn abandon(&mut self, reason: Abandoned) {
        if let Some(underway) = self.recording.take() {
            underway.fill.abandon(reason);
        }
    }
}

/// A consumer that has had as much as Content-Length states need not ask for the end; any other has left early.
impl Drop for Tee {
    fn drop(&mut self) {
        match &self.recording {
            Some(underway) if underway.recorder.is_as_long_as_stated() => self.end(),
            Some(_) => self.abandon(Abandoned::ClientLeft),
            None => {}
        }
    }
}
