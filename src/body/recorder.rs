//! Keeps a copy of a body as it passes, up to the cap, and knows whether it was whole (RFC 9111 §3.3).

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::budget::Reservation;
use crate::semantics::fields::{stored_fields, wire_size};

/// A body being recorded.
#[derive(Debug)]
pub(crate) struct Recorder {
    stated_length: Option<u64>,
    limits: Limits,
    reservation: Reservation,
    pieces: Vec<Bytes>,
    tail: BytesMut,
    length: u64,
    trailers: Option<HeaderMap>,
}

/// How much is recorded at the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_length: u64,
    pub(crate) max_head_size: usize,
    pub(crate) max_fields: usize,
}

/// A body recorded whole, and the room that it takes.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) reservation: Reservation,
}

/// Why a recording was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abandoned {
    /// It grew past the cap.
    Capped,
    /// There was no room in memory.
    NoRoom,
    /// It is shorter or longer than its Content-Length.
    WrongLength,
    /// It ended in an error.
    Failed,
    /// The client left before its end.
    ClientLeft,
}

/// Pieces are no longer than this.
const PIECE: usize = 256 * 1024;

impl Recorder {
    pub(crate) fn new(stated_length: Option<u64>, limits: Limits, reservation: Reservation) -> Self {
        Self {
            stated_length,
            limits,
            reservation,
            pieces: Vec::new(),
            tail: BytesMut::new(),
            length: 0,
            trailers: None,
        }
    }

    /// Copies the octets: kept as they are, they would keep a connection's whole read buffer alive.
    pub(crate) fn push(&mut self, octets: &[u8]) -> Result<(), Abandoned> {
        let length = self.length + octets.len() as u64;
        if self.stated_length.is_some_and(|stated| length > stated) {
            return Err(Abandoned::WrongLength);
        }
        if length > self.limits.max_length {
            return Err(Abandoned::Capped);
        }
        if !self.reservation.grow(octets.len() as u64) {
            return Err(Abandoned::NoRoom);
        }
        self.length = length;
        let mut rest = octets;
        while !rest.is_empty() {
            let (part, more) = rest.split_at(rest.len().min(PIECE - self.tail.len()));
            // Grows by doubling: what a body states and never sends takes no memory.
            self.tail.extend_from_slice(part);
            rest = more;
            if self.tail.len() == PIECE {
                self.pieces.push(exact(std::mem::take(&mut self.tail)));
            }
        }
        Ok(())
    }

    /// A trailer section is bounded as a header section is.
    pub(crate) fn set_trailers(&mut self, trailers: &HeaderMap) -> Result<(), Abandoned> {
        if trailers.len() > self.limits.max_fields || wire_size(trailers) > self.limits.max_head_size {
            return Err(Abandoned::Capped);
        }
        if !self.reservation.grow(wire_size(trailers) as u64) {
            return Err(Abandoned::NoRoom);
        }
        self.trailers = Some(stored_fields(trailers));
        Ok(())
    }

    /// Whether as much has come as was stated.
    pub(crate) fn is_as_long_as_stated(&self) -> bool {
        self.stated_length == Some(self.length)
    }

    /// The body has ended.
    pub(crate) fn finish(mut self) -> Result<Recording, Abandoned> {
        if self.stated_length.is_some_and(|stated| stated != self.length) {
            return Err(Abandoned::WrongLength);
        }
        if !self.tail.is_empty() {
            self.pieces.push(exact(self.tail));
        }
        Ok(Recording { pieces: self.pieces, trailers: self.trailers, reservation: self.reservation })
    }
}

/// A buffer that grew by doubling may be half empty.
fn exact(buffer: BytesMut) -> Bytes {
    let fits = buffer.capacity() <= buffer.len() + buffer.len() / 8;
    if fits { buffer.freeze() } else { Bytes::copy_from_slice(&buffer) }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::*;

    fn recorder(stated: Option<u64>, max: u64) -> Recorder {
        Recorder::new(stated, limits(max), Budget::new(1 << 20).reserve(0).unwrap())
    }

    fn limits(max_length: u64) -> Limits {
        Limits { max_length, max_head_size: 40, max_fields: 2 }
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
        assert_eq!(recorder(None, 9).set_trailers(&section(&["1", "2"])), Ok(()));
        assert_eq!(recorder(None, 9).set_trailers(&section(&["1", "2", "3"])), Err(Abandoned::Capped));
        let long = "0123456789012345678901234567890123456789";
        assert_eq!(recorder(None, 9).set_trailers(&section(&[long])), Err(Abandoned::Capped));
    }

    #[test]
    fn a_whole_body_is_kept_in_pieces() {
        let mut recorder = recorder(None, 1 << 20);
        let body: Vec<u8> = (0..600_000_u32).map(|n| (n % 251) as u8).collect();
        for part in body.chunks(7_001) {
            recorder.push(part).unwrap();
        }
        let recording = recorder.finish().unwrap();
        assert_eq!(recording.pieces.concat(), body);
        assert!(recording.pieces.iter().all(|piece| piece.len() <= PIECE));
    }

    #[test]
    fn lengths_are_held_to() {
        let mut short = recorder(Some(5), 100);
        short.push(b"four").unwrap();
        assert!(!short.is_as_long_as_stated());
        assert_eq!(short.finish().unwrap_err(), Abandoned::WrongLength);
        let mut long = recorder(Some(5), 100);
        assert_eq!(long.push(b"sixsix").unwrap_err(), Abandoned::WrongLength);
        let mut capped = recorder(None, 5);
        capped.push(b"five!").unwrap();
        assert_eq!(capped.push(b"x").unwrap_err(), Abandoned::Capped);
    }

    #[test]
    fn without_room_nothing_is_kept_and_the_room_comes_back() {
        let budget = Budget::new(8);
        let mut one = Recorder::new(None, limits(100), budget.reserve(0).unwrap());
        one.push(b"12345678").unwrap();
        let mut other = Recorder::new(None, limits(100), budget.reserve(0).unwrap());
        assert_eq!(other.push(b"1").unwrap_err(), Abandoned::NoRoom);
        drop(one);
        assert_eq!(other.push(b"1"), Ok(()));
    }
}
