//! The XML reader: a document as a sequence of tags and chunks of text.
//!
//! quick-xml reads the tags; text does not pass through it but is handed out as it stands, so text of any length and
//! encoding takes constant memory. The bytes of a document are limited, elements nest to a limit, each closing tag is
//! demanded, and only comments and white space may stand around the root. So a document that is cut anywhere is an
//! error, and one that never ends is one too.

use std::{
    io::{self, BufRead, Chain, Cursor, Read, Take},
    mem,
    sync::Arc,
};

use memchr::memchr;
use quick_xml::{events::Event as XmlEvent, reader::Reader};

use super::{
    Error, malformed,
    tag::{known_tag, unexpected},
    text::Unescaper,
};

/// The longest tag, comment, CDATA section or processing instruction in bytes, for quick-xml holds each in memory, and
/// hundreds of documents are read at once.
const MAX_MARKUP_BYTES: u64 = 64 * 1024;

/// How deep elements may nest. An array takes three levels; the protocol's deepest document has eleven.
const MAX_DEPTH: usize = 64;

/// The most white space in bytes that is held back until it is known whether a type's tag follows it in a `<value>`;
/// what is longer is text.
const MAX_INDENT_BYTES: usize = 4 * 1024;

const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// What comes next in a document.
enum Event<'a> {
    /// An element begins. An empty one (`<string/>`) is followed by its `End` like any other.
    Start(&'static str),
    /// The innermost element ends.
    End,
    /// Text as it stands in the document.
    Text(&'a [u8]),
    /// The text of a CDATA section.
    Cdata(&'a [u8]),
    /// A comment, a processing instruction or the XML declaration.
    Ignorable,
}

/// Where text goes to, chunk by chunk.
pub(super) type Output<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Error>;

/// A document that is being read.
pub(super) struct XmlReader<R> {
    /// Its input lets as many bytes through as may still be read.
    xml: Reader<Take<Chain<Cursor<Vec<u8>>, R>>>,
    limit: u64,
    depth: usize,
    /// The markup that was last read.
    buffer: Vec<u8>,
    /// The length of the chunk of text handed out last, which is still in the input.
    unconsumed: usize,
    /// What was read to find out that a `<value>` has no type, and is the beginning of its text.
    held_back: Vec<u8>,
    /// How many `End` events come before anything more is read.
    ends: usize,
    /// Whether the innermost element is a `<string>` that was left out: its end is that of the `<value>`.
    is_implied: bool,
}

impl<R: BufRead> XmlReader<R> {
    /// Begins to read a document of at most `limit` bytes, after its byte order mark, if there is one.
    pub(super) fn new(mut input: R, limit: u64) -> Result<Self, Error> {
        let mut start = Vec::new();
        input.by_ref().take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut start).map_err(Error::Io)?;
        if start == BYTE_ORDER_MARK {
            start.clear();
        }
        Ok(Self {
            xml: Reader::from_reader(Cursor::new(start).chain(input).take(limit)),
            limit,
            depth: 0,
            buffer: Vec::new(),
            unconsumed: 0,
            held_back: Vec::new(),
            ends: 0,
            is_implied: false,
        })
    }

    /// Starts the root element. An error says that the document is no XML-RPC, for which it names `what` was expected.
    pub(super) fn expect_root(&mut self, tag: &str, what: &str) -> Result<(), Error> {
        self.expect_start(tag).map_err(|error| match error {
            Error::Malformed(reason) => malformed(format!("not an XML-RPC {what}: {reason}")),
            error => error,
        })
    }

    /// Starts the element that comes next, which must be the one named.
    pub(super) fn expect_start(&mut self, tag: &str) -> Result<(), Error> {
        if !self.start_or_end(tag)? {
            return Err(malformed(format!("an element ends where <{tag}> should be")));
        }
        Ok(())
    }

    /// Starts another element of the one name that may come, or ends the element around it: then this is false.
    pub(super) fn start_or_end(&mut self, tag: &str) -> Result<bool, Error> {
        match self.next_tag()? {
            Some(found) if found == tag => Ok(true),
            Some(found) => Err(unexpected(found, &format!("<{tag}>"))),
            None => Ok(false),
        }
    }

    /// Ends the innermost element, in which nothing more may come.
    pub(super) fn expect_end(&mut self) -> Result<(), Error> {
        match self.next_tag()? {
            None => Ok(()),
            Some(found) => Err(malformed(format!("<{found}> where an element should end"))),
        }
    }

    /// Returns the tag of the element that starts next, or `None` where the one around it ends.
    pub(super) fn next_tag(&mut self) -> Result<Option<&'static str>, Error> {
        loop {
            match self.next_event()? {
                Event::Start(tag) => return Ok(Some(tag)),
                Event::End => return Ok(None),
                Event::Ignorable => {}
                Event::Text(bytes) if is_blank(bytes) => {}
                Event::Text(_) | Event::Cdata(_) => return Err(stray_text()),
            }
        }
    }

    /// Starts the element of the type in a `<value>`. Text without a type reads as if `<string>` stood around it.
    pub(super) fn start_type(&mut self) -> Result<&'static str, Error> {
        let mut indent = Vec::new();
        loop {
            match self.next_event()? {
                Event::Start(tag) => return Ok(tag),
                Event::Text(bytes) if is_blank(bytes) && indent.len() + bytes.len() <= MAX_INDENT_BYTES => {
                    indent.extend_from_slice(bytes);
                }
                Event::Text(_) => {
                    self.unconsumed = 0;
                    break;
                }
                Event::Cdata(bytes) => {
                    indent.extend_from_slice(bytes);
                    break;
                }
                Event::Ignorable => {}
                Event::End => {
                    self.ends += 1;
                    self.depth += 1;
                    break;
                }
            }
        }
        self.held_back = indent;
        self.is_implied = true;
        self.depth += 1;
        Ok("string")
    }

    /// Gives the text of the innermost element to `output`, with references resolved, and ends the element. Where it may
    /// have any length, only the markup in it counts against the limit of the document.
    ///
    /// Nothing else changes: no line end is converted, nothing is trimmed, and bytes need not be UTF-8 (but in CDATA),
    /// for the original sends files as they are.
    pub(super) fn read_text(&mut self, is_limited: bool, output: Output<'_>) -> Result<(), Error> {
        let mut unescaper = Unescaper::default();
        loop {
            match self.next_event()? {
                Event::Text(bytes) => {
                    unescaper.feed(bytes, output)?;
                    if !is_limited {
                        // What the next event will consume.
                        let input = self.xml.get_mut();
                        input.set_limit(input.limit() + self.unconsumed as u64);
                    }
                }
                Event::Cdata(bytes) => {
                    unescaper.check()?;
                    output(bytes)?;
                }
                Event::Ignorable => unescaper.check()?,
                Event::End => return unescaper.check(),
                Event::Start(tag) => return Err(malformed(format!("<{tag}> inside text"))),
            }
        }
    }

    /// Ends the innermost element, whatever is still in it.
    pub(super) fn skip(&mut self) -> Result<(), Error> {
        let outside = self.depth - 1;
        while self.depth > outside {
            self.next_event()?;
        }
        Ok(())
    }

    /// Ends all elements, in which nothing more may come, and the document. Reads to the very end of the input, without
    /// which a connection cannot be used again.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        while self.depth > 0 {
            self.expect_end()?;
        }
        loop {
            match self.read_event()? {
                None => return Ok(()),
                Some(Event::Ignorable) => {}
                Some(Event::Text(bytes)) if is_blank(bytes) => {}
                Some(_) => return Err(malformed("something follows the end of the document")),
            }
        }
    }

    fn next_event(&mut self) -> Result<Event<'_>, Error> {
        self.read_event()?.ok_or_else(cut_short)
    }

    /// Reads the next event; `None` is the end of the input.
    fn read_event(&mut self) -> Result<Option<Event<'_>>, Error> {
        self.xml.get_mut().consume(mem::take(&mut self.unconsumed));
        if !self.held_back.is_empty() {
            self.buffer = mem::take(&mut self.held_back);
            return Ok(Some(Event::Cdata(&self.buffer)));
        }
        if self.ends > 0 {
            self.ends -= 1;
            return Ok(Some(self.end()));
        }
        match self.peek()? {
            None => Ok(None),
            Some(b'<') => self.read_markup().map(Some),
            Some(_) => {
                let bytes = self.xml.get_mut().fill_buf().map_err(Error::Io)?;
                self.unconsumed = memchr(b'<', bytes).unwrap_or(bytes.len());
                Ok(Some(Event::Text(&bytes[..self.unconsumed])))
            }
        }
    }

    /// Reads what begins with `<`.
    fn read_markup(&mut self) -> Result<Event<'_>, Error> {
        let input = self.xml.get_mut();
        let reserved = input.limit().saturating_sub(MAX_MARKUP_BYTES);
        input.set_limit(input.limit() - reserved);
        self.buffer.clear();
        let event = self.xml.read_event_into(&mut self.buffer);
        let input = self.xml.get_mut();
        let is_over_limit = input.limit() == 0;
        input.set_limit(input.limit() + reserved);
        let (tag, is_empty) = match event {
            Ok(XmlEvent::Start(tag)) => (known_tag(tag.name().into_inner())?, false),
            Ok(XmlEvent::Empty(tag)) => (known_tag(tag.name().into_inner())?, true),
            Ok(XmlEvent::End(_)) => return Ok(self.end()),
            Ok(XmlEvent::CData(text)) => {
                self.buffer = text.into_inner().into_owned().into_bytes();
                return Ok(Event::Cdata(&self.buffer));
            }
            Ok(XmlEvent::Decl(_)) if self.depth > 0 => {
                return Err(malformed("an XML declaration inside the document"));
            }
            Ok(XmlEvent::Decl(_) | XmlEvent::Comment(_) | XmlEvent::PI(_)) => return Ok(Event::Ignorable),
            Ok(XmlEvent::DocType(_)) => return Err(malformed("a document type declaration")),
            Err(quick_xml::Error::Io(error)) => {
                let error = Arc::try_unwrap(error).unwrap_or_else(|shared| io::Error::new(shared.kind(), shared));
                return Err(Error::Io(error));
            }
            Err(quick_xml::Error::Syntax(_)) if is_over_limit => {
                return Err(too_large(if reserved > 0 { MAX_MARKUP_BYTES } else { self.limit }));
            }
            Err(quick_xml::Error::IllFormed(_)) => return Err(malformed("a closing tag that closes nothing")),
            Err(_) | Ok(_) => return Err(malformed("markup that is broken or cut short")),
        };
        if self.depth == MAX_DEPTH {
            return Err(malformed("elements are nested too deep"));
        }
        self.depth += 1;
        self.ends += usize::from(is_empty);
        Ok(Event::Start(tag))
    }

    fn end(&mut self) -> Event<'_> {
        self.depth -= 1;
        if mem::take(&mut self.is_implied) {
            self.ends += 1;
        }
        Event::End
    }

    /// Returns the next byte of the input, or `None` at its end.
    fn peek(&mut self) -> Result<Option<u8>, Error> {
        let input = self.xml.get_mut();
        let is_over_limit = input.limit() == 0;
        loop {
            match input.get_mut().fill_buf() {
                Ok([]) => return Ok(None),
                Ok(_) if is_over_limit => return Err(too_large(self.limit)),
                Ok([first, ..]) => return Ok(Some(*first)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
    }
}

/// Whether bytes are white space to XML, or none.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

fn too_large(limit: u64) -> Error {
    Error::TooLarge(format!("{limit} bytes of XML"))
}

fn cut_short() -> Error {
    malformed("the document is cut short")
}

fn stray_text() -> Error {
    malformed("text where a tag should be")
}
