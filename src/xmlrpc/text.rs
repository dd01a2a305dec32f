//! Resolves references as text streams in, cut anywhere.

use memchr::memchr;

use super::{Error, malformed, reader::Output};

/// The longest reference in bytes, with its `&` and `;`; leading zeros make some longer than needed.
const MAX_REFERENCE_BYTES: usize = 34;

/// Resolves references in the text that it is fed.
#[derive(Default)]
pub(super) struct Unescaper {
    /// What has come of a reference whose `;` has not.
    reference: Vec<u8>,
}

impl Unescaper {
    /// Takes more text and gives it to `output`, with each reference replaced by what it stands for.
    pub(super) fn feed(&mut self, mut bytes: &[u8], output: Output<'_>) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.reference.is_empty() {
                let start = memchr(b'&', bytes).unwrap_or(bytes.len());
                output(&bytes[..start])?;
                bytes = &bytes[start..];
            }
            let room = MAX_REFERENCE_BYTES - self.reference.len();
            let candidate = &bytes[..bytes.len().min(room)];
            let end = memchr(b';', candidate).map(|end| end + 1);
            let length = end.unwrap_or(candidate.len());
            self.reference.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            if end.is_some() {
                output(resolve(&self.reference)?.encode_utf8(&mut [0; 4]).as_bytes())?;
                self.reference.clear();
            } else if length == room {
                return Err(unfinished());
            }
        }
        Ok(())
    }

    /// Checks that no reference has been left unfinished where something other than text comes.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.reference.is_empty() { Ok(()) } else { Err(unfinished()) }
    }
}

/// Returns what a reference stands for: one of the five entities of XML, or any character but NUL by its number.
///
/// XML 1.0 forbids references to most control characters, but some writers send them, they are harmless in content, and
/// the file would be lost otherwise; NUL is forbidden in every version and written by nobody.
fn resolve(reference: &[u8]) -> Result<char, Error> {
    match reference {
        b"&amp;" => Ok('&'),
        b"&lt;" => Ok('<'),
        b"&gt;" => Ok('>'),
        b"&quot;" => Ok('"'),
        b"&apos;" => Ok('\''),
        [b'&', b'#', b'x', digits @ .., b';'] => numbered(digits, 16),
        [b'&', b'#', digits @ .., b';'] => numbered(digits, 10),
        _ => Err(malformed("an entity that XML does not define")),
    }
}

fn numbered(digits: &[u8], radix: u32) -> Result<char, Error> {
    let text = str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
    let number = text.and_then(|text| u32::from_str_radix(text, radix).ok());
    let character = number.and_then(char::from_u32).filter(|character| *character != '\0');
    character.ok_or_else(|| malformed("a reference to a character that does not exist"))
}

fn unfinished() -> Error {
    malformed("an & that begins no reference")
}
