//! The stored format: what the octets of a cell mean. Written and read by hand, so that a body is a slice of the value
//! and so that no octets, however hostile, cost more than their own length to refuse.
//!
//! All numbers are little-endian.
//!
//! ```text
//! 0  "TRC"            magic
//! 3  version          of the format; a value with another is foreign
//! 4  [4]              zero
//! 8  checksum         XXH3-64 of everything behind it
//! 16 kind             'R' response, 'V' index of variants, 'S' variances of a path's queries, 'E' epoch,
//!                     'U' uncacheable, 'L' a response that is being written, which is told beside the cells
//! 17 key              u32 length, the primary key's parts
//!    variant          u8 length (0 or 20), the variant key
//! R: status u16 · request time u64 · response time u64 · corrected initial age u64 · lifetime u64 · origin latency u64
//!    (times and spans in ms) · staleness: flags u8, stale-while-revalidate u64, stale-if-error u64 · label: purge clock u64, purge number u64,
//!    authority and path as u16 length and octets, tags u16, each: u16 length, octets
//!    fields u16, each: u16 length, name, u32 length, value; trailers: u8 present, then as fields
//!    body length u64 · form u8: 0 inline, 1 in chunks · if in chunks: generation [16], chunk size u32
//!    the body, if inline, to the end of the value
//! L: written u64 · wanted [20], the variant key of the request · as R, its body in chunks
//! E: number [16]
//! S: variances u8, each: flags u8, names u8, each: u32 length, name
//! V: nominations u8, each: u8 count, names as u16 length and octets · variants u16, each: [20] key, u64 until
//! ```
//!
//! A chunk is: "TRCB" · index u32 · XXH3-64 of the octets, seeded with generation and index · the octets.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::layout::Generation;
use super::reader::{Malformed, Reader};
use crate::config::GREATEST_BODY;
use crate::key::CacheKey;
use crate::purge::label::{Label, Site, Stamp};
use crate::semantics::freshness::Freshness;
use crate::semantics::search::{Params, SearchVariance};
use crate::semantics::staleness::StalePermission;
use crate::semantics::time::{Timestamp, millis};
use crate::semantics::vary::{NominatedFields, VariantKey};
use crate::store::CellKey;
use crate::store::entry::{Cell, Chunks, IndexedVariant, Live, StoredBody, StoredResponse, VaryIndex};

const MAGIC: &[u8; 3] = b"TRC";
const VERSION: u8 = 2;
const CHUNK_MAGIC: &[u8; 4] = b"TRCB";
pub(super) const CHECKSUM_AT: usize = 8;
const CONTENT_AT: usize = 16;
const CHUNK_CONTENT_AT: usize = 16;

/// Flags of staleness.
const FORBIDDEN: u8 = 1;
const ALWAYS_VALIDATE: u8 = 2;
const IF_ERROR: u8 = 4;

/// Flags of a search variance.
const KEY_ORDER: u8 = 1;
const EXCEPT: u8 = 2;

/// Fields that a hit adds to those stored, Age and Cache-Status: without room for them the map would be made anew.
pub(super) const ADDED_FIELDS: usize = 2;

/// A body up to this size lives in its head's value.
pub(crate) const INLINE_MAX: u64 = 64 * 1024;
/// The size of all chunks but the last.
pub(crate) const CHUNK_SIZE: usize = Chunks::SIZE as usize;
/// No chunk's value is longer.
pub(crate) const CHUNK_VALUE_MAX: usize = CHUNK_CONTENT_AT + CHUNK_SIZE;

/// Why a value is no cell of ours. It is a miss in any case; the difference is for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// Not this format, or a version of it that this software does not know.
    Foreign,
    /// Checksum or structure is wrong.
    Damaged,
    /// A sound cell of another key.
    Mismatched,
    /// Longer than anything that this configuration writes.
    Oversized,
    /// Not written by anybody who knows the secret.
    Forged,
}

impl From<Malformed> for Rejection {
    fn from(_: Malformed) -> Self {
        Self::Damaged
    }
}

// ===== Encoding =====

/// The value of a cell. A response whose body does not fit inline refers to the chunks of `generation`.
pub(crate) fn encode(key: CellKey<'_>, cell: &Cell, generation: Generation) -> Vec<u8> {
    let kind = match cell {
        Cell::Response(_) => b'R',
        Cell::Index(_) => b'V',
        Cell::Search(_) => b'S',
        Cell::Epoch(_) => b'E',
        Cell::Uncacheable => b'U',
    };
    let mut value = begun(kind, key, size_hint(cell));
    match cell {
        Cell::Response(response) => put_response(&mut value, response, generation),
        Cell::Index(index) => put_index(&mut value, index),
        Cell::Search(variances) => put_search(&mut value, variances),
        Cell::Epoch(number) => value.put_slice(&number.to_be_bytes()),
        Cell::Uncacheable => {}
    }
    sealed(value)
}

/// What is told of a response that is being written as the chunks that its body names.
pub(crate) fn encode_live(key: CellKey<'_>, live: &Live) -> Vec<u8> {
    let mut value = begun(b'L', key, response_size_hint(&live.response));
    value.put_u64_le(live.written);
    value.put_slice(live.variant.as_bytes());
    put_response(&mut value, &live.response, live.response.body.chunks().map_or(0, |chunks| chunks.generation));
    sealed(value)
}

fn begun(kind: u8, key: CellKey<'_>, content_size: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(160 + key.primary.parts().len() + content_size);
    value.put_slice(MAGIC);
    value.put_u8(VERSION);
    value.put_bytes(0, CONTENT_AT - value.len());
    value.put_u8(kind);
    put_long(&mut value, key.primary.parts());
    match &key.variant {
        Some(variant) => {
            value.put_u8(20);
            value.put_slice(variant.as_bytes());
        }
        None => value.put_u8(0),
    }
    value
}

fn sealed(mut value: Vec<u8>) -> Vec<u8> {
    let checksum = xxh3_64(&value[CONTENT_AT..]);
    value[CHECKSUM_AT..CONTENT_AT].copy_from_slice(&checksum.to_le_bytes());
    value
}

/// The value of one chunk.
pub(crate) fn encode_chunk(generation: Generation, index: u32, octets: &[Bytes]) -> Vec<u8> {
    let length: usize = octets.iter().map(Bytes::len).sum();
    let mut value = Vec::with_capacity(CHUNK_CONTENT_AT + length);
    value.put_slice(&chunk_head(generation, index, octets));
    octets.iter().for_each(|piece| value.put_slice(piece));
    value
}

/// What stands before the octets in the value of one chunk.
pub(crate) fn chunk_head(generation: Generation, index: u32, octets: &[Bytes]) -> [u8; CHUNK_CONTENT_AT] {
    let mut head = [0; CHUNK_CONTENT_AT];
    let mut room = &mut head[..];
    room.put_slice(CHUNK_MAGIC);
    room.put_u32_le(index);
    room.put_u64_le(chunk_checksum(generation, index, octets));
    head
}

fn size_hint(cell: &Cell) -> usize {
    match cell {
        Cell::Response(response) => response_size_hint(response),
        Cell::Index(index) => 64 * index.nominations.len() + 32 * index.variants.len(),
        Cell::Search(variances) => 64 * variances.len(),
        Cell::Epoch(_) => size_of::<u128>(),
        Cell::Uncacheable => 0,
    }
}

fn response_size_hint(response: &StoredResponse) -> usize {
    let fields = crate::semantics::fields::wire_size(&response.headers) + 4 * response.headers.len();
    let tags: usize = response.label.tags.iter().map(|tag| 2 + tag.len()).sum();
    let fields = fields + response.label.site.authority.len() + response.label.site.path.len() + tags;
    let body = if response.body.len() <= INLINE_MAX { response.body.len() } else { 0 };
    fields + usize::try_from(body).unwrap_or(0)
}

fn put_response(value: &mut Vec<u8>, response: &StoredResponse, generation: Generation) {
    let freshness = &response.freshness;
    value.put_u16_le(response.status.as_u16());
    value.put_u64_le(response.request_time.as_millis());
    value.put_u64_le(freshness.response_time.as_millis());
    value.put_u64_le(millis(freshness.corrected_initial_age));
    value.put_u64_le(millis(freshness.lifetime));
    put_staleness(value, freshness);
    value.put_u64_le(millis(response.origin_latency));
    put_label(value, &response.label);
    put_fields(value, &response.headers);
    value.put_u8(u8::from(response.trailers.is_some()));
    if let Some(trailers) = &response.trailers {
        put_fields(value, trailers);
    }
    let length = response.body.len();
    value.put_u64_le(length);
    if length <= INLINE_MAX {
        value.put_u8(0);
        for piece in response.body.pieces() {
            value.put_slice(piece);
        }
    } else {
        value.put_u8(1);
        value.put_slice(&generation.to_be_bytes());
        value.put_u32_le(u32::try_from(CHUNK_SIZE).expect("a chunk's size fits 32 bits"));
    }
}

fn put_label(value: &mut Vec<u8>, label: &Label) {
    value.put_u64_le(label.stamp.incarnation);
    value.put_u64_le(label.stamp.number);
    put_short(value, label.site.authority.as_bytes());
    put_short(value, label.site.path.as_bytes());
    value.put_u16_le(u16::try_from(label.tags.len()).expect("tags are bounded"));
    label.tags.iter().for_each(|tag| put_short(value, tag.as_bytes()));
}

fn read_label(reader: &mut Reader<'_>) -> Result<Label, Rejection> {
    fn text(octets: &[u8]) -> Result<Box<str>, Rejection> {
        std::str::from_utf8(octets).map(Box::from).map_err(|_| Rejection::Damaged)
    }
    let stamp = Stamp { incarnation: reader.u64()?, number: reader.u64()? };
    let site = Site { authority: text(reader.short()?)?, path: text(reader.short()?)? };
    let count = usize::from(reader.u16()?);
    // Each takes two octets at the least.
    let mut tags = Vec::with_capacity(count.min(reader.remaining() / 2));
    for _ in 0..count {
        tags.push(text(reader.short()?)?);
    }
    Ok(Label { stamp, site, tags: tags.into() })
}

fn put_staleness(value: &mut Vec<u8>, freshness: &Freshness) {
    let stale = &freshness.stale;
    let mut flags = 0;
    flags |= if stale.forbidden { FORBIDDEN } else { 0 };
    flags |= if freshness.always_validate { ALWAYS_VALIDATE } else { 0 };
    flags |= if stale.if_error.is_some() { IF_ERROR } else { 0 };
    value.put_u8(flags);
    value.put_u64_le(millis(stale.while_revalidate));
    value.put_u64_le(millis(stale.if_error.unwrap_or_default()));
}

fn read_staleness(reader: &mut Reader<'_>) -> Result<(StalePermission, bool), Rejection> {
    let flags = reader.u8()?;
    let while_revalidate = Duration::from_millis(reader.u64()?);
    let if_error = Duration::from_millis(reader.u64()?);
    let stale = StalePermission {
        forbidden: flags & FORBIDDEN != 0,
        while_revalidate,
        if_error: (flags & IF_ERROR != 0).then_some(if_error),
    };
    Ok((stale, flags & ALWAYS_VALIDATE != 0))
}

fn put_fields(value: &mut Vec<u8>, fields: &HeaderMap) {
    value.put_u16_le(u16::try_from(fields.len()).expect("a header map holds fewer than 2^15 lines"));
    for (name, line) in fields {
        put_short(value, name.as_str().as_bytes());
        put_long(value, line.as_bytes());
    }
}

fn put_index(value: &mut Vec<u8>, index: &VaryIndex) {
    value.put_u8(u8::try_from(index.nominations.len()).expect("nominations are bounded"));
    for nominated in &index.nominations {
        value.put_u8(u8::try_from(nominated.names().len()).expect("nominated fields are bounded"));
        for name in nominated.names() {
            put_short(value, name.as_str().as_bytes());
        }
    }
    value.put_u16_le(u16::try_from(index.variants.len()).expect("variants are bounded"));
    for variant in &index.variants {
        value.put_slice(variant.key.as_bytes());
        value.put_u64_le(variant.until.as_millis());
    }
}

fn put_search(value: &mut Vec<u8>, variances: &[SearchVariance]) {
    value.put_u8(u8::try_from(variances.len()).expect("variances are bounded"));
    for variance in variances {
        let (except, names) = match &variance.params {
            Params::Ignored(names) => (0, names),
            Params::IgnoredExcept(names) => (EXCEPT, names),
        };
        value.put_u8(except | if variance.key_order { KEY_ORDER } else { 0 });
        value.put_u8(u8::try_from(names.len()).expect("names are bounded"));
        for name in names {
            put_long(value, name.as_bytes());
        }
    }
}

fn put_short(value: &mut Vec<u8>, octets: &[u8]) {
    value.put_u16_le(u16::try_from(octets.len()).expect("names and tags are shorter than 2^16"));
    value.put_slice(octets);
}

fn put_long(value: &mut Vec<u8>, octets: &[u8]) {
    value.put_u32_le(u32::try_from(octets.len()).expect("header section and key are bounded far below 2^32"));
    value.put_slice(octets);
}

fn chunk_checksum(generation: Generation, index: u32, octets: &[Bytes]) -> u64 {
    let folded = (generation as u64) ^ ((generation >> 64) as u64);
    let mut hasher = Xxh3::with_seed(folded.rotate_left(17) ^ u64::from(index));
    octets.iter().for_each(|piece| hasher.update(piece));
    hasher.digest()
}

// ===== Decoding =====

/// Reads the value found under a cell's key.
pub(crate) fn decode(key: CellKey<'_>, value: &Bytes) -> Result<Cell, Rejection> {
    let (kind, reader) = opened(key, value)?;
    cell(kind, reader)
}

/// The same of whatever key: that, its variant and the cell.
pub(crate) fn decode_whatever(value: &Bytes) -> Result<(CacheKey, Option<VariantKey>, Cell), Rejection> {
    let Start { kind, primary, variant, rest } = start(value)?;
    Ok((CacheKey::from_octets(primary), variant, cell(kind, rest)?))
}

fn cell(kind: u8, reader: Reader<'_>) -> Result<Cell, Rejection> {
    match kind {
        b'R' => read_response(reader).map(|response| Cell::Response(Arc::new(response))),
        b'V' => read_index(reader).map(|index| Cell::Index(Arc::new(index))),
        b'S' => read_search(reader).map(|variances| Cell::Search(Arc::new(variances))),
        b'E' => read_epoch(reader).map(Cell::Epoch),
        b'U' if reader.is_at_end() => Ok(Cell::Uncacheable),
        _ => Err(Rejection::Foreign),
    }
}

/// Reads what is told of a response that is being written for a cell.
pub(crate) fn decode_live(key: CellKey<'_>, value: &Bytes) -> Result<Live, Rejection> {
    let (kind, mut reader) = opened(key, value)?;
    if kind != b'L' {
        return Err(Rejection::Foreign);
    }
    let written = reader.u64()?;
    let variant = VariantKey::from_bytes(reader.array()?);
    let response = Arc::new(read_response(reader)?);
    if response.body.chunks().is_none_or(|chunks| chunks.length < written) {
        return Err(Rejection::Damaged);
    }
    Ok(Live { response, variant, written })
}

fn opened<'a>(key: CellKey<'_>, value: &'a Bytes) -> Result<(u8, Reader<'a>), Rejection> {
    let Start { kind, primary, variant, rest } = start(value)?;
    if primary != key.primary.parts() || variant != key.variant {
        return Err(Rejection::Mismatched);
    }
    Ok((kind, rest))
}

/// What each value begins with.
struct Start<'a> {
    kind: u8,
    /// The parts of the primary key.
    primary: &'a [u8],
    variant: Option<VariantKey>,
    rest: Reader<'a>,
}

fn start(value: &Bytes) -> Result<Start<'_>, Rejection> {
    let Some(start) = value.get(..CONTENT_AT) else { return Err(Rejection::Foreign) };
    if &start[..3] != MAGIC || start[3] != VERSION {
        return Err(Rejection::Foreign);
    }
    if start[4..CHECKSUM_AT] != [0; 4] || start[CHECKSUM_AT..] != xxh3_64(&value[CONTENT_AT..]).to_le_bytes() {
        return Err(Rejection::Damaged);
    }
    let mut reader = Reader::new(value, CONTENT_AT);
    let kind = reader.u8()?;
    let primary = reader.long()?;
    let variant = match reader.u8()? {
        0 => None,
        20 => Some(VariantKey::from_bytes(reader.array()?)),
        _ => return Err(Rejection::Damaged),
    };
    Ok(Start { kind, primary, variant, rest: reader })
}

/// The octets of chunk `index`, if that is what the value holds.
pub(crate) fn decode_chunk(
    generation: Generation,
    index: u32,
    length: usize,
    value: &Bytes,
) -> Result<Bytes, Rejection> {
    if value.len() != CHUNK_CONTENT_AT + length || &value[..4] != CHUNK_MAGIC {
        return Err(Rejection::Damaged);
    }
    let octets = value.slice(CHUNK_CONTENT_AT..);
    let expected = chunk_checksum(generation, index, std::slice::from_ref(&octets)).to_le_bytes();
    if value[4..8] != index.to_le_bytes() || value[8..CHUNK_CONTENT_AT] != expected {
        return Err(Rejection::Damaged);
    }
    Ok(octets)
}

fn read_response(mut reader: Reader<'_>) -> Result<StoredResponse, Rejection> {
    let status = StatusCode::from_u16(reader.u16()?).map_err(|_| Rejection::Damaged)?;
    let request_time = Timestamp::from_millis(reader.u64()?);
    let response_time = Timestamp::from_millis(reader.u64()?);
    let corrected_initial_age = Duration::from_millis(reader.u64()?);
    let lifetime = Duration::from_millis(reader.u64()?);
    let (stale, always_validate) = read_staleness(&mut reader)?;
    let origin_latency = Duration::from_millis(reader.u64()?);
    let label = Arc::new(read_label(&mut reader)?);
    let headers = read_fields(&mut reader)?;
    let trailers = match reader.u8()? {
        0 => None,
        _ => Some(Box::new(read_fields(&mut reader)?)),
    };
    let body_length = reader.u64()?;
    let freshness = Freshness { lifetime, corrected_initial_age, response_time, stale, always_validate };
    let body = read_body(&mut reader, body_length)?;
    Ok(StoredResponse { status, headers, freshness, request_time, origin_latency, body, trailers, label })
}

fn read_body(reader: &mut Reader<'_>, length: u64) -> Result<StoredBody, Rejection> {
    if reader.u8()? == 0 {
        let body = reader.rest();
        if body.len() as u64 != length {
            return Err(Rejection::Damaged);
        }
        return Ok(StoredBody::new(if body.is_empty() { Vec::new() } else { vec![body] }));
    }
    let generation = Generation::from_be_bytes(reader.array()?);
    // Another size would let a few octets ask for any number of reads.
    if reader.u32()? as usize != CHUNK_SIZE
        || !(INLINE_MAX + 1..=GREATEST_BODY).contains(&length)
        || !reader.is_at_end()
    {
        return Err(Rejection::Damaged);
    }
    Ok(StoredBody::in_chunks(Chunks { generation, length }))
}

fn read_fields(reader: &mut Reader<'_>) -> Result<HeaderMap, Rejection> {
    let count = usize::from(reader.u16()?);
    // Each line takes six octets at the least, so a count cannot reserve more than the value could hold.
    let mut fields = HeaderMap::with_capacity(ADDED_FIELDS + count.min(reader.remaining() / 6).min(1024));
    for _ in 0..count {
        let name = HeaderName::from_bytes(reader.short()?).map_err(|_| Rejection::Damaged)?;
        let line = HeaderValue::from_maybe_shared(reader.shared()?).map_err(|_| Rejection::Damaged)?;
        fields.try_append(name, line).map_err(|_| Rejection::Damaged)?;
    }
    Ok(fields)
}

fn read_index(mut reader: Reader<'_>) -> Result<VaryIndex, Rejection> {
    let mut index = VaryIndex::default();
    for _ in 0..reader.u8()? {
        let mut names = Vec::new();
        for _ in 0..reader.u8()? {
            names.push(HeaderName::from_bytes(reader.short()?).map_err(|_| Rejection::Damaged)?);
        }
        index.nominations.push(NominatedFields::new(names).map_err(|_| Rejection::Damaged)?);
    }
    for _ in 0..reader.u16()? {
        let key = VariantKey::from_bytes(reader.array()?);
        index.variants.push(IndexedVariant { key, until: Timestamp::from_millis(reader.u64()?) });
    }
    if reader.is_at_end() { Ok(index) } else { Err(Rejection::Damaged) }
}

fn read_search(mut reader: Reader<'_>) -> Result<Vec<SearchVariance>, Rejection> {
    let mut variances = Vec::new();
    for _ in 0..reader.u8()? {
        let flags = reader.u8()?;
        let mut names = Vec::new();
        for _ in 0..reader.u8()? {
            names.push(String::from_utf8(reader.long()?.to_vec()).map_err(|_| Rejection::Damaged)?);
        }
        let params = if flags & EXCEPT != 0 { Params::IgnoredExcept(names) } else { Params::Ignored(names) };
        variances.push(SearchVariance { key_order: flags & KEY_ORDER != 0, params });
    }
    if reader.is_at_end() { Ok(variances) } else { Err(Rejection::Damaged) }
}

fn read_epoch(mut reader: Reader<'_>) -> Result<u128, Rejection> {
    let number = u128::from_be_bytes(reader.array()?);
    if reader.is_at_end() { Ok(number) } else { Err(Rejection::Damaged) }
}

#[cfg(test)]
mod tests;
