//! What is fetched under a lease is told to the other processes while it is written: its head, and how much of its body
//! is there. They tell in turn that they wait for it or read it, so that they
//! are told, and it is not given up under them. Who cannot say so, waits for another's token, or has an older version of
//! this, is told nothing, and looks after a pause.

use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use super::connection::Access;
use super::scripts::{ANNOUNCE, ATTEND, Call, WITHDRAW};
use super::{RedisStore, codec};
use crate::error::{StoreError, StoreErrorKind};
use crate::store::LeaseKey;
use crate::store::entry::{Attended, Live, Told};

/// What the script answers of a lease that is held.
const UNDERWAY: i64 = 1;

impl RedisStore {
    pub(super) async fn tell_of_fetch(
        &self,
        lease: LeaseKey<'_>,
        live: &Live,
        lifetime: Duration,
    ) -> Result<bool, StoreError> {
        let value = self.seals.seal(&self.layout.live(lease), codec::encode_live(lease.cell, live));
        let mut call = Call::with_room(&ANNOUNCE, 2, value.len());
        call.key(self.layout.live(lease)).key(self.layout.awaited(lease)).argument(value).millis(lifetime);
        self.tell(&mut call, lease);
        let answer = self.run(call, Access::Script { writes: true }).await?;
        Ok(answer == Some(1))
    }

    pub(super) async fn hear_of_fetch(&self, lease: LeaseKey<'_>, lifetime: Duration) -> Result<Attended, StoreError> {
        let mut call = Call::of(&ATTEND, 3);
        call.key(self.layout.lease(lease.cell)).key(self.layout.live(lease)).key(self.layout.awaited(lease));
        call.argument(lease.token.as_bytes()).millis(lifetime).number(self.max_head_value);
        let answer = match self.run_for_value(call, Access::Script { writes: false }).await? {
            Some(Value::Array(answer)) => answer,
            Some(Value::Int(UNDERWAY)) | None => return Ok(Attended::Silence),
            Some(Value::Int(_)) => return Ok(Attended::Over),
            Some(_) => return Err(StoreError::new(StoreErrorKind::Protocol)),
        };
        let [Value::BulkString(value), Value::Int(is_held)] = &answer[..] else {
            return Err(StoreError::new(StoreErrorKind::Protocol));
        };
        if value.len() > self.max_head_value {
            return Ok(Attended::Silence);
        }
        // What is not understood is as good as nothing. It is looked at many times a second, and counted where it is stored.
        let value = self.seals.open(&self.layout.live(lease), Bytes::copy_from_slice(value));
        let live = value.and_then(|value| codec::decode_live(lease.cell, &value)).ok();
        let live = live.filter(|live| live.response.body.len() <= self.max_body_size);
        let told = live.map(|live| Told { live, is_for_newcomers: *is_held == UNDERWAY });
        Ok(told.map_or(Attended::Silence, |told| Attended::Told(Box::new(told))))
    }

    pub(super) async fn cease_to_tell(&self, lease: LeaseKey<'_>) -> Result<bool, StoreError> {
        let mut call = Call::of(&WITHDRAW, 2);
        call.key(self.layout.live(lease)).key(self.layout.awaited(lease));
        Ok(self.run(call, Access::Script { writes: false }).await? != Some(0))
    }
}
