//! The part of XML-RPC that peers speak: calls and responses, read from strangers and written.
//!
//! Nothing here knows what a call means. Whatever bytes arrive, reading ends with a result or an [`enum@Error`] in bounded
//! memory: no panic, no recursion, and the same result however the bytes are cut into chunks. What is written has the
//! layout of the original, byte for byte.
//!
//! `reader` turns a document into tags (those of `tag`) and text, `read` is the grammar over them, `base64` decodes that
//! encoding. `write` makes small documents at once, `content` the one that holds a file, chunk by chunk.

use std::io;

use thiserror::Error;

mod base64;
mod content;
mod read;
mod reader;
mod tag;
mod text;
mod write;

pub(crate) use content::Content;
pub(crate) use read::{read_call, read_content, read_strings};
pub(crate) use write::{write_call, write_false, write_fault, write_strings};

#[cfg(test)]
mod tests;

/// The bytes of content that are decoded at a time: large enough that a system call costs nothing beside the copying,
/// small enough to stay in a cache.
const CHUNK_BYTES: usize = 256 * 1024;

/// A value in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// `<int>` or `<i4>`; white space, a plus sign and leading zeros are legal.
    Int(i32),
    /// `<string>`, or text without a type. Bytes, for the original's file names promise no UTF-8.
    String(Vec<u8>),
    /// `<array>`.
    Array(Vec<Value>),
    /// A value of a type that no call takes, or an array within an array. Its content is skipped. Written as nil.
    Other,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

/// A call: `<methodCall>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The method's name without surrounding white space; what is not UTF-8 is replaced.
    pub(crate) method: String,
    /// The parameters; a call may leave them out.
    pub(crate) params: Vec<Value>,
}

/// A fault: how a server says that a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// `faultCode`; the original's is always 1.
    pub(crate) code: i32,
    /// `faultString`: foreign text when read, so escape it before it is shown.
    pub(crate) text: String,
}

/// Why reading a document gave nothing.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The connection failed, and this is what it failed with.
    #[error(transparent)]
    Io(io::Error),
    /// The content could not be written to where it should go.
    #[error(transparent)]
    Sink(io::Error),
    /// The document is not what it should be. The reason repeats no foreign text that could steer a terminal.
    #[error("{0}")]
    Malformed(String),
    /// There is more of something than its limit.
    #[error("more than {0}")]
    TooLarge(String),
    /// The response is the boolean `false` where another value was asked for.
    #[error("the answer is false")]
    False,
    /// The response is a fault.
    #[error("fault {}: {}", .0.code, .0.text)]
    Fault(Fault),
}

/// The error for a document that is not what it should be, with a reason in lower case without a full stop.
fn malformed(reason: impl Into<String>) -> Error {
    Error::Malformed(reason.into())
}
