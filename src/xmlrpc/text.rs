//! The characters of one element, streamed: references resolved, CDATA taken, comments skipped (and processing
//! instructions, which XML does not count as content either), and nothing else changed.
//!
//! No line end is converted, nothing is trimmed, and bytes need not be UTF-8, for the original sends files as they
//! are; only CDATA must, since quick-xml reads it. A reference may be cut anywhere by the reads.

use std::io::BufRead;

use memchr::memchr;

use super::{
    ContentError, ParseError,
    document::{Document, Markup, cut_short, is_space},
    element::Element,
    malformed,
};

/// The longest reference in bytes, between its `&` and `;`; leading zeros make some longer than needed.
const MAX_REFERENCE_BYTES: usize = 32;

/// The most white space in bytes that is held back until it is known whether a type's tag follows it in a `<value>`;
/// what is longer is text.
const MAX_INDENT_BYTES: usize = 4 * 1024;

/// Where characters go.
pub(super) type Out<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), ContentError>;

/// Gives the characters of the element around to `out` and leaves it.
pub(super) fn read_text<R: BufRead>(document: &mut Document<R>, out: Out<'_>) -> Result<(), ContentError> {
    let mut text = Text { is_certain: true, ..Text::default() };
    read(document, &mut text, out).map(|_| ())
}

/// Enters a type's element in the `<value>` around, or, where the value is text without a type, gives that to `out`
/// and leaves the value.
pub(super) fn enter_type<R: BufRead>(
    document: &mut Document<R>,
    out: Out<'_>,
) -> Result<Option<Element>, ContentError> {
    read(document, &mut Text::default(), out)
}

fn read<R: BufRead>(
    document: &mut Document<R>,
    text: &mut Text,
    out: Out<'_>,
) -> Result<Option<Element>, ContentError> {
    loop {
        document.run(|bytes| text.raw(bytes, out))?;
        match document.markup()? {
            Markup::Open(element) if !text.is_certain => return Ok(Some(element)),
            Markup::Open(element) => return Err(malformed(format!("<{}> inside text", element.tag())).into()),
            Markup::Aside => text.between()?,
            Markup::Cdata(characters) => {
                text.between()?;
                text.decide(out)?;
                out(characters.as_bytes())?;
            }
            Markup::Close => {
                text.between()?;
                text.decide(out)?;
                return Ok(None);
            }
            Markup::End => return Err(cut_short().into()),
        }
    }
}

/// Where the reading of an element's characters stands.
#[derive(Default)]
struct Text {
    /// Whether this is text for certain; else it is white space so far and a type may follow.
    is_certain: bool,
    /// That white space.
    indent: Vec<u8>,
    /// Whether an `&` has come whose `;` has not.
    in_reference: bool,
    /// What has come of the reference.
    reference: Vec<u8>,
}

impl Text {
    fn raw(&mut self, mut bytes: &[u8], out: Out<'_>) -> Result<(), ContentError> {
        if !self.is_certain {
            if self.indent.len() + bytes.len() <= MAX_INDENT_BYTES && bytes.iter().copied().all(is_space) {
                self.indent.extend_from_slice(bytes);
                return Ok(());
            }
            self.decide(out)?;
        }
        loop {
            if self.in_reference {
                let room = MAX_REFERENCE_BYTES - self.reference.len();
                let Some(length) = memchr(b';', &bytes[..bytes.len().min(room + 1)]) else {
                    if bytes.len() > room {
                        return Err(no_reference().into());
                    }
                    self.reference.extend_from_slice(bytes);
                    return Ok(());
                };
                self.reference.extend_from_slice(&bytes[..length]);
                out(resolve(&self.reference)?.encode_utf8(&mut [0; 4]).as_bytes())?;
                self.reference.clear();
                self.in_reference = false;
                bytes = &bytes[length + 1..];
            }
            let Some(length) = memchr(b'&', bytes) else {
                return out(bytes);
            };
            out(&bytes[..length])?;
            self.in_reference = true;
            bytes = &bytes[length + 1..];
        }
    }

    /// Checks that markup may stand here: not within a reference.
    fn between(&self) -> Result<(), ParseError> {
        if self.in_reference { Err(no_reference()) } else { Ok(()) }
    }

    /// Takes what was held back for text.
    fn decide(&mut self, out: Out<'_>) -> Result<(), ContentError> {
        self.is_certain = true;
        out(&std::mem::take(&mut self.indent))
    }
}

/// What a reference stands for: one of the five entities of XML, or any character but NUL by its number. XML 1.0
/// forbids references to most control characters, but some writers send them, they are harmless in content, and
/// the file would be lost otherwise; NUL is forbidden in every version and written by nobody.
fn resolve(reference: &[u8]) -> Result<char, ParseError> {
    let number = |digits: &[u8], radix: u32| {
        let is_digit = |byte: &u8| char::from(*byte).is_digit(radix);
        let text = std::str::from_utf8(digits).ok().filter(|text| text.as_bytes().iter().all(is_digit))?;
        u32::from_str_radix(text, radix).ok().and_then(char::from_u32).filter(|character| *character != '\0')
    };
    match reference {
        b"amp" => Ok('&'),
        b"lt" => Ok('<'),
        b"gt" => Ok('>'),
        b"quot" => Ok('"'),
        b"apos" => Ok('\''),
        [b'#', b'x', digits @ ..] => number(digits, 16).ok_or_else(no_character),
        [b'#', digits @ ..] => number(digits, 10).ok_or_else(no_character),
        _ => Err(malformed("an entity that XML does not define")),
    }
}

fn no_reference() -> ParseError {
    malformed("an & that begins no reference")
}

fn no_character() -> ParseError {
    malformed("a reference to a character that does not exist")
}
