use super::*;
use crate::key::CacheKey;
use crate::purge::label::{Label, Site, Stamp};
use proptest::prelude::*;

fn key() -> CacheKey {
    CacheKey::from_parts(["", "http", "example.com", "/a", ""])
}

fn response(body: Vec<Bytes>) -> StoredResponse {
    let mut headers = HeaderMap::new();
    headers.append("content-type", HeaderValue::from_static("text/plain"));
    headers.append("link", HeaderValue::from_static("<a>"));
    headers.append("link", HeaderValue::from_static("<b>"));
    headers.append("x-bytes", HeaderValue::from_bytes(b"\xff\xfe obs-text").unwrap());
    headers.append("x-empty", HeaderValue::from_static(""));
    let mut trailers = HeaderMap::new();
    trailers.append("x-sum", HeaderValue::from_static("7"));
    StoredResponse {
        status: StatusCode::OK,
        headers,
        freshness: Freshness {
            lifetime: Duration::from_secs(60),
            corrected_initial_age: Duration::from_millis(1500),
            response_time: Timestamp::from_millis(1_700_000_000_123),
            stale: StalePermission {
                forbidden: false,
                while_revalidate: Duration::from_secs(7),
                if_error: Some(Duration::ZERO),
            },
            always_validate: true,
        },
        request_time: Timestamp::from_millis(1_700_000_000_000),
        origin_latency: Duration::from_millis(123),
        body: StoredBody::new(body),
        trailers: Some(Box::new(trailers)),
        label: Arc::new(Label {
            stamp: Stamp { incarnation: 0xfedc_ba98_7654_3210, number: 1_764_194_637_123_456 },
            site: Site { authority: "example.com".into(), path: "/a".into() },
            tags: ["a", "b c"].map(Into::into).into(),
        }),
    }
}

fn encoded(body: &'static [u8]) -> Bytes {
    let key = key();
    let cell = Cell::Response(Arc::new(response(vec![Bytes::from_static(body)])));
    encode(CellKey::base(&key), &cell, 7).into()
}

#[test]
fn a_response_comes_back_as_it_was_and_its_body_is_a_slice_of_the_value() {
    let value = encoded(b"hello");
    let key = key();
    let Ok(Cell::Response(found)) = decode(CellKey::base(&key), &value) else { panic!("a response") };
    assert_eq!(*found, response(vec![Bytes::from_static(b"hello")]));
    let body = &found.body.pieces()[0];
    assert!(value.as_ptr_range().contains(&body.as_ptr()), "the body was copied");
}

#[test]
fn a_large_body_is_referred_to() {
    let key = key();
    let body = vec![Bytes::from(vec![1; 300_000])];
    let value = encode(CellKey::base(&key), &Cell::Response(Arc::new(response(body))), 7).into();
    let Ok(Cell::Response(found)) = decode(CellKey::base(&key), &value) else { panic!("a response") };
    assert_eq!(found.body.chunks(), Some(Chunks { generation: 7, length: 300_000 }));
    assert!(!found.body.is_loaded() && found.body.len() == 300_000);
    assert!(value.len() < 1024);
}

#[test]
fn what_is_told_of_a_writing_comes_back_as_it_was_and_is_no_cell() {
    let key = key();
    let cell = CellKey::variant(&key, VariantKey::from_bytes([3; VariantKey::LEN]));
    let length = 3 * Chunks::SIZE;
    let body = StoredBody::in_chunks(Chunks { generation: 7, length });
    let response = Arc::new(StoredResponse { body, trailers: None, ..response(Vec::new()) });
    let live = Live { response, variant: VariantKey::from_bytes([9; VariantKey::LEN]), written: Chunks::SIZE };
    let value: Bytes = encode_live(cell, &live).into();
    assert_eq!(decode_live(cell, &value).unwrap(), live);
    assert_eq!(decode(cell, &value).map(|_| ()), Err(Rejection::Foreign));
    assert_eq!(decode_live(CellKey::base(&key), &value), Err(Rejection::Mismatched));
    for end in 0..value.len() {
        assert!(decode_live(cell, &value.slice(..end)).is_err(), "{end} octets");
    }
    let too_much: Bytes = encode_live(cell, &Live { written: length + 1, ..live }).into();
    assert_eq!(decode_live(cell, &too_much), Err(Rejection::Damaged));
    let stored: Bytes = encode(cell, &Cell::Uncacheable, 0).into();
    assert_eq!(decode_live(cell, &stored), Err(Rejection::Foreign));
}

#[test]
fn an_index_comes_back_as_it_was() {
    let key = key();
    let index = VaryIndex {
        nominations: vec![
            NominatedFields::default(),
            NominatedFields::new(vec![http::header::ACCEPT, http::header::COOKIE]).unwrap(),
        ],
        variants: vec![IndexedVariant {
            key: VariantKey::from_bytes([9; VariantKey::LEN]),
            until: Timestamp::from_millis(42),
        }],
    };
    let value = encode(CellKey::base(&key), &Cell::Index(Arc::new(index.clone())), 0).into();
    let Ok(Cell::Index(found)) = decode(CellKey::base(&key), &value) else { panic!("an index") };
    assert_eq!(*found, index);
}

#[test]
fn search_variances_come_back_as_they_were() {
    let key = key();
    let variances = vec![
        SearchVariance { key_order: true, params: Params::Ignored(vec!["a b".to_owned()]) },
        SearchVariance { key_order: false, params: Params::IgnoredExcept(Vec::new()) },
    ];
    let value = encode(CellKey::base(&key), &Cell::Search(Arc::new(variances.clone())), 0).into();
    let Ok(Cell::Search(found)) = decode(CellKey::base(&key), &value) else { panic!("variances") };
    assert_eq!(*found, variances);
}

#[test]
fn an_epoch_comes_back_as_it_was_and_alone() {
    let key = key();
    let mut value = encode(CellKey::base(&key), &Cell::Epoch(7 << 100), 0);
    let Ok(Cell::Epoch(found)) = decode(CellKey::base(&key), &value.clone().into()) else { panic!("an epoch") };
    assert_eq!(found, 7 << 100);
    value.push(0);
    let checksum = xxh3_64(&value[CONTENT_AT..]);
    value[CHECKSUM_AT..CONTENT_AT].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(decode(CellKey::base(&key), &value.into()).map(|_| ()), Err(Rejection::Damaged));
}

#[test]
fn every_single_flipped_bit_is_refused() {
    let value = encoded(b"hello");
    let key = key();
    for bit in 0..value.len() * 8 {
        let mut flipped = value.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(CellKey::base(&key), &flipped.into()).is_err(), "bit {bit}");
    }
}

#[test]
fn every_shorter_value_is_refused() {
    let value = encoded(b"hello");
    let key = key();
    for length in 0..value.len() {
        assert!(decode(CellKey::base(&key), &value.slice(..length)).is_err(), "{length} octets");
    }
}

#[test]
fn a_value_of_another_key_variant_or_version_is_told_apart() {
    let value = encoded(b"hello");
    let key = key();
    let check = |cell: CellKey<'_>, value: &Bytes| decode(cell, value).map(|_| ()).unwrap_err();
    let other = CacheKey::from("other");
    assert_eq!(check(CellKey::base(&other), &value), Rejection::Mismatched);
    let variant = CellKey::variant(&key, VariantKey::from_bytes([0; VariantKey::LEN]));
    assert_eq!(check(variant, &value), Rejection::Mismatched);
    let mut newer = value.to_vec();
    newer[3] += 1;
    assert_eq!(check(CellKey::base(&key), &newer.into()), Rejection::Foreign);
    assert_eq!(check(CellKey::base(&key), &Bytes::from_static(b"some other application's value")), Rejection::Foreign);
}

#[test]
fn a_chunk_is_bound_to_its_generation_and_index() {
    let value: Bytes = encode_chunk(7, 3, &[Bytes::from_static(b"he"), Bytes::from_static(b"llo")]).into();
    assert_eq!(decode_chunk(7, 3, 5, &value).unwrap(), "hello");
    assert!(decode_chunk(7, 4, 5, &value).is_err());
    assert!(decode_chunk(8, 3, 5, &value).is_err());
    assert!(decode_chunk(7, 3, 4, &value).is_err());
    assert!(decode_chunk(7, 3, 5, &value.slice(..value.len() - 1)).is_err());
    assert!(decode_chunk(7, 3, 5, &Bytes::new()).is_err());
}

proptest! {
    #[test]
    fn no_octets_make_the_decoder_panic(content in proptest::collection::vec(any::<u8>(), 0..400), kind in 0_usize..4) {
        // A sound frame around arbitrary content, so that the decoder behind the checksum is reached.
        let key = key();
        let mut value = Vec::new();
        value.put_slice(MAGIC);
        value.put_u8(VERSION);
        value.put_bytes(0, 4 + 8);
        value.put_u8([b'R', b'V', b'S', b'?'][kind]);
        put_long(&mut value, key.parts());
        value.put_u8(0);
        value.put_slice(&content);
        let checksum = xxh3_64(&value[CONTENT_AT..]);
        value[CHECKSUM_AT..CONTENT_AT].copy_from_slice(&checksum.to_le_bytes());
        let _ = decode(CellKey::base(&key), &value.into());
    }

    #[test]
    fn bodies_come_back_as_they_were(body in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let key = key();
        let pieces = body.chunks(700).map(Bytes::copy_from_slice).collect();
        let value = encode(CellKey::base(&key), &Cell::Response(Arc::new(response(pieces))), 7).into();
        let Ok(Cell::Response(found)) = decode(CellKey::base(&key), &value) else { panic!("a response") };
        prop_assert_eq!(found.body.pieces().concat(), body);
    }
}

#[test]
fn a_body_longer_than_any_is_refused() {
    let key = key();
    let refused = |length| {
        let mut response = response(Vec::new());
        response.body = StoredBody::in_chunks(Chunks { generation: 7, length });
        let value = encode(CellKey::base(&key), &Cell::Response(Arc::new(response)), 7).into();
        decode(CellKey::base(&key), &value).is_err()
    };
    assert!(!refused(crate::config::GREATEST_BODY));
    assert!(refused(crate::config::GREATEST_BODY + 1) && refused(1 << 60) && refused(u64::MAX));
}
