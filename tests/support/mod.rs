//! What the integration tests, the benchmark and the unit tests share: raw HTTP, XML-RPC values read and written
//! independently of the program's own code, readers that give their bytes in pieces, files,
//! memory, and a long wire.
//!
//! Each of the three includes it as the module `support` of its root. Nothing here knows the program.
#![allow(dead_code, unused_imports)] // Each of the three uses a part of it.
#![allow(clippy::unwrap_used)] // In a test, a panic where it stands is the report.

mod files;
mod http;
mod memory;
mod reader;
mod relay;
mod value;

use std::{
    thread,
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

pub(crate) use self::{
    files::{Dir, make_fifo, names_in},
    http::{Connection, Response, call, call_for, post, try_call},
    memory::{Peak, peak_kib, status_field},
    reader::ChunkedReader,
    relay::{Relay, Wire},
    value::{
        Answer, Fault, Value, array, content_answer, escaped, false_answer, fault_answer, int, method_call,
        names_answer, parse_call, peers_answer, string,
    },
};

/// The password of every network whose password is of no interest.
pub(crate) const PASSWORD: &str = "open-sesame";

/// How long a test waits for what should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the heavy variants run as well: only when `TINYP2P_FULL` is 1.
pub(crate) fn full() -> bool {
    std::env::var_os("TINYP2P_FULL").is_some_and(|value| value == "1")
}

/// The proof that a caller who knows `password` sends to the server that calls itself `url`.
pub(crate) fn proof(password: &str, url: &str) -> String {
    let mac = Hmac::<Md5>::new_from_slice(password.as_bytes()).unwrap().chain_update(url);
    hex::encode(mac.finalize().into_bytes())
}

/// Looks again and again until there is something to see; panics with `what` when the deadline has passed.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begin.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
