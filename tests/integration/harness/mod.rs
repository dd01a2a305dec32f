//! What the tests stand on: directories, processes, raw HTTP, XML-RPC values read and written independently of the
//! program's own code, and scripted peers. Nothing here knows what is being tested.

mod dir;
mod fake;
mod http;
mod memory;
mod process;
mod reply;
mod server;
mod terminal;
mod value;

use std::{
    thread,
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use socket2::{Domain, Socket, Type};

#[cfg(target_os = "linux")]
pub(crate) use self::memory::peak_memory;
pub(crate) use self::{
    dir::Dir,
    fake::FakePeer,
    http::{Connection, call, call_for, post, try_call},
    memory::Peak,
    process::{Run, Running, download, tinyp2p},
    reply::{Gate, Reply},
    server::{Server, python_client, serve, serve_python},
    terminal::{Look, Terminal},
    value::{Answer, Fault, Value, array, content_answer, int, method_call, names_answer, peers_answer, string},
};

/// The password of every network whose password is of no interest.
pub(crate) const PASSWORD: &str = "open-sesame";

/// How long a test waits for what should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the heavy variants are to run as well.
pub(crate) fn full() -> bool {
    std::env::var_os("TINYP2P_FULL").is_some_and(|value| value == "1")
}

/// The proof that a caller who knows `password` sends to the server that calls itself `url`.
pub(crate) fn proof(password: &str, url: &str) -> String {
    let mac = Hmac::<Md5>::new_from_slice(password.as_bytes()).unwrap().chain_update(url);
    hex::encode(mac.finalize().into_bytes())
}

/// Looks again and again until there is something to see; panics with `what` when the deadline has passed.
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

/// A port of this machine that nobody listens on, and nobody else gets, while this lives.
pub(crate) struct SilentPort {
    _socket: Socket,
    pub(crate) port: u16,
}

impl SilentPort {
    pub(crate) fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        Self { _socket: socket, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
