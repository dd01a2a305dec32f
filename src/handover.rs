//! What a call's answer is, and the table in which the bodies of long answers wait.
//!
//! Of a long answer only the head goes through the private line; its body is left here under the line's id, and the
//! door takes it and runs it straight into the caller's socket. A line carries one call at a time, so an id names at
//! most one body, and whoever takes it owns it.

use std::{
    collections::HashMap,
    fmt,
    io::{self, Write},
    sync::{Mutex, MutexGuard, PoisonError},
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

/// The bodies that wait to be delivered, by the id of the line that carried their head.
#[derive(Default)]
pub(crate) struct Handover {
    bodies: Mutex<HashMap<u64, Body>>,
}

impl Handover {
    /// Lays a body down for the door; call it before the head is written.
    pub(crate) fn leave(&self, line: u64, body: Body) {
        let forgotten = self.bodies().insert(line, body);
        // Dropping a body may close files, and nothing slow happens under the lock.
        drop(forgotten);
    }

    /// The body that was left for this line, if there is one.
    pub(crate) fn take(&self, line: u64) -> Option<Body> {
        self.bodies().remove(&line)
    }

    /// Drops what may have been left for a line that failed.
    pub(crate) fn forget(&self, line: u64) {
        drop(self.take(line));
    }

    fn bodies(&self) -> MutexGuard<'_, HashMap<u64, Body>> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_taken_once_and_only_by_its_line() {
        let handover = Handover::default();
        handover.leave(7, Box::new(|to| to.write_all(b"seven")));
        assert!(handover.take(8).is_none());
        let mut written = Vec::new();
        handover.take(7).unwrap()(&mut written).unwrap();
        assert_eq!(written, b"seven");
        assert!(handover.take(7).is_none());
    }

    #[test]
    fn a_forgotten_body_is_dropped_unwritten() {
        let handover = Handover::default();
        let held = std::sync::Arc::new(());
        let inside = held.clone();
        handover.leave(
            1,
            Box::new(move |_| {
                drop(inside);
                Ok(())
            }),
        );
        handover.forget(1);
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
    }
}
