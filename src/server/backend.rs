//! `tiny_http` on a private Unix socket: answers one request at a time.
//!
//! The owner wants calls answered by `tiny_http`, which the first hostile caller could end. So callers never meet it: it
//! gets heads that are ours and bodies that are whole and bounded. A [`Backend`] is one of its servers together with the only connection to it, used by one thread at
//! a time, so that what the thread receives there can be no other request. Of an answer only the head goes over the
//! connection; the thread itself writes the body.

use std::{
    io::{self, Read, Write},
    mem,
    net::{IpAddr, Shutdown},
    os::unix::net::{UnixListener, UnixStream},
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use socket2::SockRef;
use tiny_http::{Method, Request, Server};

use super::{
    handler::{Accepts, Answer},
    private_socket::{PrivateDir, open_private_socket},
    request::Head,
    response::Response,
};

/// How often it is looked whether a backend that has not received its request has died; it takes 50 us to receive.
const RECEIVE_INTERVAL: Duration = Duration::from_millis(50);

/// How long each thread of a backend may take to end: it takes them 50 us, and longer only on a machine under load.
const THREAD_END: Duration = Duration::from_secs(1);

/// How often it is looked meanwhile whether the worker waits for a request to be dropped.
const WORKER_END_INTERVAL: Duration = Duration::from_millis(1);

/// How many bytes of a body are passed through at a time: two of them fit into a socket on all systems.
const PIECE_BYTES: usize = 4 << 10;

/// The longest head of an answer in bytes; ours are below 200.
const MAX_ANSWER_HEAD_BYTES: usize = 1024;

/// The blank line at the end of a head.
const END_OF_HEAD: &[u8] = b"\r\n";

/// What a browser reads here.
const WHAT_THIS_IS: &str =
    "this is a tinyp2p server, which takes POST only; call it with: tinyp2p PASSWORD client URL PATTERN";

/// Answers one call: its body, what the caller accepts, and the caller's address.
pub(super) type CallHandler = Box<dyn Fn(&[u8], Accepts, &str) -> Answer + Send + Sync>;

/// A `tiny_http` server and the only connection to it.
pub(super) struct Backend {
    /// Before the server, whose end needs a free descriptor.
    stream: UnixStream,
    server: Server,
    /// The server's own, with which its accept thread is ended.
    listener: UnixListener,
    /// Where a connection to the path must end the accept thread. `None` on Linux.
    _directory: Option<PrivateDir>,
    /// How many bytes of the last answer lie in the connection.
    unread: usize,
}

impl Backend {
    /// Opens a socket and starts a server on it. Fails when that cannot be had: no room for a socket, too few descriptors
    /// or threads.
    pub(super) fn open() -> io::Result<Self> {
        // Connected before the server accepts: so the connection is the first that it serves.
        let (directory, listener, stream) = open_private_socket()?;
        let servers_own = listener.try_clone()?;
        // It panics where the system has no thread to give.
        let server = catch_unwind(AssertUnwindSafe(|| Server::from_listener(servers_own, None)))
            .map_err(|_| io::Error::other("no thread for a private server"))?
            .map_err(io::Error::other)?;
        let directory = (!cfg!(target_os = "linux")).then_some(directory);
        Ok(Self { stream, server, listener, _directory: directory, unread: 0 })
    }

    /// Has a request answered by the server. Fails if that dies of it.
    pub(super) fn call(
        &mut self,
        head: &Head,
        body: &mut [u8],
        address: IpAddr,
        handle: &CallHandler,
    ) -> io::Result<Response> {
        let request = self.begin(head, body)?;
        self.answer(request, body, head.accepts, address, handle)
    }

    /// Sends the head and the first piece of the body of a request, and receives it.
    fn begin(&mut self, head: &Head, body: &[u8]) -> io::Result<Request> {
        // When bytes are read, Linux wakes whoever may write at the other end. So the last answer lay there until now:
        // else a worker would be woken for nothing.
        let unread = mem::take(&mut self.unread);
        (&self.stream).read_exact(&mut [0; MAX_ANSWER_HEAD_BYTES][..unread])?;
        let Head { method, target, .. } = head;
        let mut first = format!("{method} {target} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        first.extend_from_slice(&body[..body.len().min(PIECE_BYTES)]);
        (&self.stream).write_all(&first)?;
        loop {
            match self.server.recv_timeout(RECEIVE_INTERVAL) {
                Ok(Some(request)) => return Ok(request),
                // An error says that its accept thread has ended. The connection may live on.
                Ok(None) | Err(_) if self.is_alive() => {}
                Ok(None) | Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Whether nothing has come over the connection: only its end comes before a request is answered.
    fn is_alive(&self) -> bool {
        let peeked = recv(&self.stream, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(peeked, Err(Errno::AGAIN))
    }

    /// Answers a request that has been received. The rest of `body` goes through the server, which reads it back into place.
    fn answer(
        &mut self,
        mut request: Request,
        body: &mut [u8],
        accepts: Accepts,
        address: IpAddr,
        handle: &CallHandler,
    ) -> io::Result<Response> {
        if let Err(error) = self.pass_body(&mut request, body) {
            // To drop the request is to read the rest of its body, which has an end now.
            let _ = self.stream.shutdown(Shutdown::Both);
            return Err(error);
        }
        let mut response = route(&request, body, accepts, address, handle);
        let mut writer = request.into_writer();
        writer.write_all(&[&response.head, END_OF_HEAD].concat())?;
        writer.flush()?;
        let mut bytes = [0; MAX_ANSWER_HEAD_BYTES];
        (_, self.unread) = recv(&self.stream, &mut bytes[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
        let head = bytes[..self.unread].strip_suffix(END_OF_HEAD).ok_or(io::ErrorKind::InvalidData)?;
        response.head = head.to_vec();
        Ok(response)
    }

    /// Passes the rest of a body through, piece by piece: all at once would not fit into the sockets.
    fn pass_body(&self, request: &mut Request, body: &mut [u8]) -> io::Result<()> {
        let mut sent = body.len().min(PIECE_BYTES);
        let mut received = 0;
        while received < body.len() {
            let sent_next = (sent + PIECE_BYTES).min(body.len());
            (&self.stream).write_all(&body[sent..sent_next])?;
            sent = sent_next;
            let received_next = (received + PIECE_BYTES).min(body.len());
            request.as_reader().read_exact(&mut body[received..received_next])?;
            received = received_next;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Backend {
    pub(super) fn clone_stream(&self) -> UnixStream {
        self.stream.try_clone().unwrap()
    }
}

impl Drop for Backend {
    /// Ends the threads, so that their descriptors are free. The worker comes first: if it still works when its pool
    /// ends it may wait for ever.
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let _ = self.stream.set_read_timeout(Some(WORKER_END_INTERVAL));
        let began = Instant::now();
        while began.elapsed() < THREAD_END {
            match (&self.stream).read(&mut [0; MAX_ANSWER_HEAD_BYTES]) {
                Ok(0) => break,
                Ok(_) => {}
                // A request that broke off while it was sent keeps its worker until it is dropped.
                Err(_) => drop(self.server.try_recv()),
            }
        }
        // On other systems the server ends its accept thread by a connection to its path.
        #[cfg(target_os = "linux")]
        {
            let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
            // The thread sends its error and ends.
            drop(self.server.recv_timeout(THREAD_END));
        }
    }
}

/// Answers a whole request.
fn route(request: &Request, call: &[u8], accepts: Accepts, address: IpAddr, handle: &CallHandler) -> Response {
    match (request.method(), request.url()) {
        (Method::Post, "/RPC2" | "/") => {
            // A panic has been reported by its hook.
            match catch_unwind(AssertUnwindSafe(|| handle(call, accepts, &address.to_string()))) {
                Ok(answer) => Response::new("", answer),
                Err(_) => Response::text("500 Internal Server Error", "", "the server failed in answering this call"),
            }
        }
        (_, "/RPC2" | "/") => Response::text("405 Method Not Allowed", "Allow: POST\r\n", WHAT_THIS_IS),
        _ => Response::text("404 Not Found", "", "nothing is here; XML-RPC calls go to /RPC2"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toy() -> CallHandler {
        Box::new(|call, accepts, caller| match call {
            b"panic" => std::panic::resume_unwind(Box::new("as wanted")),
            _ => Answer::document(format!("{} {} {caller}", String::from_utf8_lossy(call), accepts.raw).into_bytes()),
        })
    }

    fn head(target: &str, length: usize) -> Head {
        Head {
            method: "POST".to_owned(),
            target: target.to_owned(),
            length,
            closes: false,
            expects_continue: false,
            is_http_1_0: false,
            accepts: Accepts { raw: true, pack: false },
        }
    }

    /// Returns an answer as a caller gets it.
    fn call(backend: &mut Backend, call: &str) -> io::Result<String> {
        let mut body = call.as_bytes().to_vec();
        let response = backend.call(&head("/", body.len()), &mut body, IpAddr::from([10, 0, 0, 1]), &toy())?;
        let mut bytes = Vec::new();
        response.write(&mut bytes, false, false, false)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn one_backend_answers_one_request_after_another() {
        let mut backend = Backend::open().unwrap();
        for (body, status, says) in [
            ("one".to_owned(), "200 OK", "\r\n\r\none true 10.0.0.1"),
            ("x".repeat(1 << 20), "200 OK", "x true 10.0.0.1"),
            ("panic".to_owned(), "500 Internal Server Error", "the server failed in answering this call\n"),
            (String::new(), "200 OK", "\r\n\r\n true 10.0.0.1"),
        ] {
            let answer = call(&mut backend, &body).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")) && answer.ends_with(says), "{answer}");
        }
    }

    #[test]
    fn the_end_of_its_accept_thread_ends_no_backend() {
        let mut backend = Backend::open().unwrap();
        call(&mut backend, "before").unwrap();
        SockRef::from(&backend.listener).shutdown(Shutdown::Both).unwrap();
        for _ in 0..3 {
            assert!(call(&mut backend, "after").unwrap().ends_with("after true 10.0.0.1"));
        }
    }

    #[test]
    fn a_request_that_is_never_received_is_an_error() {
        let mut backend = Backend::open().unwrap();
        assert!(backend.begin(&head("no target", 0), b"").is_err());
        let mut backend = Backend::open().unwrap();
        backend.stream.shutdown(Shutdown::Both).unwrap();
        assert!(call(&mut backend, "hello").is_err());
    }

    #[test]
    fn a_request_that_breaks_off_is_an_error_and_keeps_nobody() {
        let mut body = vec![b'x'; 100_000];
        for how in [Shutdown::Write, Shutdown::Both] {
            let mut backend = Backend::open().unwrap();
            let request = backend.begin(&head("/", body.len()), &body).unwrap();
            backend.stream.shutdown(how).unwrap();
            let answer = backend.answer(request, &mut body, Accepts::default(), IpAddr::from([10, 0, 0, 1]), &toy());
            assert!(answer.is_err(), "{how:?}");
        }
        // Its head has come, and nobody receives it.
        let backend = Backend::open().unwrap();
        (&backend.stream).write_all(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\nxxx").unwrap();
        let began = Instant::now();
        drop(backend);
        assert!(began.elapsed() < THREAD_END * 10, "closing took {:?}", began.elapsed());
    }
}
