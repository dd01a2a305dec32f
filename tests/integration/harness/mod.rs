//! What the integration tests stand on besides `support`: processes with what they print, servers, scripted peers and
//! terminals. Nothing here knows what is being tested.

mod fake;
mod ports;
mod private;
mod process;
mod reply;
mod server;
mod terminal;

use std::{
    fs,
    path::{Path, PathBuf},
};

#[cfg(target_os = "linux")]
pub(crate) use self::ports::FullPort;
pub(crate) use self::{
    fake::FakePeer,
    ports::SilentPort,
    private::{Caller as PrivateCaller, accept_tls, serve_behind},
    process::{Run, Running, download, tinyp2p},
    reply::{Gate, Reply},
    server::{Serve, Server, python_client, serve, serve_python},
    terminal::{Look, Terminal},
};
use crate::support::names_in;
pub(crate) use crate::support::{
    Answer, Connection, Dir, Fault, PASSWORD, PATIENCE, Peak, Value, array, call, call_for, content_answer, eventually,
    full, int, make_fifo, method_call, names_answer, peers_answer, post, proof, string, try_call,
};

/// Whether a name is that of a file that a client has not completed.
pub(crate) fn is_partial(name: &str) -> bool {
    name.starts_with(".tinyp2p-")
}

/// Waits until a partial file in a directory holds something; returns its path.
#[track_caller]
pub(crate) fn wait_for_partial(dir: &Path) -> PathBuf {
    eventually("a partial file that holds something", PATIENCE, || {
        let mut partials = names_in(dir).into_iter().filter(|name| is_partial(name)).map(|name| dir.join(name));
        partials.find(|path| fs::metadata(path).is_ok_and(|found| found.len() > 0))
    })
}

/// The most memory in KiB that a process has taken so far.
#[cfg(target_os = "linux")]
pub(crate) fn peak_memory(pid: u32) -> u64 {
    crate::support::peak_kib(pid).expect("the process is there")
}
