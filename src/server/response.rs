//! Writes one answer: a head, and a body of exactly the announced length, or in chunks where none is announced.
//!
//! A body that fails, panics, or writes another number of bytes than was announced is an error, after which the caller
//! resets the connection: nothing is padded, and nothing that is cut looks whole.

use std::{
    io::{self, Write},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{SystemTime, UNIX_EPOCH},
};

use super::handler::{Answer, Body, FileState};
use crate::rate_limit::RateLimit;

/// The head and this many bytes of the body go in one write: one packet for a small answer.
const FIRST_WRITE_BYTES: usize = 16 << 10;

/// An answer to be written.
pub(super) struct Response {
    /// The status line and the headers, without the blank line at their end.
    pub(super) head: Vec<u8>,
    /// The length of the body in bytes, where it is known.
    length: Option<u64>,
    /// What limits the rate at which it is sent.
    pub(super) limit: Option<RateLimit>,
    body: Body,
}

impl Response {
    /// `headers` is whole header lines beside those of the body's kind and length.
    pub(super) fn new(headers: &str, answer: Answer) -> Self {
        let Answer { status, content_type, length, file, limit, body } = answer;
        let validators = file.map(|file| validators(&file, SystemTime::now())).unwrap_or_default();
        let length_line = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{length_line}{validators}{headers}");
        Self { head: head.into_bytes(), length, limit, body }
    }

    /// An answer in one line of plain text.
    pub(super) fn text(status: &'static str, headers: &str, text: &str) -> Self {
        let text = format!("{text}\n").into_bytes();
        Self::new(headers, Answer { status, content_type: "text/plain", ..Answer::document(text) })
    }

    /// Writes it. `closes` announces the end of the connection; after a request for the head alone no body follows. A
    /// body of unknown length goes in chunks, to a caller of HTTP/1.0 as it is, until the connection ends.
    pub(super) fn write(self, to: &mut dyn Write, closes: bool, head_only: bool, is_http_1_0: bool) -> io::Result<()> {
        let Self { mut head, length, body, .. } = self;
        let is_chunked = length.is_none() && !is_http_1_0;
        if is_chunked {
            head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        head.extend_from_slice(if closes { b"Connection: close\r\n\r\n" } else { b"\r\n" });
        if head_only {
            return to.write_all(&head);
        }
        if let Some(length) = length {
            let mut writer = ExactWriter { to, head, missing: length };
            write_body(body, &mut writer)?;
            return writer.finish();
        }
        if is_chunked {
            let mut writer = ChunkWriter { to, buffer: head };
            write_body(body, &mut writer)?;
            return writer.finish();
        }
        to.write_all(&head)?;
        write_body(body, to)
    }
}

fn write_body(body: Body, to: &mut dyn Write) -> io::Result<()> {
    // A panic has been reported by its hook.
    catch_unwind(AssertUnwindSafe(|| body(to))).unwrap_or_else(|_| Err(io::Error::other("the body panicked")))
}

/// Writes each piece of a body as a chunk, each in one write.
struct ChunkWriter<'a> {
    to: &'a mut dyn Write,
    /// What goes before the next chunk: at first the head.
    buffer: Vec<u8>,
}

impl ChunkWriter<'_> {
    /// Writes the chunk that ends the body.
    fn finish(mut self) -> io::Result<()> {
        self.buffer.extend_from_slice(b"0\r\n\r\n");
        self.to.write_all(&self.buffer)
    }
}

impl Write for ChunkWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // An empty chunk would be the last.
        if !bytes.is_empty() {
            self.buffer.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
            self.buffer.extend_from_slice(bytes);
            self.buffer.extend_from_slice(b"\r\n");
            self.to.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the header lines that tell one state of a file from another.
///
/// HTTP wants no time that lies ahead: it becomes the present. Of one before 1970 there is no `Last-Modified`.
fn validators(file: &FileState, now: SystemTime) -> String {
    let version = &file.version;
    let modified = file.modified.min(now);
    let last_modified = if modified < UNIX_EPOCH {
        String::new()
    } else {
        format!("Last-Modified: {}\r\n", httpdate::fmt_http_date(modified))
    };
    format!("ETag: \"{version}\"\r\n{last_modified}")
}

/// Writes a head before the first bytes of a body, and holds the body to its length.
struct ExactWriter<'a> {
    to: &'a mut dyn Write,
    /// Empty once it has been written.
    head: Vec<u8>,
    /// How many bytes of the body are still to be written.
    missing: u64,
}

impl ExactWriter<'_> {
    /// Writes the head if nothing has been written, for a body may be empty. Fails if the body was too short.
    fn finish(self) -> io::Result<()> {
        self.to.write_all(&self.head)?;
        match self.missing {
            0 => Ok(()),
            missing => Err(io::Error::other(format!("the body ended {missing} bytes early"))),
        }
    }
}

impl Write for ExactWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.missing {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the body is longer than was announced"));
        }
        let written = if self.head.is_empty() {
            self.to.write_all(bytes)?;
            bytes.len()
        } else {
            let mut first = mem::take(&mut self.head);
            let with_head = bytes.len().min(FIRST_WRITE_BYTES);
            first.extend_from_slice(&bytes[..with_head]);
            self.to.write_all(&first)?;
            with_head
        };
        self.missing -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_ahead_and_before_1970_do_no_harm() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_778);
        let second = Duration::from_secs(1);
        let age = Duration::from_secs(1 << 40);
        for (modified, expected) in [
            (now - second, "ETag: \"v\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
            (now + second, "ETag: \"v\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:38 GMT\r\n"),
            (now + age, "ETag: \"v\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:38 GMT\r\n"),
            (UNIX_EPOCH, "ETag: \"v\"\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
            (UNIX_EPOCH - second, "ETag: \"v\"\r\n"),
            (UNIX_EPOCH - age, "ETag: \"v\"\r\n"),
        ] {
            let file = FileState { version: "v".to_owned(), modified };
            assert_eq!(validators(&file, now), expected, "{modified:?}");
        }
    }

    /// Writes an answer of unknown length; how that ended, and what was written after the head.
    fn write_unknown(is_http_1_0: bool, body: Body) -> (bool, String) {
        let answer = Answer { length: None, body, ..Answer::document(Vec::new()) };
        let mut bytes = Vec::new();
        let result = Response::new("", answer).write(&mut bytes, false, false, is_http_1_0);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(head.contains("Transfer-Encoding: chunked"), !is_http_1_0, "{head}");
        assert!(!head.contains("Content-Length"), "{head}");
        (result.is_ok(), body.to_owned())
    }

    fn pieces(to: &mut dyn Write) -> io::Result<()> {
        to.write_all(b"one")?;
        to.write_all(b"")?;
        to.write_all(&[b'x'; 17])
    }

    #[test]
    fn a_body_of_unknown_length_goes_in_chunks_or_until_the_end() {
        let chunks = format!("3\r\none\r\n11\r\n{}\r\n0\r\n\r\n", "x".repeat(17));
        assert_eq!(write_unknown(false, Box::new(pieces)), (true, chunks));
        assert_eq!(write_unknown(true, Box::new(pieces)), (true, format!("one{}", "x".repeat(17))));
        assert_eq!(write_unknown(false, Box::new(|_| Ok(()))), (true, "0\r\n\r\n".to_owned()));
    }

    #[test]
    fn a_head_alone_has_neither_body_nor_last_chunk() {
        for length in [None, Some(3)] {
            let body: Body = Box::new(|_| panic!("nobody asked for the body"));
            let answer = Answer { length, body, ..Answer::document(Vec::new()) };
            let mut bytes = Vec::new();
            Response::new("", answer).write(&mut bytes, true, true, false).unwrap();
            let head = String::from_utf8(bytes).unwrap();
            assert_eq!(head.find("\r\n\r\n"), Some(head.len() - 4), "{head}");
            assert_eq!(head.contains("Transfer-Encoding: chunked\r\n"), length.is_none(), "{head}");
            assert!(head.ends_with("Connection: close\r\n\r\n"), "{head}");
        }
    }

    #[test]
    fn a_body_that_fails_has_no_last_chunk() {
        let fails = |to: &mut dyn Write| to.write_all(b"one").and(Err(io::ErrorKind::NotFound.into()));
        assert_eq!(write_unknown(false, Box::new(fails)), (false, "3\r\none\r\n".to_owned()));
        let panics = |to: &mut dyn Write| -> io::Result<()> {
            to.write_all(b"one")?;
            std::panic::resume_unwind(Box::new("as wanted"))
        };
        assert_eq!(write_unknown(false, Box::new(panics)), (false, "3\r\none\r\n".to_owned()));
    }
}
