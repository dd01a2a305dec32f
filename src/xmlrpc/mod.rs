//! The part of XML-RPC that peers speak: values, calls, responses and faults, read from strangers and written.
//!
//! Nothing here knows what a call means. Whatever bytes arrive, reading gives a value or an error in bounded memory:
//! no panic, no unbounded recursion, and the same result however the bytes are cut into reads. What is written has
//! the layout of the original, byte for byte.
//!
//! `document` knows the markup, `element` its tags, `text` the characters between, `base64` that encoding; `read` is
//! the grammar, `write` its counterpart, and `content` announces and writes the one long value of a fetch.

use std::{error, fmt, io};

mod base64;
mod content;
mod document;
mod element;
mod read;
mod text;
mod write;

pub(crate) use content::Content;
pub(crate) use read::{read_call, read_content, read_strings};
pub(crate) use write::{write_call, write_fault, write_response, write_strings};

#[cfg(test)]
mod tests;

/// The bytes of content that are received and converted at a time: large enough that a system call costs
/// nothing beside the copying, small enough to stay in a cache.
const PIECE_BYTES: usize = 256 * 1024;

/// One value of a call or of a small answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// `<int>` or `<i4>`; white space, a plus sign and leading zeros are legal.
    Int(i32),
    /// `<boolean>`: `0` or `1`.
    Boolean(bool),
    /// `<string>`, or text without a type. Bytes, for the original's file names promise no UTF-8.
    String(Vec<u8>),
    /// `<base64>`, decoded.
    Base64(Vec<u8>),
    /// `<array>`.
    Array(Vec<Value>),
    /// `<struct>`: members as they came, so a name can be there twice.
    Struct(Vec<(String, Value)>),
    /// A legal type that means nothing here (`double`, `dateTime.iso8601`, `nil`, `i8`), by its tag. Written as nil.
    Other(&'static str),
}

/// A call: `<methodCall>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The method's name, without surrounding white space.
    pub(crate) method: String,
    /// The parameters; a call may leave them out.
    pub(crate) params: Vec<Value>,
}

/// A fault: the protocol's way to say that a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// `faultCode`; the original's is always 1.
    pub(crate) code: i32,
    /// `faultString`: foreign text when read, so escape it before it is shown.
    pub(crate) text: String,
}

/// What a peer answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply<T> {
    /// The answer that was asked for.
    Value(T),
    /// One boolean instead: the protocol's refusal.
    Boolean(bool),
    /// A fault.
    Fault(Fault),
}

/// Why a document could not be read.
#[derive(Debug)]
pub(crate) enum ParseError {
    /// The connection failed, as it says itself.
    Io(io::Error),
    /// The document is not what it should be. The text holds nothing that could steer a terminal.
    Malformed(String),
    /// More bytes than the limit, which is given.
    TooLarge(u64),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Malformed(reason) => f.write_str(reason),
            Self::TooLarge(limit) => write!(f, "more than {limit} bytes of XML"),
        }
    }
}

impl error::Error for ParseError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            // Display says what the error itself says, so what caused that comes next.
            Self::Io(error) => error.source(),
            _ => None,
        }
    }
}

/// Why content could not be moved: the peer's side or ours.
#[derive(Debug)]
pub(crate) enum ContentError {
    /// The document or the connection.
    Parse(ParseError),
    /// The place that the content should go to.
    Sink(io::Error),
}

impl From<ParseError> for ContentError {
    fn from(error: ParseError) -> Self {
        Self::Parse(error)
    }
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(error) => error.fmt(f),
            Self::Sink(error) => error.fmt(f),
        }
    }
}

impl error::Error for ContentError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Parse(error) => error.source(),
            Self::Sink(error) => error.source(),
        }
    }
}

/// A document that is not what it should be, for a reason in lower case without a full stop.
fn malformed(reason: impl Into<String>) -> ParseError {
    ParseError::Malformed(reason.into())
}
