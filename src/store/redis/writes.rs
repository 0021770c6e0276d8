//! Writing a cell: its body first, where that is large, and its head last.

use std::time::Duration;

use bytes::Bytes;
use redis::{Pipeline, Value};

use super::codec::{self, CHUNK_SIZE, INLINE_MAX};
use super::commands::{pexpire, set_pieces_px, set_px};
use super::connection::Access;
use super::lanes::LaneName;
use super::layout::Generation;
use super::replies::{Failure, Verdict};
use super::{CHUNKS_AT_ONCE, FILL_TTL, RedisStore, lingering};
use crate::error::StoreError;
use crate::store::entry::{Cell, Chunks, StoredBody};
use crate::store::{CellKey, Write};

/// A head that is to be written, now that its body is.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) value: Vec<u8>,
    pub(super) ttl: Duration,
    /// The writing of the body that was written just now.
    pub(super) written: Option<Chunks>,
}

/// What became of an attempt to set the time that chunks have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    Set,
    /// Some chunk is there no more.
    Gone,
    NotGranted,
}

impl RedisStore {
    /// Sets the time that a body's chunks still have.
    pub(super) async fn expire_chunks(
        &self,
        key: CellKey<'_>,
        chunks: Chunks,
        ttl: Duration,
    ) -> Result<Expiry, StoreError> {
        let count = chunk_lengths(chunks.length).len();
        let mut pipeline = Pipeline::with_capacity(count);
        for index in 0..count {
            pipeline.add_command(pexpire(&self.layout.chunk(key, chunks.generation, number(index)), ttl));
        }
        match self.connection.call_all(LaneName::Bodies, Access::Remove, &pipeline).await {
            Ok(replies) if replies.iter().all(|reply| *reply == Value::Int(1)) => Ok(Expiry::Set),
            Ok(_) => Ok(Expiry::Gone),
            Err(Failure { verdict: Verdict::NotGranted, .. }) => Ok(Expiry::NotGranted),
            Err(failure) => Err(failure.error),
        }
    }

    /// Chunks first, the head last: whoever finds a head finds its body. `None` where the body is not to be had.
    pub(super) async fn write_up_to_head(&self, write: Write<'_>) -> Result<Option<Head>, StoreError> {
        let Write { key, cell, mut ttl } = write;
        let (mut generation, mut written) = (fastrand::u128(..), None);
        if let Cell::Response(response) = cell
            && let Some(planned) = response.body.chunks_to_be()
        {
            generation = planned.generation;
        }
        if let Cell::Response(response) = cell
            && response.body.len() > INLINE_MAX
        {
            let expiry = match response.body.chunks() {
                // In boxes of their own, as all that short bodies have no use for.
                Some(chunks) => Box::pin(self.expire_chunks(key, chunks, ttl + lingering(chunks.length))).await?,
                None => Expiry::Gone,
            };
            match (expiry, response.body.chunks()) {
                // The body is there: it came before its head, or the head changes alone.
                (Expiry::Set, Some(chunks)) => generation = chunks.generation,
                _ if response.body.is_loaded() => {
                    let ttl = ttl + lingering(response.body.len());
                    Box::pin(self.write_body(key, &response.body, generation, ttl)).await?;
                    written = Some(Chunks { generation, length: response.body.len() });
                }
                // Its chunks cannot be given more time than they were written with.
                (Expiry::NotGranted, Some(chunks)) => {
                    generation = chunks.generation;
                    ttl = ttl.min(FILL_TTL / 2);
                }
                _ => return Ok(None),
            }
        }
        let value = self.closed(&self.layout.cell(key), codec::encode(key, cell, generation));
        Ok(Some(Head { value, ttl, written }))
    }

    /// Writes the chunks of a body, a few at a time.
    async fn write_body(
        &self,
        key: CellKey<'_>,
        body: &StoredBody,
        generation: Generation,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        for (some, first) in chunks_of(body).chunks(CHUNKS_AT_ONCE).zip((0..).step_by(CHUNKS_AT_ONCE)) {
            self.write_some(key, generation, number(first), some, ttl).await?;
        }
        Ok(())
    }

    pub(super) async fn write_some(
        &self,
        key: CellKey<'_>,
        generation: Generation,
        first: u32,
        chunks: &[Vec<Bytes>],
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let mut pipeline = Pipeline::with_capacity(chunks.len());
        for (chunk, index) in chunks.iter().zip(first..) {
            let name = self.layout.chunk(key, generation, index);
            pipeline.add_command(match self.writes_as_it_is() {
                true => set_pieces_px(&name, &codec::chunk_head(generation, index, chunk), chunk, ttl),
                false => set_px(&name, &self.closed(&name, codec::encode_chunk(generation, index, chunk)), ttl),
            });
        }
        let written = self.connection.call_all(LaneName::Bodies, Access::Write, &pipeline).await;
        written.map(|_| ()).map_err(|failure| failure.error)
    }
}

pub(super) fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a body has fewer than 2^32 chunks")
}

fn chunk_lengths(body_length: u64) -> Vec<usize> {
    let size = CHUNK_SIZE as u64;
    (0..body_length.div_ceil(size))
        .map(|index| usize::try_from((body_length - index * size).min(size)).expect("a chunk fits in memory"))
        .collect()
}

/// The pieces of a body cut at the chunks' borders, without copying.
fn chunks_of(body: &StoredBody) -> Vec<Vec<Bytes>> {
    let mut chunks: Vec<Vec<Bytes>> = Vec::new();
    let mut room = 0;
    for piece in body.pieces() {
        let mut rest = piece.clone();
        while !rest.is_empty() {
            if room == 0 {
                chunks.push(Vec::new());
                room = CHUNK_SIZE;
            }
            let part = rest.split_to(rest.len().min(room));
            room -= part.len();
            if let Some(chunk) = chunks.last_mut() {
                chunk.push(part);
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_at_the_chunks_borders_wherever_its_pieces_end() {
        for pieces in [&[3 * CHUNK_SIZE][..], &[1, CHUNK_SIZE, 7], &[CHUNK_SIZE, CHUNK_SIZE], &[CHUNK_SIZE + 1]] {
            let body = StoredBody::new(pieces.iter().map(|length| Bytes::from(vec![1; *length])).collect());
            let lengths: Vec<usize> = chunks_of(&body).iter().map(|chunk| chunk.iter().map(Bytes::len).sum()).collect();
            assert_eq!(lengths, chunk_lengths(body.len()), "{pieces:?}");
        }
    }
}
