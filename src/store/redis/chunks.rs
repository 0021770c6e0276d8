//! Reading the chunks of a body.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Pipeline, Value};

use super::RedisStore;
use super::codec::{self, CHUNK_VALUE_MAX};
use super::commands::{get, get_range, octets};
use super::connection::Access;
use super::lanes::LaneName;
use super::replies::{Failure, Verdict};
use crate::error::StoreError;
use crate::store::entry::Chunks;
use crate::store::{CellKey, Sight};

impl RedisStore {
    /// The first of some chunks, if all of them are there: what is known to be torn is not begun.
    pub(super) async fn first_chunk(
        &self,
        key: CellKey<'_>,
        chunks: Chunks,
        wanted: &[u32],
    ) -> Result<Option<Bytes>, StoreError> {
        let Some(&first) = wanted.first() else { return Ok(None) };
        loop {
            let checks = wanted.len() > 1 && !self.unchecked.load(Ordering::Relaxed);
            let command = self.get_chunk(key, chunks, first);
            let read = match checks {
                true => Box::pin(self.read_and_count(key, chunks, wanted, command)).await,
                false => self.connection.call(LaneName::Bodies, Access::Read, &command).await.map(Some),
            };
            match read {
                Ok(Some(value)) => return self.decoded(key, chunks, first, value),
                Ok(None) => {
                    self.counters.entries_torn.increment();
                    return Ok(None);
                }
                Err(failure) if failure.verdict == Verdict::NotGranted && self.does_without(checks) => {}
                Err(failure) => return self.failed(failure).map(|()| None),
            }
        }
    }

    /// The answer to a command, if all of some chunks are there.
    async fn read_and_count(
        &self,
        key: CellKey<'_>,
        chunks: Chunks,
        wanted: &[u32],
        command: Cmd,
    ) -> Result<Option<Value>, Failure> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.add_command(command).add_command(self.count_chunks(key, chunks, wanted));
        let values = self.connection.call_all(LaneName::Bodies, Access::Read, &pipeline).await?;
        let mut values = values.into_iter();
        let value = values.next().unwrap_or(Value::Nil);
        let are_there = values.next().is_none_or(|there| there == Value::Int(wanted.len() as i64));
        Ok(are_there.then_some(value))
    }

    /// One chunk. One that is missing or damaged is counted, and nothing.
    pub(super) async fn chunk(
        &self,
        key: CellKey<'_>,
        chunks: Chunks,
        index: u32,
        limit: Duration,
    ) -> Result<Option<Bytes>, StoreError> {
        if let Some(value) = self.by_replica(LaneName::Bodies, || self.get_chunk(key, chunks, index)).await
            && let Ok(Some(octets)) = self.decoded(key, chunks, index, value)
        {
            return Ok(Some(octets));
        }
        loop {
            let command = self.get_chunk(key, chunks, index);
            match self.connection.call_in_turn(LaneName::Bodies, Access::Read, &command, limit).await {
                Ok(value) => return self.decoded(key, chunks, index, value),
                Err(failure) if failure.verdict == Verdict::NotGranted && self.does_without(false) => {}
                Err(failure) => return self.failed(failure).map(|()| None),
            }
        }
    }

    /// All chunks, in one go.
    pub(super) async fn all_chunks(&self, key: CellKey<'_>, chunks: Chunks) -> Result<Option<Vec<Bytes>>, StoreError> {
        let mut pipeline = Pipeline::new();
        for index in indices(chunks) {
            pipeline.add_command(self.get_chunk(key, chunks, index));
        }
        let values = match self.connection.call_all(LaneName::Bodies, Access::Read, &pipeline).await {
            Ok(values) => values,
            Err(failure) => return self.failed(failure).map(|()| None),
        };
        let mut pieces = Vec::with_capacity(values.len());
        for (value, index) in values.into_iter().zip(indices(chunks)) {
            match self.decoded(key, chunks, index, value)? {
                Some(piece) => pieces.push(piece),
                None => return Ok(None),
            }
        }
        Ok(Some(pieces))
    }

    fn get_chunk(&self, key: CellKey<'_>, chunks: Chunks, index: u32) -> Cmd {
        let name = self.layout.chunk(key, chunks.generation, index);
        match self.plain_get.load(Ordering::Relaxed) {
            true => get(&name),
            false => get_range(&name, CHUNK_VALUE_MAX + self.seals.length()),
        }
    }

    fn count_chunks(&self, key: CellKey<'_>, chunks: Chunks, wanted: &[u32]) -> Cmd {
        let mut command = redis::cmd("EXISTS");
        for index in wanted {
            command.arg(&self.layout.chunk(key, chunks.generation, *index)[..]);
        }
        command
    }

    /// Gives up a command that is not granted; `false` if there is none left to give up.
    fn does_without(&self, checks: bool) -> bool {
        match checks {
            true => {
                self.unchecked.store(true, Ordering::Relaxed);
                true
            }
            false => !self.plain_get.swap(true, Ordering::Relaxed),
        }
    }

    fn decoded(&self, key: CellKey<'_>, chunks: Chunks, index: u32, value: Value) -> Result<Option<Bytes>, StoreError> {
        let Some(value) = octets(value)?.filter(|octets| !octets.is_empty()) else {
            self.counters.entries_torn.increment();
            return Ok(None);
        };
        let length = usize::try_from(chunks.length_of(index)).expect("a chunk fits in memory");
        let name = self.layout.chunk(key, chunks.generation, index);
        let value = self.opened(&name, value, CHUNK_VALUE_MAX + self.seals.length());
        match value.and_then(|value| codec::decode_chunk(chunks.generation, index, length, &value)) {
            Ok(octets) => Ok(Some(octets)),
            Err(rejection) => {
                self.reject(rejection, Sight::First);
                Ok(None)
            }
        }
    }

    /// A value of another type is as good as none.
    fn failed(&self, failure: Failure) -> Result<(), StoreError> {
        if failure.verdict != Verdict::ForeignType {
            return Err(failure.error);
        }
        self.counters.entries_foreign.increment();
        Ok(())
    }
}

fn indices(chunks: Chunks) -> Range<u32> {
    0..u32::try_from(chunks.count()).expect("a body has fewer than 2^32 chunks")
}
