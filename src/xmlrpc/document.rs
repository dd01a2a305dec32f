//! An XML document as elements of XML-RPC and the raw bytes between them.
//!
//! The markup is read by quick-xml, the bytes between it are handed out as they stand: content of any size and
//! encoding passes through. Every byte is counted against a budget, elements nest to a limit, each closing tag is
//! demanded, and only comments and white space may stand around the root. So a document that is cut anywhere is an
//! error, and one that never ends is one too.

use std::{
    borrow::Cow,
    io::{self, BufRead, Read},
    mem,
    sync::Arc,
};

use memchr::memchr;
use quick_xml::{
    Error,
    errors::{IllFormedError, SyntaxError},
    events::Event,
    reader::Reader,
};

use super::{
    ParseError,
    element::{Element, wide_characters},
    malformed,
};

/// The longest tag, comment, CDATA section or processing instruction in bytes, for quick-xml holds each in memory, and
/// hundreds of documents are read at once.
const MAX_MARKUP_BYTES: u64 = 64 * 1024;

/// How deep elements may nest. An array takes three levels; the protocol's deepest document has eleven.
const MAX_DEPTH: usize = 64;

/// One piece of markup.
#[derive(Debug)]
pub(super) enum Markup<'a> {
    /// An element begins. An empty one (`<string/>`) is followed by its `Close` like any other.
    Open(Element),
    /// The innermost element ends.
    Close,
    /// Characters that are content as they stand.
    Cdata(Cow<'a, str>),
    /// A comment, a processing instruction or the XML declaration.
    Aside,
    /// Nothing comes any more.
    End,
}

/// A document that is being read.
pub(super) struct Document<R> {
    reader: Reader<Bounded<R>>,
    buffer: Vec<u8>,
    depth: usize,
    /// An empty-element tag has been opened and is still to be closed.
    closes_at_once: bool,
    /// Bytes that may still be read, of `limit`.
    budget: u64,
    limit: u64,
    /// Whether the bytes between markup are left out of the count.
    runs_are_free: bool,
}

impl<R: BufRead> Document<R> {
    /// A document of at most `limit` bytes.
    pub(super) fn new(input: R, limit: u64) -> Self {
        let reader = Reader::from_reader(Bounded { input, left: 0, exceeded: false });
        Self { reader, buffer: Vec::new(), depth: 0, closes_at_once: false, budget: limit, limit, runs_are_free: false }
    }

    /// Says whether the bytes between markup are content of any length, which the limit does not count.
    pub(super) fn set_runs_free(&mut self, free: bool) {
        self.runs_are_free = free;
    }

    /// Hands out the raw bytes up to the next markup or the end, piece by piece; there may be none.
    pub(super) fn run<E: From<ParseError>>(&mut self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if self.closes_at_once {
            return Ok(());
        }
        loop {
            self.reader.get_mut().left = if self.runs_are_free { u64::MAX } else { self.budget };
            let mut stream = self.reader.stream();
            let available = match stream.fill_buf() {
                Ok(available) => available,
                Err(error) => return Err(failure(error, self.reader.get_ref().exceeded, self.limit).into()),
            };
            let length = memchr(b'<', available).unwrap_or(available.len());
            if length == 0 {
                return Ok(());
            }
            each(&available[..length])?;
            stream.consume(length);
            if !self.runs_are_free {
                self.budget -= length as u64;
            }
        }
    }

    /// Reads the markup that follows the bytes that [`Self::run`] handed out.
    pub(super) fn markup(&mut self) -> Result<Markup<'_>, ParseError> {
        if mem::take(&mut self.closes_at_once) {
            self.depth -= 1;
            return Ok(Markup::Close);
        }
        let allowed = self.budget.min(MAX_MARKUP_BYTES);
        self.reader.get_mut().left = allowed;
        self.buffer.clear();
        let event = self.reader.read_event_into(&mut self.buffer);
        self.budget -= allowed - self.reader.get_ref().left;
        let (tag, is_empty) = match event {
            Ok(Event::Start(tag)) => (tag, false),
            Ok(Event::Empty(tag)) => (tag, true),
            Ok(Event::End(_)) => {
                self.depth -= 1;
                return Ok(Markup::Close);
            }
            Ok(Event::CData(text)) => return Ok(Markup::Cdata(text.into_inner())),
            Ok(Event::Comment(_) | Event::PI(_)) => return Ok(Markup::Aside),
            Ok(Event::Decl(_)) if self.depth == 0 => return Ok(Markup::Aside),
            Ok(Event::Decl(_)) => return Err(malformed("an XML declaration inside the document")),
            Ok(Event::DocType(_)) => return Err(doctype()),
            Ok(Event::Text(_) | Event::GeneralRef(_)) => return Err(stray_text()),
            Ok(Event::Eof) => return Ok(Markup::End),
            Err(error) => {
                let limit = if allowed < MAX_MARKUP_BYTES { self.limit } else { MAX_MARKUP_BYTES };
                return Err(markup_failure(error, self.reader.get_ref().exceeded, limit));
            }
        };
        let element = Element::from_tag(tag.name().into_inner())?;
        if self.depth == MAX_DEPTH {
            return Err(malformed("elements are nested too deep"));
        }
        self.depth += 1;
        self.closes_at_once = is_empty;
        Ok(Markup::Open(element))
    }

    /// The element that begins next, or `None` where the one around it ends instead.
    pub(super) fn child(&mut self) -> Result<Option<Element>, ParseError> {
        loop {
            self.run(|bytes| if bytes.iter().copied().all(is_space) { Ok(()) } else { Err(stray_text()) })?;
            match self.markup()? {
                Markup::Open(element) => return Ok(Some(element)),
                Markup::Close => return Ok(None),
                Markup::Aside => {}
                Markup::Cdata(_) => return Err(stray_text()),
                Markup::End => return Err(cut_short()),
            }
        }
    }

    /// Enters the element that begins next, which must be the one named.
    pub(super) fn enter(&mut self, element: Element) -> Result<(), ParseError> {
        if self.enter_another(element)? {
            Ok(())
        } else {
            Err(malformed(format!("an element ends where <{}> should be", element.tag())))
        }
    }

    /// Enters one more of the elements named, or leaves the element around where that ends instead.
    pub(super) fn enter_another(&mut self, element: Element) -> Result<bool, ParseError> {
        match self.child()? {
            Some(found) if found == element => Ok(true),
            Some(found) => Err(found.instead_of(&format!("<{}>", element.tag()))),
            None => Ok(false),
        }
    }

    /// Leaves the element around, which must end next.
    pub(super) fn leave(&mut self) -> Result<(), ParseError> {
        match self.child()? {
            None => Ok(()),
            Some(found) => Err(malformed(format!("<{}> where an element should end", found.tag()))),
        }
    }

    /// Leaves the element around, whatever is still in it.
    pub(super) fn skip(&mut self) -> Result<(), ParseError> {
        let outside = self.depth - 1;
        while self.depth > outside {
            self.run(|_| Ok::<(), ParseError>(()))?;
            if let Markup::End = self.markup()? {
                return Err(cut_short());
            }
        }
        Ok(())
    }

    /// Enters the root element, after a byte order mark, a declaration and comments, if there are any.
    pub(super) fn enter_root(&mut self, root: Element) -> Result<(), ParseError> {
        let what = if root == Element::MethodCall { "call" } else { "response" };
        self.skip_byte_order_mark().and_then(|()| self.enter(root)).map_err(|error| match error {
            ParseError::Malformed(reason) => malformed(format!("not an XML-RPC {what}: {reason}")),
            error => error,
        })
    }

    /// Sees that nothing but comments and white space follows the root, and reads to the very end, without which
    /// a connection cannot be used again.
    pub(super) fn finish(mut self) -> Result<(), ParseError> {
        let more = || malformed("something follows the end of the document");
        loop {
            self.run(|bytes| if bytes.iter().copied().all(is_space) { Ok(()) } else { Err(more()) })?;
            match self.markup() {
                Ok(Markup::End) => return Ok(()),
                Ok(Markup::Aside) => {}
                Ok(_) | Err(ParseError::Malformed(_)) => return Err(more()),
                Err(error) => return Err(error),
            }
        }
    }

    // quick-xml does this too, but only where the three bytes come in one read.
    fn skip_byte_order_mark(&mut self) -> Result<(), ParseError> {
        for (position, expected) in [0xef, 0xbb, 0xbf].into_iter().enumerate() {
            self.reader.get_mut().left = self.budget;
            let mut stream = self.reader.stream();
            let first = match stream.fill_buf() {
                Ok(available) => available.first().copied(),
                Err(error) => return Err(failure(error, self.reader.get_ref().exceeded, self.limit)),
            };
            match first {
                Some(byte) if byte == expected => {
                    stream.consume(1);
                    self.budget -= 1;
                }
                Some(0 | 0xfe | 0xff) => return Err(wide_characters()),
                None => return Err(malformed("it is empty")),
                Some(_) if position == 0 => return Ok(()),
                Some(_) => return Err(stray_text()),
            }
        }
        Ok(())
    }
}

fn failure(error: io::Error, exceeded: bool, limit: u64) -> ParseError {
    if exceeded { ParseError::TooLarge(limit) } else { ParseError::Io(error) }
}

fn markup_failure(error: Error, exceeded: bool, limit: u64) -> ParseError {
    match error {
        Error::Io(error) => {
            let error = Arc::try_unwrap(error).unwrap_or_else(|shared| io::Error::new(shared.kind(), shared));
            failure(error, exceeded, limit)
        }
        Error::Syntax(SyntaxError::InvalidBangMarkup) => malformed("an unknown kind of markup"),
        Error::Syntax(SyntaxError::UnclosedDoctype) | Error::IllFormed(IllFormedError::MissingDoctypeName) => doctype(),
        Error::Syntax(_) => cut_short(),
        Error::IllFormed(_) => malformed("a closing tag that closes nothing"),
        Error::Encoding(_) => malformed("markup that is not UTF-8"),
        _ => malformed("broken markup"),
    }
}

/// Whether a byte is white space to XML.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The error for a document that ends too early.
pub(super) fn cut_short() -> ParseError {
    malformed("the document is cut short")
}

fn stray_text() -> ParseError {
    malformed("text where a tag should be")
}

fn doctype() -> ParseError {
    malformed("a document type declaration")
}

/// Input that fails when more than what is left is asked for, and that is never interrupted.
struct Bounded<R> {
    input: R,
    left: u64,
    exceeded: bool,
}

impl<R: BufRead> BufRead for Bounded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let available = loop {
            match self.input.fill_buf() {
                Ok(available) => break available.len(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        // Asking once more would be another read of the connection.
        if available == 0 {
            return Ok(&[]);
        }
        if self.left == 0 {
            self.exceeded = true;
            return Err(io::Error::other("over the limit"));
        }
        let length = usize::try_from(self.left).map_or(available, |left| left.min(available));
        Ok(&self.input.fill_buf()?[..length])
    }

    fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
        self.left = self.left.saturating_sub(amount as u64);
    }
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let amount = self.fill_buf()?.read(buffer)?;
        self.consume(amount);
        Ok(amount)
    }
}
