//! The response to a fetch, written: its encoding is chosen and its length known before the first byte goes out.
//!
//! Exactly the announced number of bytes is written or an error returned, and the closing tags follow only when the
//! whole source has gone out and is what was prepared: a reader never takes a part for the whole.

use std::io::{self, Read, Write};

use memchr::memchr_iter;

use super::write::{RESPONSE_END, RESPONSE_START, escape, is_legal};

/// The largest file in bytes that is sent as text: all of it must be looked at before the first byte can go out.
const MAX_TEXT_BYTES: u64 = 64 * 1024 * 1024;

/// The bytes written at a time. Larger writes are no faster, and 256 downloads that nobody reads hold as many of them.
const OUTPUT_BYTES: usize = 128 * 1024;

/// The bytes read at a time: as base64 they fill one write.
const INPUT_BYTES: usize = OUTPUT_BYTES / 4 * 3;

/// How a file will be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    encoding: Encoding,
    /// The source's length in bytes.
    size: u64,
    /// Its length in bytes when encoded.
    encoded_size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Text,
    Base64,
}

impl Content {
    /// Looks at the source, which has `size` bytes: at most 64 MiB of UTF-8 that is legal in XML 1.0 go as text,
    /// anything else as base64. The source is read only as far as that needs, and must be rewound afterwards.
    ///
    /// Fails where the source cannot be read or turns out to have another size.
    pub(crate) fn prepare(source: &mut dyn Read, size: u64) -> io::Result<Self> {
        let mut encoded_size = 0;
        let mut count = |chunk: &[u8]| {
            encoded_size += escaped_length(chunk) as u64;
            Ok(is_legal(chunk))
        };
        if size <= MAX_TEXT_BYTES && read_chunks(source, Encoding::Text, size, &mut count)? {
            return Ok(Self { encoding: Encoding::Text, size, encoded_size });
        }
        Ok(Self { encoding: Encoding::Base64, size, encoded_size: size.div_ceil(3) * 4 })
    }

    /// Returns the bytes of the whole response document.
    pub(crate) fn length(&self) -> u64 {
        let (start, end) = self.frame();
        self.encoded_size + (start.len() + end.len()) as u64
    }

    /// Writes the response document, reading the source again from its start. A small one goes out in one write.
    ///
    /// Fails where source or output do, and where the source is no longer what was prepared.
    pub(crate) fn write(&self, source: &mut dyn Read, output: &mut dyn Write) -> io::Result<()> {
        let (mut pending, end) = self.frame();
        let mut encoded_size = 0;
        let mut encode = |chunk: &[u8]| {
            let before = pending.len();
            match self.encoding {
                Encoding::Text if !is_legal(chunk) => return Ok(false),
                Encoding::Text => escape(chunk, &mut pending),
                Encoding::Base64 => base64_simd::STANDARD.encode_append(chunk, &mut pending),
            }
            encoded_size += (pending.len() - before) as u64;
            if pending.len() >= OUTPUT_BYTES && encoded_size <= self.encoded_size {
                output.write_all(&pending)?;
                pending.clear();
            }
            Ok(encoded_size <= self.encoded_size)
        };
        let is_whole = read_chunks(source, self.encoding, self.size, &mut encode)?;
        if !is_whole || encoded_size != self.encoded_size {
            return Err(changed());
        }
        pending.extend(end);
        output.write_all(&pending)
    }

    /// Returns what stands before and after the encoded bytes.
    fn frame(&self) -> (Vec<u8>, Vec<u8>) {
        let (start, end): (&[u8], &[u8]) = match self.encoding {
            Encoding::Text => (b"<value><string>", b"</string></value>\n"),
            Encoding::Base64 => (b"<value><base64>", b"</base64></value>\n"),
        };
        ([RESPONSE_START, start].concat(), [end, RESPONSE_END].concat())
    }
}

/// Reads a source of `size` bytes in chunks that can be encoded one by one: whole characters, or a multiple of three
/// bytes. Stops where `each` returns false, and then returns that.
///
/// Fails where the source has another size.
fn read_chunks(
    source: &mut dyn Read,
    encoding: Encoding,
    size: u64,
    each: &mut dyn FnMut(&[u8]) -> io::Result<bool>,
) -> io::Result<bool> {
    // One byte more than a small file has shows whether it has grown.
    let mut buffer = vec![0; usize::try_from(size + 1).unwrap_or(INPUT_BYTES).min(INPUT_BYTES)];
    let mut kept = 0;
    let mut read = 0;
    loop {
        let count = source.read(&mut buffer[kept..])?;
        let filled = kept + count;
        let end = match encoding {
            _ if count == 0 => filled,
            Encoding::Text => last_boundary(&buffer[..filled]),
            Encoding::Base64 => filled / 3 * 3,
        };
        read += end as u64;
        if read > size || count == 0 && read < size {
            return Err(changed());
        }
        if !each(&buffer[..end])? {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
        buffer.copy_within(end..filled, 0);
        kept = filled - end;
    }
}

/// Returns where the last character of UTF-8 begins that the end may have cut, or else the length.
fn last_boundary(text: &[u8]) -> usize {
    let tail = text.len().saturating_sub(3);
    text[tail..].iter().rposition(|byte| *byte >= 0xc0).map_or(text.len(), |start| tail + start)
}

/// Returns the length that text has after [`escape`].
fn escaped_length(text: &[u8]) -> usize {
    let count = |byte| memchr_iter(byte, text).count();
    text.len() + 4 * count(b'&') + 3 * count(b'<') + 3 * count(b'>') + 4 * count(b'\r')
}

fn changed() -> io::Error {
    io::Error::other("the file changed while it was read")
}
