//! Base64 as it streams in: white space anywhere, cut anywhere.
//!
//! Only the standard alphabet with its padding is taken, and nothing may follow the padding.

use memchr::{memchr2, memchr2_iter};

use super::{ContentError, PIECE_BYTES, ParseError, document::is_space, malformed, text::Out};

/// The most bytes of white space beyond one for each digit: else an answer could go on for ever without a byte in it.
const MAX_SPARE_SPACE: u64 = 64 * 1024;

/// Decodes what it is fed.
#[derive(Default)]
pub(super) struct Decoder {
    /// Digits without white space that are still to be decoded; emptied to fewer than four when a piece is full.
    digits: Vec<u8>,
    /// Whether padding has come, after which nothing may.
    has_ended: bool,
    /// The bytes that came, and how many of them were digits.
    fed: u64,
    digits_fed: u64,
}

impl Decoder {
    /// Takes more base64; gives bytes to `out` once there are many.
    pub(super) fn feed(&mut self, base64: &[u8], out: Out<'_>) -> Result<(), ContentError> {
        for piece in base64.chunks(PIECE_BYTES) {
            let before = self.digits.len();
            self.gather(piece);
            self.fed += piece.len() as u64;
            self.digits_fed += (self.digits.len() - before) as u64;
            if self.fed > 2 * self.digits_fed + MAX_SPARE_SPACE {
                return Err(malformed("more white space than base64").into());
            }
            if self.digits.len() >= PIECE_BYTES {
                let whole = self.digits.len() / 4 * 4;
                self.decode(whole, out)?;
            }
        }
        Ok(())
    }

    /// Gives the last bytes to `out`.
    pub(super) fn finish(mut self, out: Out<'_>) -> Result<(), ContentError> {
        self.decode(self.digits.len(), out)
    }

    fn gather(&mut self, piece: &[u8]) {
        // Line breaks are common and far apart, blanks are rare.
        if memchr2(b' ', b'\t', piece).is_some() {
            self.digits.extend(piece.iter().copied().filter(|byte| !is_space(*byte)));
            return;
        }
        let mut start = 0;
        for end in memchr2_iter(b'\n', b'\r', piece) {
            self.digits.extend_from_slice(&piece[start..end]);
            start = end + 1;
        }
        self.digits.extend_from_slice(&piece[start..]);
    }

    fn decode(&mut self, length: usize, out: Out<'_>) -> Result<(), ContentError> {
        if length == 0 {
            return Ok(());
        }
        if self.has_ended {
            return Err(broken().into());
        }
        self.has_ended = self.digits[length - 1] == b'=';
        let bytes = base64_simd::STANDARD.decode_inplace(&mut self.digits[..length]).map_err(|_| broken())?;
        out(bytes)?;
        self.digits.copy_within(length.., 0);
        self.digits.truncate(self.digits.len() - length);
        Ok(())
    }
}

fn broken() -> ParseError {
    malformed("broken base64")
}
