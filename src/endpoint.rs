//! `tiny_http` on a private Unix socket: receives every call and answers it.
//!
//! Only the door speaks to it, so heads are ours and bodies are whole and bounded; the crate's weaknesses against
//! strangers are out of reach. It has no workers of its own: the door's threads receive the calls. A call that panics
//! costs that call alone. Of each answer the head is one write, and the body goes back to whoever received the call.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    os::unix::{ffi::OsStrExt, net::UnixListener},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tiny_http::{Method, Request, Server};

use crate::handover::{Answer, Body, Receive, Received};

/// Answers one call: its body, whether the caller accepts `application/octet-stream`, and the caller's address.
pub(crate) type Answering = Arc<dyn Fn(&[u8], bool, &str) -> Answer + Send + Sync>;

/// The longest path of a private socket in bytes: the system's limit is 104 on macOS and 108 on Linux.
const MAX_PATH_BYTES: usize = 100;

/// What a browser reads here.
const WHAT_THIS_IS: &str =
    "this is a tinyp2p server, which takes POST only; call it with: tinyp2p PASSWORD client URL PATTERN\n";

/// A `tiny_http` server on a fresh socket.
pub(crate) struct Endpoint {
    path: PathBuf,
    server: Server,
    answering: Answering,
    /// How many threads are to be let go.
    released: AtomicUsize,
    ended: AtomicBool,
}

impl Endpoint {
    /// Starts a server on a new socket in `directory`, which nobody else may enter. Fails when the socket's path
    /// would be longer than 100 bytes, and when descriptors or threads have run out.
    pub(crate) fn start(directory: &Path, answering: Answering) -> io::Result<Self> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let path = directory.join(format!("line-{}", STARTED.fetch_add(1, Ordering::Relaxed)));
        if path.as_os_str().as_bytes().len() > MAX_PATH_BYTES {
            let why = format!(
                "the path of the private socket is longer than {MAX_PATH_BYTES} bytes: {}; set TMPDIR to a directory with a shorter path",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = UnixListener::bind(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("no private socket {}: {error}", path.display())))?;
        // It panics where the system has no thread to give.
        let server = catch_unwind(AssertUnwindSafe(|| Server::from_listener(listener, None)))
            .map_err(|_| io::Error::other("no thread for the private server"))?
            .map_err(io::Error::other)?;
        Ok(Self { path, server, answering, released: AtomicUsize::new(0), ended: AtomicBool::new(false) })
    }

    /// Where it is called.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Receive for Endpoint {
    fn receive(&self) -> Option<Received> {
        loop {
            match self.server.recv() {
                Ok(request) => match origin(&request).and_then(|(call, _)| call.parse().ok()) {
                    Some(call) => {
                        let answering = Arc::clone(&self.answering);
                        return Some(Received { call, answer: Box::new(move || answer(request, &answering)) });
                    }
                    None => send(request, &head("400 Bad Request", "text/plain", 0, "")),
                },
                Err(_) if self.ended.load(Ordering::SeqCst) => {
                    // One is unblocked at a time: pass it on.
                    self.server.unblock();
                    return None;
                }
                Err(error) => {
                    let one_less = |released: usize| released.checked_sub(1);
                    if self.released.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                        return None;
                    }
                    // Its accept thread has died. Lines that are open go on; the door starts a new server for others.
                    log::debug!("the private server accepts no more: {error}");
                }
            }
        }
    }

    fn release(&self) {
        self.released.fetch_add(1, Ordering::SeqCst);
        self.server.unblock();
    }

    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.server.unblock();
    }
}

/// Answers a call. Its body, which the door has bounded, is read first, always: dropping a request allocates what is
/// left of it.
fn answer(mut request: Request, answering: &Answering) -> Body {
    let length = request.body_length().unwrap_or_default();
    let mut call = Vec::with_capacity(length);
    // The end of the line is no error to `tiny_http`.
    let whole = request.as_reader().read_to_end(&mut call).is_ok_and(|read| read == length);
    let (head, body) = match (request.method(), request.url()) {
        // The door's greeting: no stranger's target begins otherwise than with a slash.
        (Method::Options, "*") => text("200 OK", "", ""),
        _ if !whole => text("503 Service Unavailable", "", "the call got lost on its way; try again\n"),
        (Method::Post, "/RPC2" | "/") => {
            let accepts_octets = header(&request, "Accept").is_some();
            let (_, caller) = origin(&request).unwrap_or_default();
            // A panic has been reported by its hook.
            match catch_unwind(AssertUnwindSafe(|| answering(&call, accepts_octets, caller))) {
                Ok(Answer::Message(document)) => {
                    (head("200 OK", "text/xml", document.len() as u64, ""), whole_body(document))
                }
                Ok(Answer::Stream { content_type, length, body }) => (head("200 OK", content_type, length, ""), body),
                Err(_) => text("500 Internal Server Error", "", "the server failed in answering this call\n"),
            }
        }
        (_, "/RPC2" | "/") => text("405 Method Not Allowed", "Allow: POST\r\n", WHAT_THIS_IS),
        _ => text("404 Not Found", "", "nothing is here; XML-RPC calls go to /RPC2\n"),
    };
    send(request, &head);
    body
}

/// Sends a head back over the line.
fn send(request: Request, head: &[u8]) {
    let mut writer = request.into_writer();
    if let Err(error) = writer.write_all(head).and_then(|()| writer.flush()) {
        log::debug!("an answer was not wanted any more: {error}");
    }
}

/// The number of a call, and the address of the guest.
fn origin(request: &Request) -> Option<(&str, &str)> {
    header(request, "X-Door")?.split_once(' ')
}

fn header<'a>(request: &'a Request, name: &'static str) -> Option<&'a str> {
    request.headers().iter().find(|header| header.field.equiv(name)).map(|header| header.value.as_str())
}

/// The head of an answer; `more` is whole header lines.
fn head(status: &str, content_type: &str, length: u64, more: &str) -> Vec<u8> {
    let mut head = String::with_capacity(128);
    write!(head, "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{more}\r\n")
        .expect("writing to a string cannot fail");
    head.into_bytes()
}

/// The head and the body of an answer in plain text.
fn text(status: &str, more: &str, text: &'static str) -> (Vec<u8>, Body) {
    (head(status, "text/plain", text.len() as u64, more), whole_body(text.into()))
}

fn whole_body(bytes: Vec<u8>) -> Body {
    Box::new(move |to| to.write_all(&bytes))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixStream, thread, time::Duration};

    use super::*;

    fn start(private: &Path) -> Arc<Endpoint> {
        let answering: Answering = Arc::new(|call, octets, caller| match call {
            b"panic" => std::panic::resume_unwind(Box::new("as wanted")),
            _ => Answer::Message(format!("{} {octets} {caller}", String::from_utf8_lossy(call)).into_bytes()),
        });
        Arc::new(Endpoint::start(private, answering).unwrap())
    }

    fn connect(endpoint: &Endpoint) -> UnixStream {
        let line = UnixStream::connect(endpoint.path()).unwrap();
        line.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        line
    }

    fn send(line: &UnixStream, headers: &str, call: &str) {
        let request = format!("POST / HTTP/1.1\r\n{headers}Content-Length: {}\r\n\r\n{call}", call.len());
        (&*line).write_all(request.as_bytes()).unwrap();
    }

    /// The head of an answer.
    fn read(line: &UnixStream) -> String {
        let mut bytes = [0; 1024];
        let read = io::Read::read(&mut &*line, &mut bytes).unwrap();
        String::from_utf8(bytes[..read].to_vec()).unwrap()
    }

    fn bytes(body: Body) -> String {
        let mut bytes = Vec::new();
        body(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_head_goes_over_the_line_and_the_body_to_whoever_received_the_call() {
        let private = tempfile::tempdir().unwrap();
        let endpoint = start(private.path());
        let line = connect(&endpoint);
        for (headers, call, status, body) in [
            ("X-Door: 7 ::1\r\n", "one", "200 OK", "one false ::1"),
            ("X-Door: 7 10.0.0.1\r\nAccept: application/octet-stream\r\n", "two", "200 OK", "two true 10.0.0.1"),
            ("X-Door: 7 ::1\r\n", "panic", "500 Internal Server Error", "the server failed in answering this call\n"),
        ] {
            send(&line, headers, call);
            let received = endpoint.receive().unwrap();
            assert_eq!(received.call, 7, "{headers}");
            assert_eq!(bytes((received.answer)()), body);
            let head = read(&line);
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
            assert!(head.ends_with(&format!("Content-Length: {}\r\n\r\n", body.len())), "{head}");
        }
    }

    #[test]
    fn a_call_that_is_cut_short_is_not_answered_as_if_it_were_whole() {
        let private = tempfile::tempdir().unwrap();
        let endpoint = start(private.path());
        let line = connect(&endpoint);
        (&line).write_all(b"POST / HTTP/1.1\r\nX-Door: 7 ::1\r\nContent-Length: 5000\r\n\r\nonly this").unwrap();
        line.shutdown(std::net::Shutdown::Write).unwrap();
        let received = endpoint.receive().unwrap();
        assert_eq!(bytes((received.answer)()), "the call got lost on its way; try again\n");
        assert!(read(&line).starts_with("HTTP/1.1 503 "));
    }

    #[test]
    fn only_the_door_is_answered() {
        let private = tempfile::tempdir().unwrap();
        let endpoint = start(private.path());
        let line = connect(&endpoint);
        for headers in ["", "X-Door: x ::1\r\n", "X-Door: 1\r\n"] {
            send(&line, headers, "<");
        }
        send(&line, "X-Door: 1 ::1\r\n", "the first that is received");
        let received = endpoint.receive().unwrap();
        assert_eq!(bytes((received.answer)()), "the first that is received false ::1");
        let mut answers = String::new();
        while answers.matches("\r\n\r\n").count() < 4 {
            answers += &read(&line);
        }
        assert_eq!(answers.matches("HTTP/1.1 400 ").count(), 3, "{answers}");
    }

    #[test]
    fn threads_that_wait_for_calls_are_let_go_one_by_one_or_all_together() {
        let private = tempfile::tempdir().unwrap();
        let endpoint = start(private.path());
        let (left, leaving) = std::sync::mpsc::channel();
        for _ in 0..5 {
            let (left, endpoint) = (left.clone(), Arc::clone(&endpoint));
            thread::spawn(move || {
                assert!(endpoint.receive().is_none());
                drop(endpoint);
                left.send(()).unwrap();
            });
        }
        for _ in 0..2 {
            endpoint.release();
            leaving.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        leaving.recv_timeout(Duration::from_millis(20)).unwrap_err();
        endpoint.end();
        for _ in 0..3 {
            leaving.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        assert!(endpoint.receive().is_none());
        drop(Arc::into_inner(endpoint).expect("all others have gone"));
        assert!(private.path().read_dir().unwrap().next().is_none(), "the socket is left over");
    }
}
