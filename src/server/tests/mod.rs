//! Drives an HTTP server over loopback, with a toy in the handler's place.

mod backends;
mod calls;
mod connections;

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, SockRef, Socket, Type};

use super::{
    backend::CallHandler,
    handler::Answer,
    listener::{Capacity, HttpServer, listen_on},
};
use crate::{
    fd_limit,
    support::{Connection, PATIENCE, Response, eventually, full},
};

/// A timeout that no test waits for.
const PATIENT: Duration = Duration::from_secs(300);

/// A timeout that is waited for.
const BRIEF: Duration = Duration::from_millis(400);

/// A body of `length` bytes, each the low byte of its index in pieces of 256 KiB.
fn stream(length: u64) -> Answer {
    let body = move |to: &mut dyn Write| {
        let piece: Vec<u8> = (0..256 * 1024).map(|index: u32| index.to_le_bytes()[0]).collect();
        let mut left = length;
        while left > 0 {
            let now = usize::try_from(left.min(piece.len() as u64)).unwrap();
            to.write_all(&piece[..now])?;
            left -= now as u64;
        }
        Ok(())
    };
    Answer { length: Some(length), body: Box::new(body), ..Answer::document(Vec::new()) }
}

/// Answers by what the call says: `stream N`, `message N`, `short N`, `long N`, `fail N`, `block N`, `panic`,
/// `who`, or an echo.
fn toy() -> CallHandler {
    Box::new(|call, accepts, address| {
        let text = String::from_utf8_lossy(call);
        let (word, number) = text.split_once(' ').unwrap_or((&text, ""));
        let number = number.parse::<u64>().unwrap_or_default();
        match word {
            "stream" => stream(number),
            "message" => Answer::document(vec![b'm'; usize::try_from(number).unwrap()]),
            "short" | "long" | "fail" | "panicking" => {
                let what = word.to_owned();
                Answer {
                    length: Some(number),
                    body: Box::new(move |to| {
                        let half = usize::try_from(number / 2).unwrap();
                        to.write_all(&vec![b'h'; half])?;
                        match &*what {
                            "short" => Ok(()),
                            "long" => to.write_all(&vec![b'h'; half + 1]),
                            "fail" => Err(io::ErrorKind::NotFound.into()),
                            _ => std::panic::resume_unwind(Box::new("as wanted")),
                        }
                    }),
                    ..Answer::document(Vec::new())
                }
            }
            "block" => {
                // Longer than closing may take.
                thread::sleep(Duration::from_secs(number));
                Answer::document(Vec::new())
            }
            "panic" => std::panic::resume_unwind(Box::new("as wanted")),
            "who" => Answer::document(format!("{address} {}", accepts.raw).into_bytes()),
            _ => Answer::document(call.to_vec()),
        }
    })
}

/// A server on loopback.
struct TestServer {
    server: HttpServer,
    address: SocketAddr,
}

impl TestServer {
    fn start(timeout: Duration) -> Self {
        Self::start_with(timeout, 256, 64)
    }

    fn start_with(timeout: Duration, connections: usize, backends: usize) -> Self {
        fd_limit::raise_limit();
        let listener = listen_on("127.0.0.1:0".parse().unwrap(), timeout).unwrap();
        let address = listener.local_addr().unwrap();
        let capacity = Capacity { connections, backends };
        let server = HttpServer::start(vec![listener], toy(), timeout, capacity, None).unwrap();
        Self { server, address }
    }

    fn connect(&self) -> Connection {
        Connection::open_at(self.address)
    }

    /// A whole honest call on a new connection.
    fn call(&self, body: &str) -> Response {
        let mut caller = self.connect();
        caller.post("/RPC2", body);
        caller.response()
    }

    fn wait_until_empty(&self) {
        assert!(self.server.connections.wait_until_empty(PATIENCE), "connections are left over");
    }

    /// How long an honest call takes, on a connection of its own.
    fn honest_call(&self) -> Duration {
        let start = Instant::now();
        assert_eq!(self.call("hello").body, b"hello");
        start.elapsed()
    }

    /// Makes honest calls until `done`; none may take ten times the promised second.
    fn keeps_answering_until(&self, mut done: impl FnMut() -> bool) {
        let start = Instant::now();
        loop {
            let took = self.honest_call();
            assert!(took < Duration::from_secs(10), "an honest call took {took:?}");
            if done() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "it went on for {PATIENCE:?}");
        }
    }
}

/// The large number for a full run, else the small one.
fn full_or(large: usize, small: usize) -> usize {
    if full() { large } else { small }
}

const POST: &str = "POST /RPC2 HTTP/1.1\r\n";

fn post(body: &str) -> String {
    format!("{POST}Content-Length: {}\r\n\r\n{body}", body.len())
}
