//! What a body must be like to be stored: no longer than the cap, as long as it said, and whole (RFC 9111 §3.3).

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::semantics::fields::{stored_fields, wire_size};

/// Follows a body as it comes, and keeps it.
#[derive(Debug)]
pub(crate) struct Recorder {
    stated_length: Option<u64>,
    limits: Limits,
    length: u64,
    buffer: BytesMut,
}

/// How much is recorded at the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_length: u64,
    pub(crate) max_head_size: usize,
    pub(crate) max_fields: usize,
}

/// Why a recording was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abandoned {
    /// It grew past the cap.
    Capped,
    /// There was no room in memory.
    NoRoom,
    /// The store did not take it as fast as it came.
    SlowStore,
    /// It took longer than what is written of it lasts.
    TooLong,
    /// It is shorter or longer than its Content-Length.
    WrongLength,
    /// It ended in an error.
    Failed,
    /// Its clients left before its end, and what was left was too much, or too slow, to be read for the store alone.
    ClientLeft,
}

/// Frames shorter than this share a buffer.
const SMALL: usize = 4 * 1024;
/// Frames of so many octets are most of what they were read into: hyper reads up to 408 KiB at once. Kept as they are they
/// take four times their length at the most, unless a service cuts them from a larger whole, which it has then itself.
const LARGE: usize = 128 * 1024;
const LARGEST: usize = 512 * 1024;
const BUFFER: usize = 16 * 1024;

impl Recorder {
    pub(crate) fn new(stated_length: Option<u64>, limits: Limits) -> Self {
        Self { stated_length, limits, length: 0, buffer: BytesMut::new() }
    }

    /// The next octets, as a part of a frame of so many, to be kept: for long, or until the store and those who read it
    /// have taken them.
    pub(crate) fn take(&mut self, octets: &Bytes, of: usize, is_for_long: bool) -> Result<Bytes, Abandoned> {
        self.admit(octets)?;
        // A part keeps all that it was cut from alive: a read buffer, or a body that the service had whole.
        let is_most_of_its_buffer = (LARGE..=LARGEST).contains(&of) && !is_for_long;
        Ok(if is_most_of_its_buffer { octets.clone() } else { self.copied(octets) })
    }

    fn admit(&mut self, octets: &[u8]) -> Result<(), Abandoned> {
        let length = self.length + octets.len() as u64;
        if self.stated_length.is_some_and(|stated| length > stated) {
            return Err(Abandoned::WrongLength);
        }
        if length > self.limits.max_length {
            return Err(Abandoned::Capped);
        }
        self.length = length;
        Ok(())
    }

    fn copied(&mut self, octets: &[u8]) -> Bytes {
        let is_first = self.length == octets.len() as u64;
        // What a body states and never sends takes no memory.
        if is_first || octets.len() >= SMALL {
            return Bytes::copy_from_slice(octets);
        }
        if self.buffer.capacity() < octets.len() {
            self.buffer = BytesMut::with_capacity(BUFFER);
        }
        self.buffer.extend_from_slice(octets);
        self.buffer.split().freeze()
    }

    /// The octets that are still to come, as far as they can be known: for certain, or at the most.
    pub(crate) fn left(&self) -> u64 {
        self.stated_length.unwrap_or(self.limits.max_length).saturating_sub(self.length)
    }

    /// A trailer section is bounded as a header section is.
    pub(crate) fn trailers(&self, trailers: &HeaderMap) -> Result<HeaderMap, Abandoned> {
        if trailers.len() > self.limits.max_fields || wire_size(trailers) > self.limits.max_head_size {
            return Err(Abandoned::Capped);
        }
        Ok(stored_fields(trailers))
    }

    /// The length of the body, which has ended.
    pub(crate) fn finish(&self) -> Result<u64, Abandoned> {
        match self.stated_length {
            Some(stated) if stated != self.length => Err(Abandoned::WrongLength),
            _ => Ok(self.length),
        }
    }
}

/// The pieces of a body as they are to be kept for long: many small ones become one.
pub(crate) fn compacted(pieces: Vec<Bytes>) -> Vec<Bytes> {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    if pieces.len() < 2 || length / pieces.len() >= SMALL {
        return pieces;
    }
    vec![Bytes::from(pieces.concat())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder(stated: Option<u64>, max_length: u64) -> Recorder {
        Recorder::new(stated, Limits { max_length, max_head_size: 40, max_fields: 2 })
    }

    fn copy(recorder: &mut Recorder, octets: &[u8]) -> Result<Bytes, Abandoned> {
        recorder.take(&Bytes::copy_from_slice(octets), octets.len(), true)
    }

    #[test]
    fn trailers_are_bounded() {
        let section = |lines: &[&'static str]| {
            let mut trailers = HeaderMap::new();
            for line in lines {
                trailers.append("x-t", http::HeaderValue::from_static(line));
            }
            trailers
        };
        let recorder = recorder(None, 9);
        assert!(recorder.trailers(&section(&["1", "2"])).is_ok());
        assert_eq!(recorder.trailers(&section(&["1", "2", "3"])), Err(Abandoned::Capped));
        let long = "0123456789012345678901234567890123456789";
        assert_eq!(recorder.trailers(&section(&[long])), Err(Abandoned::Capped));
    }

    #[test]
    fn a_body_is_copied_whole_whatever_its_frames() {
        let body: Vec<u8> = (0..600_000_u32).map(|n| (n % 251) as u8).collect();
        for size in [1, 7, SMALL - 1, SMALL, 7_001, 300_000] {
            let mut recorder = recorder(None, 1 << 20);
            let frames = body[..size * (60_000 / size).clamp(1, 3_000)].chunks(size);
            let copies: Vec<Bytes> = frames.clone().map(|frame| copy(&mut recorder, frame).unwrap()).collect();
            let expected: Vec<u8> = frames.flatten().copied().collect();
            assert_eq!(copies.concat(), expected, "frames of {size}");
            assert_eq!(compacted(copies).concat(), expected, "frames of {size}");
            assert_eq!(recorder.finish(), Ok(expected.len() as u64));
        }
    }

    #[test]
    fn lengths_are_held_to() {
        let mut short = recorder(Some(5), 100);
        copy(&mut short, b"four").unwrap();
        assert_eq!(short.left(), 1);
        assert_eq!(short.finish(), Err(Abandoned::WrongLength));
        let mut long = recorder(Some(5), 100);
        assert_eq!(copy(&mut long, b"sixsix"), Err(Abandoned::WrongLength));
        let mut capped = recorder(None, 5);
        assert_eq!(copy(&mut capped, b"12345").unwrap(), "12345");
        assert_eq!(copy(&mut capped, b"6"), Err(Abandoned::Capped));
    }

    #[test]
    fn what_is_let_go_soon_is_copied_unless_it_is_most_of_what_it_was_read_into() {
        let buffer = Bytes::from(vec![7; 2 * LARGEST]);
        let cases = [(LARGE, false, false), (LARGE - 1, false, true), (LARGE, true, true)];
        for (of, is_for_long, is_copied) in
            cases.into_iter().chain([(LARGEST, false, false), (LARGEST + 1, false, true)])
        {
            let mut recorder = recorder(None, 1 << 20);
            let taken = recorder.take(&buffer.slice(..of), of, is_for_long).unwrap();
            assert_eq!(taken.as_ptr() != buffer.as_ptr(), is_copied, "{of} {is_for_long}");
            assert_eq!((recorder.finish(), &taken[..]), (Ok(of as u64), &buffer[..of]));
        }
    }
}
