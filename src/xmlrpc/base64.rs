//! Decodes base64 as it streams in: white space anywhere, cut anywhere.
//!
//! Only the standard alphabet with its padding is accepted, and nothing may follow the padding.

use memchr::{memchr2, memchr2_iter};

use super::{CHUNK_BYTES, Error, malformed, reader::Output};

/// The most bytes of white space beyond one for each digit: else a response could go on for ever without a byte in it.
const MAX_SPARE_SPACE: u64 = 64 * 1024;

/// Decodes what it is fed.
#[derive(Default)]
pub(super) struct Decoder {
    /// Digits that are still to be decoded, at most a chunk of them.
    digits: Vec<u8>,
    /// Whether padding has come.
    has_ended: bool,
    /// The bytes that came, and how many of them were digits.
    fed: u64,
    digits_fed: u64,
}

impl Decoder {
    /// Takes more base64; gives bytes to `output` once there are many.
    pub(super) fn feed(&mut self, base64: &[u8], output: Output<'_>) -> Result<(), Error> {
        for chunk in base64.chunks(CHUNK_BYTES) {
            let before = self.digits.len();
            self.append_digits(chunk);
            self.fed += chunk.len() as u64;
            self.digits_fed += (self.digits.len() - before) as u64;
            if self.fed > 2 * self.digits_fed + MAX_SPARE_SPACE {
                return Err(malformed("more white space than base64"));
            }
            if self.digits.len() >= CHUNK_BYTES {
                self.decode(self.digits.len() / 4 * 4, output)?;
            }
        }
        Ok(())
    }

    /// Gives the last bytes to `output`.
    pub(super) fn finish(mut self, output: Output<'_>) -> Result<(), Error> {
        self.decode(self.digits.len(), output)
    }

    fn append_digits(&mut self, chunk: &[u8]) {
        // Line breaks are common and far apart, blanks are rare.
        if memchr2(b' ', b'\t', chunk).is_some() {
            self.digits.extend(chunk.iter().copied().filter(|byte| !b" \t\r\n".contains(byte)));
            return;
        }
        let mut start = 0;
        for end in memchr2_iter(b'\n', b'\r', chunk) {
            self.digits.extend_from_slice(&chunk[start..end]);
            start = end + 1;
        }
        self.digits.extend_from_slice(&chunk[start..]);
    }

    fn decode(&mut self, length: usize, output: Output<'_>) -> Result<(), Error> {
        if self.has_ended && length > 0 {
            return Err(broken());
        }
        let digits = &mut self.digits[..length];
        self.has_ended = digits.ends_with(b"=");
        let bytes = base64_simd::STANDARD.decode_inplace(digits).map_err(|_| broken())?;
        output(bytes)?;
        self.digits.drain(..length);
        Ok(())
    }
}

fn broken() -> Error {
    malformed("broken base64")
}
