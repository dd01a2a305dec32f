//! Writes one answer: a head, and a body of exactly the announced length.
//!
//! A body that fails, panics, or writes another number of bytes than was announced is an error, after which the caller
//! resets the connection: nothing is padded, and nothing that is cut looks whole.

use std::{
    io::{self, Write},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::handler::{Answer, Body};

/// The head and this many bytes of the body go in one write: one packet for a small answer.
const FIRST_WRITE_BYTES: usize = 16 << 10;

/// An answer to be written.
pub(super) struct Response {
    /// The status line and the headers, without the blank line at their end.
    pub(super) head: Vec<u8>,
    /// The length of the body in bytes.
    length: u64,
    body: Body,
}

impl Response {
    /// `headers` is whole header lines beside those of the body's kind and length.
    pub(super) fn new(status: &str, headers: &str, Answer { content_type, length, body }: Answer) -> Self {
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{headers}");
        Self { head: head.into_bytes(), length, body }
    }

    /// An answer in one line of plain text.
    pub(super) fn text(status: &str, headers: &str, text: &'static str) -> Self {
        let body = move |to: &mut dyn Write| to.write_all(format!("{text}\n").as_bytes());
        let length = text.len() as u64 + 1;
        Self::new(status, headers, Answer { content_type: "text/plain", length, body: Box::new(body) })
    }

    /// Writes it. `closes` announces the end of the connection; after a request for the head alone no body follows.
    pub(super) fn write(self, to: &mut dyn Write, closes: bool, head_only: bool) -> io::Result<()> {
        let Self { mut head, length, body } = self;
        head.extend_from_slice(if closes { b"Connection: close\r\n\r\n" } else { b"\r\n" });
        if head_only {
            return to.write_all(&head);
        }
        let mut writer = ExactWriter { to, head, missing: length };
        // A panic has been reported by its hook.
        catch_unwind(AssertUnwindSafe(|| body(&mut writer)))
            .unwrap_or_else(|_| Err(io::Error::other("the body panicked")))?;
        writer.finish()
    }
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
