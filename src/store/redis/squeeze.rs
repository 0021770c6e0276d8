//! Values that take less room in Redis: compressed by zstd where that saves an eighth at the least.
//!
//! What is stored is the same; this is no `Content-Encoding`, and no client sees it. A compressed value begins with a mark
//! of its own and the length of what is in it, so that values of either kind are read at any time.

use std::cell::RefCell;

use bytes::{BufMut, Bytes};
use zstd::bulk::{Compressor, Decompressor};

use super::codec::Rejection;

const MARK: &[u8; 4] = b"TRCZ";
const CONTENT_AT: usize = 8;
/// The level at which zstd is quick: what is stored is read often, and soon gone.
const LEVEL: i32 = 1;
/// Less than this part is not worth the reader's time.
const WORTH: usize = 8;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The value as it is written: compressed, if that is worth it.
pub(super) fn squeeze(value: Vec<u8>) -> Vec<u8> {
    let Ok(length) = u32::try_from(value.len()) else { return value };
    let squeezed = COMPRESSOR.with_borrow_mut(|compressor| {
        if compressor.is_none() {
            *compressor = Compressor::new(LEVEL).ok();
        }
        compressor.as_mut()?.compress(&value).ok()
    });
    match squeezed {
        Some(squeezed) if squeezed.len() + CONTENT_AT + value.len() / WORTH <= value.len() => {
            let mut marked = Vec::with_capacity(CONTENT_AT + squeezed.len());
            marked.put_slice(MARK);
            marked.put_u32_le(length);
            marked.put_slice(&squeezed);
            marked
        }
        _ => value,
    }
}

/// The value that was written. One that would be longer than `most` is nothing of ours.
pub(super) fn unsqueeze(value: Bytes, most: usize) -> Result<Bytes, Rejection> {
    if !value.starts_with(MARK) {
        return Ok(value);
    }
    let Some((head, content)) = value.split_at_checked(CONTENT_AT) else { return Err(Rejection::Damaged) };
    let length = head[MARK.len()..].try_into().map(u32::from_le_bytes).map_err(|_| Rejection::Damaged)?;
    let length = usize::try_from(length).map_err(|_| Rejection::Damaged)?;
    if length > most {
        return Err(Rejection::Oversized);
    }
    let whole = DECOMPRESSOR.with_borrow_mut(|decompressor| {
        if decompressor.is_none() {
            *decompressor = Decompressor::new().ok();
        }
        decompressor.as_mut()?.decompress(content, length).ok()
    });
    whole.filter(|whole| whole.len() == length).map(Bytes::from).ok_or(Rejection::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_it_is_compressed_and_comes_back() {
        let text = "a page with words, and words, and more words".repeat(50).into_bytes();
        let squeezed = Bytes::from(squeeze(text.clone()));
        assert!(squeezed.len() < text.len() / 4, "{}", squeezed.len());
        assert_eq!(unsqueeze(squeezed.clone(), text.len()).unwrap(), text);
        assert_eq!(unsqueeze(squeezed.clone(), text.len() - 1), Err(Rejection::Oversized));
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(5000).collect();
        assert_eq!(squeeze(noise.clone()), noise);
        assert_eq!(unsqueeze(noise.clone().into(), 1).unwrap(), noise);
        assert_eq!(squeeze(Vec::new()), b"");
    }

    #[test]
    fn what_is_damaged_is_nothing_and_costs_no_more_than_its_bound() {
        let squeezed = squeeze(vec![b'x'; 10_000]);
        for length in MARK.len()..squeezed.len() {
            assert!(unsqueeze(squeezed[..length].to_vec().into(), 1 << 20).is_err(), "{length} octets");
        }
        for at in 0..squeezed.len() {
            let mut flipped = squeezed.clone();
            flipped[at] ^= 0x41;
            // It may be another value, and is none of ours then: that is seen by its own checksum.
            let _ = unsqueeze(flipped.into(), 1 << 20);
        }
        // One that says it is short and is not.
        let mut bomb = squeeze(vec![0; 1 << 20]);
        bomb[MARK.len()..CONTENT_AT].copy_from_slice(&100_u32.to_le_bytes());
        assert!(unsqueeze(bomb.into(), 1 << 20).is_err());
    }
}
