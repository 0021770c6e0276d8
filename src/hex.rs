//! Octets as hexadecimal digits.

/// Writes the digits, two for each octet, into a place of that length.
pub(crate) fn write_hex(place: &mut [u8], octets: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, octet) in place.chunks_exact_mut(2).zip(octets) {
        pair[0] = DIGITS[usize::from(octet >> 4)];
        pair[1] = DIGITS[usize::from(octet & 15)];
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
    }
}
