//! Reading the values of cells.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use redis::{Cmd, Value};

use super::RedisStore;
use super::codec::{self, Rejection};
use super::commands::{get, get_range, octets};
use super::connection::Access;
use super::lanes::LaneName;
use super::replies::Verdict;
use crate::error::StoreError;
use crate::purge::plane::Plane;
use crate::store::entry::Cell;
use crate::store::{CellKey, Sight};

impl RedisStore {
    /// A value, if there is one: at most `limit` octets of it and one more, by which too long a one is known.
    pub(super) async fn read(&self, name: &[u8], limit: usize) -> Result<Option<Result<Bytes, Rejection>>, StoreError> {
        self.read_by(name, limit, Sight::Again).await
    }

    /// The same; at first sight a replica will do.
    pub(super) async fn read_by(
        &self,
        name: &[u8],
        limit: usize,
        sight: Sight,
    ) -> Result<Option<Result<Bytes, Rejection>>, StoreError> {
        if sight == Sight::First
            && self.reads_replicas()
            && let Some(value) = self.by_replica(LaneName::Heads, || get_range(name, limit)).await
        {
            return Ok(octets(value)?.map(Ok));
        }
        loop {
            let plain = self.plain_get.load(Ordering::Relaxed);
            let command = if plain { get(name) } else { get_range(name, limit) };
            match self.connection.call(LaneName::Heads, Access::Read, &command).await {
                Ok(value) => return Ok(octets(value)?.filter(|octets| !octets.is_empty()).map(Ok)),
                Err(failure) if failure.verdict == Verdict::NotGranted && !plain => {
                    self.plain_get.store(true, Ordering::Relaxed);
                }
                Err(failure) if failure.verdict == Verdict::ForeignType => {
                    return Ok(Some(Err(Rejection::Foreign)));
                }
                Err(failure) => return Err(failure.error),
            }
        }
    }

    /// The value of a cell, decoded; `None` if it is longer than any that is written here.
    pub(super) async fn read_cell(
        &self,
        key: CellKey<'_>,
        sight: Sight,
    ) -> Result<Option<Result<Cell, Rejection>>, StoreError> {
        let name = self.layout.cell(key);
        Ok(self.read_by(&name, self.max_head_value, sight).await?.map(|value| match value? {
            value if value.len() > self.max_head_value => Err(Rejection::Oversized),
            value => match self.readings.meaning(key, &name, &value) {
                Some(meaning) => Ok(meaning),
                None => {
                    let opened = self.opened(&name, value.clone(), self.max_head_value)?;
                    let meaning = codec::decode(key, &opened)?;
                    self.readings.note(key, &name, &value, &opened, &meaning);
                    Ok(meaning)
                }
            },
        }))
    }

    /// What a replica has, if there is something, and purges are known by the clock: removal reaches it later.
    pub(super) async fn by_replica(&self, lane: LaneName, command: impl FnOnce() -> Cmd) -> Option<Value> {
        let is_known = |plane: &Plane| !plane.is_denied() && !plane.is_unread();
        if !self.connection.reads_replicas() || !is_known(self.plane()) || self.plain_get.load(Ordering::Relaxed) {
            return None;
        }
        let value = Box::pin(self.connection.ask_replica(lane, &command())).await?;
        matches!(&value, Value::BulkString(octets) if !octets.is_empty()).then_some(value)
    }
}
