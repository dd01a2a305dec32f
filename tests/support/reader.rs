//! Input that comes in pieces, as from a network.

use std::io::{self, BufRead, Read};

/// Gives its bytes in reads of given sizes, over and over, and fails where it is told to.
pub(crate) struct ChunkedReader<'a> {
    rest: &'a [u8],
    sizes: Vec<usize>,
    reads: usize,
    interrupts: bool,
    was_interrupted: bool,
    error: Option<fn() -> io::Error>,
    end_was_read: bool,
}

impl<'a> ChunkedReader<'a> {
    /// At most `size` bytes a read.
    pub(crate) fn new(bytes: &'a [u8], size: usize) -> Self {
        Self::with_sizes(bytes, [size])
    }

    /// Reads of these sizes in turn.
    pub(crate) fn with_sizes(bytes: &'a [u8], sizes: impl Into<Vec<usize>>) -> Self {
        let sizes = sizes.into();
        Self {
            rest: bytes,
            sizes,
            reads: 0,
            interrupts: false,
            was_interrupted: false,
            error: None,
            end_was_read: false,
        }
    }

    /// Every read is interrupted once before it gives anything.
    pub(crate) fn interrupted(self) -> Self {
        Self { interrupts: true, ..self }
    }

    /// After the last byte comes an error in place of the end.
    pub(crate) fn failing(self, error: fn() -> io::Error) -> Self {
        Self { error: Some(error), ..self }
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether somebody has read on after the last byte.
    pub(crate) fn end_was_read(&self) -> bool {
        self.end_was_read
    }
}

impl Read for ChunkedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for ChunkedReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.interrupts {
            self.was_interrupted = !self.was_interrupted;
            if self.was_interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        if self.rest.is_empty() {
            self.end_was_read = true;
            if let Some(error) = self.error {
                return Err(error());
            }
        }
        let size = self.sizes[self.reads % self.sizes.len()];
        Ok(&self.rest[..size.min(self.rest.len())])
    }

    fn consume(&mut self, length: usize) {
        self.rest = &self.rest[length..];
        self.reads += 1;
    }
}
