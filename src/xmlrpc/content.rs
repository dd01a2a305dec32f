//! The answer to a fetch, written: its form is chosen and its length known before the first byte goes out.
//!
//! Exactly the announced number of bytes is written or an error given, and the closing tags follow only when the
//! whole source has gone out and is what was measured: a reader never takes a part for the whole.

use std::{
    io::{self, Read, Write},
    str,
};

use memchr::{memchr_iter, memmem};

use super::write::{RESPONSE_END, RESPONSE_START, escape};

/// The largest file in bytes that is sent as text: all of it must be looked at before the first byte can go out.
const MAX_TEXT_BYTES: u64 = 64 * 1024 * 1024;

/// The bytes written at a time. Larger writes are no faster, and 256 downloads that nobody reads hold as many of them.
const OUTPUT_BYTES: usize = 128 * 1024;

/// The bytes read at a time: as base64 they fill one write, and a multiple of three needs no padding.
const INPUT_BYTES: usize = OUTPUT_BYTES / 4 * 3;

/// Room in bytes beyond a small file, by which one that has grown is noticed.
const SPARE_BYTES: usize = 64;

/// How the bytes of a file will be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    form: Form,
    /// The source's length in bytes.
    size: u64,
    /// The length in bytes of those as text or base64.
    encoded: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Base64,
}

impl Form {
    fn tags(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("<value><string>", "</string></value>\n"),
            Self::Base64 => ("<value><base64>", "</base64></value>\n"),
        }
    }
}

impl Content {
    /// Looks at the source, which has `size` bytes: as text go at most 64 MiB of UTF-8 that is legal in XML 1.0, as
    /// base64 anything else. The source is read only as far as that needs, and must be rewound afterwards.
    ///
    /// Fails where the source cannot be read or turns out to have another size.
    pub(crate) fn measure(source: &mut dyn Read, size: u64) -> io::Result<Self> {
        if size <= MAX_TEXT_BYTES
            && let Some(encoded) = measure_text(source, size)?
        {
            return Ok(Self { form: Form::Text, size, encoded });
        }
        Ok(Self { form: Form::Base64, size, encoded: size.div_ceil(3) * 4 })
    }

    /// The bytes of the whole response document.
    pub(crate) fn length(&self) -> u64 {
        let (start, end) = self.form.tags();
        let frame = RESPONSE_START.len() + start.len() + end.len() + RESPONSE_END.len();
        self.encoded + frame as u64
    }

    /// Writes the response document, reading the source again from its start. A small one goes out in one write.
    ///
    /// Fails where source or output do, and where the source is no longer what was measured.
    pub(crate) fn write(&self, source: &mut dyn Read, out: &mut dyn Write) -> io::Result<()> {
        let (start, end) = self.form.tags();
        let mut pending = [RESPONSE_START, start].concat().into_bytes();
        let (mut size, mut encoded) = (0, 0);
        let mut pieces = Pieces::new(source, self.form, self.size);
        loop {
            let piece = match pieces.next()? {
                Piece::Bytes(piece) => piece,
                Piece::Illegal => return Err(changed()),
                Piece::End => break,
            };
            let before = pending.len();
            match self.form {
                Form::Text => escape(piece, &mut pending),
                Form::Base64 => base64_simd::STANDARD.encode_append(piece, &mut pending),
            }
            size += piece.len() as u64;
            encoded += (pending.len() - before) as u64;
            if size > self.size || encoded > self.encoded {
                return Err(changed());
            }
            if pending.len() >= OUTPUT_BYTES {
                out.write_all(&pending)?;
                pending.clear();
            }
        }
        if size != self.size || encoded != self.encoded {
            return Err(changed());
        }
        pending.extend_from_slice(end.as_bytes());
        pending.extend_from_slice(RESPONSE_END.as_bytes());
        out.write_all(&pending)
    }
}

/// The length of a source as text, or `None` where it is none.
fn measure_text(source: &mut dyn Read, size: u64) -> io::Result<Option<u64>> {
    let (mut read, mut encoded) = (0, 0);
    let mut pieces = Pieces::new(source, Form::Text, size);
    while read <= size {
        match pieces.next()? {
            Piece::Bytes(text) => {
                read += text.len() as u64;
                encoded += escaped_length(text) as u64;
            }
            Piece::Illegal => return Ok(None),
            Piece::End if read == size => return Ok(Some(encoded)),
            Piece::End => break,
        }
    }
    Err(changed())
}

/// A source in pieces that can be encoded one by one: whole characters, or a multiple of three bytes.
struct Pieces<'a> {
    source: &'a mut dyn Read,
    form: Form,
    buffer: Vec<u8>,
    filled: usize,
    given: usize,
    is_at_end: bool,
}

enum Piece<'a> {
    Bytes(&'a [u8]),
    /// What comes is not text that XML allows.
    Illegal,
    End,
}

impl<'a> Pieces<'a> {
    fn new(source: &'a mut dyn Read, form: Form, size: u64) -> Self {
        let length =
            usize::try_from(size).map_or(INPUT_BYTES, |size| INPUT_BYTES.min(size.saturating_add(SPARE_BYTES)));
        Self { source, form, buffer: vec![0; length], filled: 0, given: 0, is_at_end: false }
    }

    fn next(&mut self) -> io::Result<Piece<'_>> {
        self.buffer.copy_within(self.given..self.filled, 0);
        self.filled -= self.given;
        self.given = 0;
        while !self.is_at_end && self.filled < self.buffer.len() {
            match self.source.read(&mut self.buffer[self.filled..]) {
                Ok(0) => self.is_at_end = true,
                Ok(length) => self.filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let bytes = &self.buffer[..self.filled];
        if bytes.is_empty() {
            return Ok(Piece::End);
        }
        if self.form == Form::Base64 {
            self.given = bytes.len();
            return Ok(Piece::Bytes(bytes));
        }
        self.given = match str::from_utf8(bytes) {
            Ok(_) => bytes.len(),
            Err(error) if error.error_len().is_none() && !self.is_at_end => error.valid_up_to(),
            Err(_) => return Ok(Piece::Illegal),
        };
        let text = &bytes[..self.given];
        Ok(if is_legal(text) { Piece::Bytes(text) } else { Piece::Illegal })
    }
}

fn escaped_length(text: &[u8]) -> usize {
    let count = |byte| memchr_iter(byte, text).count();
    text.len() + 4 * count(b'&') + 3 * count(b'<') + 3 * count(b'>') + 4 * count(b'\r')
}

/// Whether UTF-8 text holds only characters that XML 1.0 allows: no control characters of ASCII but tab and line
/// ends, neither U+FFFE nor U+FFFF.
fn is_legal(text: &[u8]) -> bool {
    let is_control = |byte: u8| matches!(byte, 0..=0x08 | 0x0b | 0x0c | 0x0e..=0x1f);
    // Collecting bits instead of stopping at the first lets the loop be vectorised.
    let has_control = text.iter().fold(0, |found, byte| found | u8::from(is_control(*byte))) != 0;
    !has_control && memmem::find_iter(text, b"\xef\xbf").all(|start| text[start + 2] < 0xbe)
}

fn changed() -> io::Error {
    io::Error::other("the file changed while it was read")
}
