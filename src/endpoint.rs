//! `tiny_http` on a private Unix socket: receives every call and answers it.
//!
//! Only the door speaks to it, so heads are ours and bodies are whole and bounded; the crate's weaknesses against
//! strangers are out of reach. A worker is always free to receive, and a call that panics costs that call alone.
//! Each answer is one write; a long one is left in the [`Handover`] and only its head goes back.

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
    thread,
};

use tiny_http::{Method, Request, Server};

use crate::handover::{Answer, Handover};

/// Answers one call: its body, whether the caller accepts `application/octet-stream`, and the caller's address.
pub(crate) type Answering = Arc<dyn Fn(&[u8], bool, &str) -> Answer + Send + Sync>;

/// The longest path of a private socket in bytes: the system's limit is 104 on macOS and 108 on Linux.
const MAX_PATH_BYTES: usize = 100;

/// How many workers wait for calls, from the start; after a rush those beyond them end.
const IDLE_WORKERS: usize = 4;

/// The longest message in bytes that goes back through the line. A longer one is left for the door like a file, so
/// that neither a line nor a second copy of it waits for a slow reader.
const MAX_LINE_MESSAGE: usize = 64 * 1024;

/// What a browser reads here.
const WHAT_THIS_IS: &str =
    "this is a tinyp2p server, which takes POST only; call it with: tinyp2p PASSWORD client URL PATTERN\n";

/// A `tiny_http` server on a fresh socket; it ends when this is dropped and the calls in progress are answered.
pub(crate) struct Endpoint {
    path: PathBuf,
    crew: Arc<Crew>,
}

impl Endpoint {
    /// Starts a server on a new socket in `directory`, which nobody else may enter. Fails when the socket's path
    /// would be longer than 100 bytes, and when descriptors or threads have run out.
    pub(crate) fn start(directory: &Path, answering: Answering, handover: Arc<Handover>) -> io::Result<Self> {
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
        let crew = Arc::new(Crew { server, answering, handover, free: AtomicUsize::new(0), ended: false.into() });
        let endpoint = Self { path, crew };
        for _ in 0..IDLE_WORKERS {
            Crew::hire(&endpoint.crew)?;
        }
        Ok(endpoint)
    }

    /// Where it is called.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.crew.ended.store(true, Ordering::SeqCst);
        self.crew.server.unblock();
    }
}

/// The workers of one server, and what they share.
struct Crew {
    server: Server,
    answering: Answering,
    handover: Arc<Handover>,
    /// How many workers receive, or are about to.
    free: AtomicUsize,
    ended: AtomicBool,
}

impl Crew {
    fn hire(crew: &Arc<Self>) -> io::Result<()> {
        crew.free.fetch_add(1, Ordering::SeqCst);
        let worker = Arc::clone(crew);
        let hired = thread::Builder::new().name("worker".into()).spawn(move || worker.work());
        if hired.is_err() {
            crew.free.fetch_sub(1, Ordering::SeqCst);
        }
        hired.map(drop)
    }

    fn work(self: Arc<Self>) {
        loop {
            match self.server.recv() {
                Ok(request) => {
                    if self.free.fetch_sub(1, Ordering::SeqCst) == 1
                        && let Err(error) = Self::hire(&self)
                    {
                        log::debug!("no further worker: {error}");
                    }
                    // A panic has been reported by its hook, and the caller gets a 500 from the request's drop.
                    let _ = catch_unwind(AssertUnwindSafe(|| self.serve(request)));
                    if self.free.load(Ordering::SeqCst) >= IDLE_WORKERS {
                        return;
                    }
                    self.free.fetch_add(1, Ordering::SeqCst);
                }
                Err(_) if self.ended.load(Ordering::SeqCst) => {
                    // One is unblocked at a time: pass it on.
                    self.server.unblock();
                    return;
                }
                // Its accept thread has died. Lines that are open go on; the door starts a new server for others.
                Err(error) => log::debug!("the private server accepts no more: {error}"),
            }
        }
    }

    /// Answers one request. The body, which the door has bounded, is read first, always: dropping a request allocates
    /// what is left of it.
    fn serve(&self, mut request: Request) {
        let mut body = Vec::with_capacity(request.body_length().unwrap_or_default());
        let read = request.as_reader().read_to_end(&mut body);
        let line = header(&request, "X-Door").and_then(|value| value.split_once(' '));
        let answer = match (read, line.and_then(|(id, address)| Some((id.parse::<u64>().ok()?, address)))) {
            (Ok(_), Some((line, address))) => self.answer(&request, &body, line, address),
            _ => head("400 Bad Request", "text/plain", 0, ""),
        };
        drop(body);
        let mut writer = request.into_writer();
        if let Err(error) = writer.write_all(&answer).and_then(|()| writer.flush()) {
            log::debug!("an answer was not wanted any more: {error}");
        }
    }

    fn answer(&self, request: &Request, body: &[u8], line: u64, address: &str) -> Vec<u8> {
        match (request.method(), request.url()) {
            // The door's greeting: no stranger's target begins otherwise than with a slash.
            (Method::Options, "*") => head("200 OK", "text/plain", 0, ""),
            (Method::Post, "/RPC2" | "/") => {
                let accepts_octets = header(request, "Accept").is_some();
                match catch_unwind(AssertUnwindSafe(|| (self.answering)(body, accepts_octets, address))) {
                    Ok(answer) => self.hand_over(answer, line),
                    Err(_) => text("500 Internal Server Error", "", "the server failed in answering this call\n"),
                }
            }
            (_, "/RPC2" | "/") => text("405 Method Not Allowed", "Allow: POST\r\n", WHAT_THIS_IS),
            _ => text("404 Not Found", "", "nothing is here; XML-RPC calls go to /RPC2\n"),
        }
    }

    /// What goes back through the line: the whole answer if it is short, else its head.
    fn hand_over(&self, answer: Answer, line: u64) -> Vec<u8> {
        match answer {
            Answer::Message(document) if document.len() <= MAX_LINE_MESSAGE => {
                let mut answer = head("200 OK", "text/xml", document.len() as u64, "");
                answer.extend_from_slice(&document);
                answer
            }
            Answer::Message(document) => {
                let length = document.len() as u64;
                self.handover.leave(line, Box::new(move |to| to.write_all(&document)));
                head("200 OK", "text/xml", length, "X-Door: left\r\n")
            }
            Answer::Stream { content_type, length, body } => {
                self.handover.leave(line, body);
                head("200 OK", content_type, length, "X-Door: left\r\n")
            }
        }
    }
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

fn text(status: &str, more: &str, text: &str) -> Vec<u8> {
    let mut answer = head(status, "text/plain", text.len() as u64, more);
    answer.extend_from_slice(text.as_bytes());
    answer
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::net::UnixStream,
        sync::Barrier,
        time::{Duration, Instant},
    };

    use super::*;

    /// Sends one request over a line and returns the answer, whose body is shorter than one read.
    fn exchange(line: &UnixStream, request: &str) -> String {
        let mut bytes = [0; 1024];
        (&*line).write_all(request.as_bytes()).unwrap();
        let read = io::Read::read(&mut &*line, &mut bytes).unwrap();
        String::from_utf8(bytes[..read].to_vec()).unwrap()
    }

    fn wait_until(what: &str, done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(30), "{what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn workers_are_hired_for_a_rush_and_end_after_it() {
        const RUSH: usize = 20;
        let private = tempfile::tempdir().unwrap();
        let barrier = Arc::new(Barrier::new(RUSH));
        let together = Arc::clone(&barrier);
        let answering: Answering = Arc::new(move |_, _, _| {
            // Every call waits for all others, so there must be a worker for each.
            together.wait();
            Answer::Message(b"together".to_vec())
        });
        let endpoint = Endpoint::start(private.path(), answering, Arc::default()).unwrap();
        let workers = Arc::downgrade(&endpoint.crew);
        let lines: Vec<_> = (0..RUSH)
            .map(|_| {
                let line = UnixStream::connect(endpoint.path()).unwrap();
                line.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                assert!(exchange(&line, "OPTIONS * HTTP/1.1\r\nX-Door: 1 door\r\n\r\n").starts_with("HTTP/1.1 200 "));
                line
            })
            .collect();
        thread::scope(|scope| {
            for line in &lines {
                scope.spawn(|| {
                    let answer = exchange(line, "POST / HTTP/1.1\r\nX-Door: 1 ::1\r\nContent-Length: 1\r\n\r\n<");
                    assert!(answer.ends_with("\r\n\r\ntogether"), "{answer}");
                });
            }
        });
        wait_until("idle workers stay", || workers.strong_count() <= IDLE_WORKERS + 1);
        drop(endpoint);
        wait_until("workers outlive their endpoint", || workers.strong_count() == 0);
        wait_until("the socket is left over", || private.path().read_dir().unwrap().next().is_none());
    }

    #[test]
    fn only_the_door_is_answered() {
        let private = tempfile::tempdir().unwrap();
        let answering: Answering = Arc::new(|_, _, _| unreachable!());
        let endpoint = Endpoint::start(private.path(), answering, Arc::default()).unwrap();
        let line = UnixStream::connect(endpoint.path()).unwrap();
        for headers in ["", "X-Door: x ::1\r\n", "X-Door: 1\r\n"] {
            let answer = exchange(&line, &format!("POST / HTTP/1.1\r\n{headers}Content-Length: 1\r\n\r\n<"));
            assert!(answer.starts_with("HTTP/1.1 400 "), "{headers}: {answer}");
        }
    }
}
