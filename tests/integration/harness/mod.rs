//! What the integration tests stand on besides `support`: processes with what they print, servers, scripted peers and
//! terminals. Nothing here knows what is being tested.

mod fake;
mod ports;
mod process;
mod reply;
mod server;
mod terminal;

#[cfg(target_os = "linux")]
pub(crate) use self::ports::FullPort;
pub(crate) use self::{
    fake::FakePeer,
    ports::SilentPort,
    process::{Run, Running, download, tinyp2p},
    reply::{Gate, Reply},
    server::{Server, python_client, serve, serve_python},
    terminal::{Look, Terminal},
};
pub(crate) use crate::support::{
    Answer, Connection, Dir, Fault, PASSWORD, PATIENCE, Peak, Value, array, call, call_for, content_answer, eventually,
    full, int, make_fifo, method_call, names_answer, peers_answer, post, proof, string, try_call,
};

/// The most memory in KiB that a process has taken so far.
#[cfg(target_os = "linux")]
pub(crate) fn peak_memory(pid: u32) -> u64 {
    crate::support::peak_kib(pid).expect("the process is there")
}
