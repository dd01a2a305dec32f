//! One answer of a scripted peer, good or bad, and how it is delivered.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use super::{PATIENCE, content_answer, names_answer, peers_answer};
use crate::support::{escaped, false_answer, fault_answer};

/// One answer, and how it is delivered.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(super) bytes: Vec<u8>,
    /// Where among the bytes a gate stands.
    pub(super) gate: Option<(usize, Arc<Gate>)>,
    pub(super) delay: Duration,
    pub(super) then: Then,
    pub(super) pace: Option<(usize, Duration)>,
}

/// What happens when the bytes are sent.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Then {
    Continue,
    Close,
    Stall,
    Repeat,
}

impl Reply {
    /// A good HTTP answer that holds this document; the connection stays open.
    pub(crate) fn document(document: &[u8]) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n", document.len());
        Self { then: Then::Continue, ..Self::raw([head.as_bytes(), document].concat()) }
    }

    /// An answer as the original sends it, whose end is the end of the connection.
    pub(crate) fn without_length(document: &[u8]) -> Self {
        Self::raw([b"HTTP/1.0 200 OK\r\nContent-Type: text/xml\r\n\r\n", document].concat())
    }

    /// These very bytes, and then the end of the connection.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), gate: None, delay: Duration::ZERO, then: Then::Close, pace: None }
    }

    /// The list of these peers.
    pub(crate) fn peers<T: AsRef<str>>(peers: impl IntoIterator<Item = T>) -> Self {
        Self::document(&peers_answer(peers))
    }

    /// The listing of these names, which may be any bytes.
    pub(crate) fn names<T: AsRef<[u8]>>(names: impl IntoIterator<Item = T>) -> Self {
        Self::document(&names_answer(names))
    }

    /// This content, sent as the original would.
    pub(crate) fn content(bytes: impl AsRef<[u8]>) -> Self {
        let bytes = escaped(bytes.as_ref());
        Self::document(&content_answer([b"<string>", &*bytes, b"</string>"].concat()))
    }

    /// This content as bytes, as a server sends it that knows parts.
    pub(crate) fn bytes(content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\nETag: \"1\"\r\n\r\n",
            content.len()
        );
        Self { then: Then::Continue, ..Self::raw([head.as_bytes(), content].concat()) }
    }

    /// A content whose value is spelled like this.
    pub(crate) fn spelled(value: impl AsRef<[u8]>) -> Self {
        Self::document(&content_answer(value))
    }

    /// The boolean `false`.
    pub(crate) fn refusal() -> Self {
        Self::document(&false_answer())
    }

    /// A fault whose text is spelled like this.
    pub(crate) fn fault(text: impl AsRef<[u8]>) -> Self {
        Self::document(&fault_answer(text))
    }

    /// Nothing, for as long as anybody waits.
    pub(crate) fn silence() -> Self {
        Self { then: Then::Stall, ..Self::raw([]) }
    }

    /// Only what comes before the `count` last bytes, and then the end of the connection.
    pub(crate) fn cut(mut self, count: usize) -> Self {
        self.bytes.truncate(self.bytes.len() - count);
        Self { then: Then::Close, ..self }
    }

    /// Only what comes before the `count` last bytes, and then silence.
    pub(crate) fn stalled(mut self, count: usize) -> Self {
        self.bytes.truncate(self.bytes.len() - count);
        Self { then: Then::Stall, ..self }
    }

    /// All bytes, and the last `count` of them again and again.
    pub(crate) fn endless(mut self, count: usize) -> Self {
        let chunk = self.bytes.split_off(self.bytes.len() - count).repeat(64 * 1024 / count + 1);
        self.bytes.extend_from_slice(&chunk);
        Self { then: Then::Repeat, pace: Some((chunk.len(), Duration::ZERO)), ..self }
    }

    /// The bytes so many at a time, with a pause after each piece.
    pub(crate) fn paced(self, bytes: usize, pause: Duration) -> Self {
        Self { pace: Some((bytes, pause)), ..self }
    }

    /// How many bytes it has, with its head.
    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Only after a while.
    pub(crate) fn delayed(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Only when the gate has been opened.
    pub(crate) fn behind(self, gate: &Arc<Gate>) -> Self {
        Self { gate: Some((0, Arc::clone(gate))), ..self }
    }

    /// Half of it at once, and the rest only when the gate has been opened.
    pub(crate) fn half_behind(self, gate: &Arc<Gate>) -> Self {
        Self { gate: Some((self.bytes.len() / 2, Arc::clone(gate))), ..self }
    }

    /// All of it at once, and what follows, the end of the connection perhaps, only when the gate has been opened.
    pub(crate) fn ended_behind(self, gate: &Arc<Gate>) -> Self {
        Self { gate: Some((self.bytes.len(), Arc::clone(gate))), ..self }
    }
}

/// Something that answers wait for.
#[derive(Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub(super) fn pass(&self) {
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap());
    }
}
