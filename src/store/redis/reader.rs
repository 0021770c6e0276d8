//! A bounded reader over one value.

use bytes::Bytes;

/// The value ended before what it promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads numbers and slices from the front; every read is checked against what is left.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    value: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(value: &'a Bytes, at: usize) -> Self {
        Self { value, at: at.min(value.len()) }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.value.len() - self.at
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.remaining() == 0
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let octets = self.value[self.at..].first_chunk::<N>().ok_or(Malformed)?;
        self.at += N;
        Ok(*octets)
    }

    /// Octets behind a 16-bit length.
    pub(crate) fn short(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::from(self.u16()?);
        self.octets(length)
    }

    /// Octets behind a 32-bit length.
    pub(crate) fn long(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        self.octets(length)
    }

    /// The same, sharing the value's memory.
    pub(crate) fn shared(&mut self) -> Result<Bytes, Malformed> {
        let octets = self.long()?;
        Ok(self.value.slice(self.at - octets.len()..self.at))
    }

    /// All that is left, sharing the value's memory.
    pub(crate) fn rest(&mut self) -> Bytes {
        let rest = self.value.slice(self.at..);
        self.at = self.value.len();
        rest
    }

    fn octets(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let octets = self.value[self.at..].get(..length).ok_or(Malformed)?;
        self.at += length;
        Ok(octets)
    }
}
