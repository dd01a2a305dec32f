//! What passes between the door and the endpoint.
//!
//! The door puts a call on a private line, its threads receive it from the endpoint, and what they answer goes two
//! ways: its head through the line, as HTTP wants it, and its body from hand to hand, for the door to deliver. Calls
//! have numbers, by which the door knows them again.

use std::{
    fmt,
    io::{self, Write},
};

/// Writes a body: exactly the announced number of bytes, or it fails. Pieces of 256 KiB keep it fast.
pub(crate) type Body = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// The answer to one call.
pub(crate) enum Answer {
    /// A whole `text/xml` document.
    Message(Vec<u8>),
    /// A document too long to hold, of which the length is known.
    Stream {
        /// Goes into the answer's `Content-Type`.
        content_type: &'static str,
        /// The number of bytes that the body will write.
        length: u64,
        /// What writes them, in a thread of the door's.
        body: Body,
    },
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(document) => write!(f, "Message({} bytes)", document.len()),
            Self::Stream { content_type, length, .. } => write!(f, "Stream({content_type}, {length} bytes)"),
        }
    }
}

/// The endpoint as the door's threads see it.
pub(crate) trait Receive: Send + Sync {
    /// Waits for the next call; nothing for a thread that is to wait no more.
    fn receive(&self) -> Option<Received>;

    /// Lets one thread go that waits for a call which will not come.
    fn release(&self);

    /// Lets all threads go, now and in future.
    fn end(&self);
}

/// A call that has come over a line.
pub(crate) struct Received {
    /// The number that the door gave it.
    pub(crate) call: u64,
    /// Answers it: writes the head to the line and returns the body. It may take as long as a call takes.
    pub(crate) answer: Box<dyn FnOnce() -> Body + Send>,
}
