//! Octets as hexadecimal digits.

/// The digits of each octet.
const PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut octet = 0;
    while octet < pairs.len() {
        pairs[octet] = [DIGITS[octet >> 4], DIGITS[octet & 15]];
        octet += 1;
    }
    pairs
};

/// Writes the digits, two for each octet, into a place of that length.
pub(crate) fn write_hex(place: &mut [u8], octets: &[u8]) {
    for (pair, octet) in place.chunks_exact_mut(2).zip(octets) {
        pair.copy_from_slice(&PAIRS[usize::from(*octet)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_octet_has_two_digits_the_higher_first() {
        let mut place = [b'?'; 8];
        write_hex(&mut place[1..7], &[0x00, 0x7f, 0xe1]);
        assert_eq!(&place, b"?007fe1?");
        for octet in 0..=u8::MAX {
            let mut place = [b'?'; 2];
            write_hex(&mut place, &[octet]);
            assert_eq!(place[..], *format!("{octet:02x}").as_bytes());
        }
    }
}
