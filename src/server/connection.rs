//! One public connection on one thread, from its first byte to its last.
//!
//! Its thread reads a request, has the backend answer it, writes the answer, and reads the next. Time limits
//! are checked here: sockets wake their thread four times in each timeout, and it asks [`Activity`] whether it is overdue.
//! Other threads only look at the activity and may [abort](Connection::abort) the connection, which ends whatever its
//! thread waits for here.

use std::{
    io::{self, Read, Write},
    mem,
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::net::{RecvFlags, recv};
use socket2::SockRef;

use super::{
    activity::{Activity, LINGER, Phase},
    backend_pool::BackendPool,
    limits::MemoryBudget,
    privacy::Privacy,
    request::{BUSY, Refusal, Request, RequestError, read_body, read_head},
    response::Response,
};
use crate::{
    lock::{Semaphore, lock},
    rate_limit::{RateLimit, Transfer},
    secure::Session,
};

/// How many bytes are discarded at most while a connection lingers.
const MAX_LINGER_BYTES: u64 = 32 << 20;

/// How many large requests are answered at once: more would not be quicker on a small machine, and what a long body
/// becomes when it is parsed takes several times its own memory.
pub(super) const LARGE_REQUESTS: usize = 4;

/// The first byte of TLS.
const TLS_HANDSHAKE: [u8; 1] = [0x16];

/// How much is discarded at a time, in bytes.
const DISCARD_BYTES: usize = 16 << 10;

/// A transfer waits for its place for the timeout divided by this at most: then a caller with the same timeout still has
/// most of it for the head.
const PLACE_WAIT_PARTS: u32 = 4;

/// What all connections share.
pub(super) struct ServerState {
    pub(super) backends: Arc<BackendPool>,
    pub(super) memory: MemoryBudget,
    pub(super) large_requests: Semaphore,
    /// What makes connections private, if they are to be.
    pub(super) privacy: Option<Privacy>,
}

/// A public connection.
pub(super) struct Connection {
    stream: TcpStream,
    address: IpAddr,
    /// How long it may be idle, a request may take to arrive, and an answer may make no progress.
    timeout: Duration,
    activity: Mutex<Activity>,
    /// What makes it private, once it is. Only its own thread takes it.
    session: OnceLock<Mutex<Session>>,
    aborted: AtomicBool,
}

/// Returns how long a read or a write may block until its thread checks the timeout.
pub(super) fn wake_after(timeout: Duration) -> Duration {
    (timeout / 4).max(Duration::from_millis(1))
}

/// Serves a connection until it ends. While the table of connections `is_full`, each answer ends its connection.
pub(super) fn serve(connection: &Connection, state: &ServerState, is_full: impl Fn() -> bool) {
    let mut unread = Vec::new();
    // Of a private connection the first request must be whole in the time that began with the first byte.
    let mut is_first = state.privacy.is_some();
    if let Some(privacy) = &state.privacy
        && !connection.become_private(privacy)
    {
        return;
    }
    loop {
        if !mem::take(&mut is_first) {
            connection.enter(if unread.is_empty() { Phase::Idle } else { Phase::Reading });
        }
        let request = match connection.read_request(&mut unread, &state.memory) {
            Ok(request) => request,
            Err(RequestError::Ended) => return,
            Err(RequestError::Refused(refusal)) => return connection.refuse(refusal),
        };
        connection.enter(Phase::Working);
        let head_only = request.head.method == "HEAD";
        let is_http_1_0 = request.head.is_http_1_0;
        let asked_to_close = request.head.closes;
        let response = match answer(request, connection.address, state) {
            Ok(response) => response,
            Err(error) => {
                log::debug!("a request of {} was not answered: {error}", connection.address);
                return connection.refuse(BUSY);
            }
        };
        let closes = asked_to_close || is_full();
        if !connection.write_response(response, closes, head_only, is_http_1_0) {
            return;
        }
    }
}

/// Has a request answered. Its memory and its permit are free before the answer is written.
fn answer(request: Request, address: IpAddr, state: &ServerState) -> io::Result<Response> {
    let _permit = request.is_large().then(|| state.large_requests.acquire());
    let Request { head, mut body, memory: _memory } = request;
    state.backends.call(&head, &mut body, address)
}

impl Connection {
    /// Takes charge of an accepted socket, whose write timeout is set already.
    pub(super) fn new(stream: TcpStream, address: SocketAddr, timeout: Duration) -> Self {
        let connection = Self {
            stream,
            address: address.ip().to_canonical(),
            timeout,
            activity: Mutex::new(Activity::new(Instant::now())),
            session: OnceLock::new(),
            aborted: AtomicBool::new(false),
        };
        connection.wake_reads_after(wake_after(timeout));
        connection
    }

    fn wake_reads_after(&self, time: Duration) {
        // It fails for a timeout of zero alone.
        let _ = self.stream.set_read_timeout(Some(time));
    }

    /// Returns what counts as one address when slots are shared out: an IPv6 host has a whole /64 for itself.
    pub(super) fn network(&self) -> IpAddr {
        match self.address {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
            v4 @ IpAddr::V4(_) => v4,
        }
    }

    /// Ends the connection from another thread. A reset frees at once what the kernel holds for it.
    pub(super) fn abort(&self, reset: bool) {
        self.aborted.store(true, Ordering::Relaxed);
        if reset {
            self.reset_on_close();
        }
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Relaxed)
    }

    /// Returns what it is doing and for how long nothing has moved, or nothing while the handler works.
    pub(super) fn silent_for(&self, now: Instant) -> Option<(Phase, Duration)> {
        let activity = lock(&self.activity);
        Some((activity.phase(), activity.silent_for(now)?))
    }

    /// Whether bytes have arrived that were not read yet.
    pub(super) fn has_unread_bytes(&self) -> bool {
        recv(&self.stream, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok_and(|(_, read)| read > 0)
    }

    fn enter(&self, phase: Phase) {
        lock(&self.activity).enter(phase, Instant::now());
    }

    fn check(&self) -> io::Result<()> {
        let is_overdue = lock(&self.activity).is_overdue(Instant::now(), self.timeout);
        if is_overdue { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    fn is_idle(&self) -> bool {
        lock(&self.activity).phase() == Phase::Idle
    }

    /// Makes it private. Returns whether it is; a caller in clear was told so.
    fn become_private(&self, privacy: &Privacy) -> bool {
        let mut first = [0];
        loop {
            match self.stream.peek(&mut first) {
                Ok(1) => break,
                Err(error) if is_wakeup(&error) && self.check().is_ok() => {}
                _ => return false,
            }
        }
        self.enter(Phase::Reading);
        if first != TLS_HANDSHAKE {
            let text = privacy.refusal();
            self.write_response(Response::text("426 Upgrade Required", "", &text), true, false, false);
            return false;
        }
        let session = privacy.accept(&mut Wire(self), self.address);
        session.is_some_and(|session| self.session.set(Mutex::new(session)).is_ok())
    }

    /// Reads one request. `unread` is what arrived before, and then what arrived after it.
    fn read_request(&self, unread: &mut Vec<u8>, budget: &MemoryBudget) -> Result<Request, RequestError> {
        let mut stream = self;
        let head = read_head(&mut stream, unread)?;
        if head.expects_continue && head.length > unread.len() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let (body, memory) = read_body(&mut stream, unread, head.length, budget)?;
        Ok(Request { head, body, memory })
    }

    /// Writes an answer. Returns whether another request may come.
    fn write_response(&self, response: Response, closes: bool, head_only: bool, is_http_1_0: bool) -> bool {
        let limit = response.limit.clone();
        // Before the head, so that nobody stalls in the middle.
        self.enter(Phase::Working);
        let _place = limit.as_ref().and_then(|limit| limit.wait_for_place(self.timeout / PLACE_WAIT_PARTS));
        self.enter(Phase::Writing);
        let mut stream = LimitedStream { connection: self, transfer: limit.as_ref().map(RateLimit::begin) };
        match response.write(&mut stream, closes, head_only, is_http_1_0) {
            Ok(()) if closes => self.linger(),
            Ok(()) => return true,
            Err(error) => {
                log::debug!("an answer to {} was cut: {error}", self.address);
                self.reset_on_close();
            }
        }
        false
    }

    /// Answers what is not served further, and ends the connection.
    fn refuse(&self, refusal: Refusal) {
        log::debug!("refused a request of {}: {}: {}", self.address, refusal.status, refusal.text);
        self.write_response(Response::text(refusal.status, "", refusal.text), true, false, false);
    }

    /// Makes the end of the connection a reset, so that no caller takes what it has for the whole.
    fn reset_on_close(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Ends the connection properly after its last answer: what the caller still sends is read for a while, else the
    /// kernel would answer it with a reset that takes the last answer away.
    fn linger(&self) {
        self.enter(Phase::Lingering);
        if let Some(session) = self.session.get() {
            let _ = lock(session).close(&mut Wire(self));
        }
        let _ = self.stream.shutdown(Shutdown::Write);
        self.wake_reads_after(LINGER / 4);
        let mut discarded = 0;
        let mut scratch = [0; DISCARD_BYTES];
        let mut stream = Wire(self);
        while discarded < MAX_LINGER_BYTES {
            match stream.read(&mut scratch) {
                Ok(0) | Err(_) => return,
                Ok(read) => discarded += read as u64,
            }
        }
    }
}

impl Read for &Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.session.get() {
            Some(session) => lock(session).read(&mut Wire(self), buffer),
            None => Wire(self).read(buffer),
        }
    }
}

impl Write for &Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.session.get() {
            Some(session) => lock(session).write(&mut Wire(self), bytes),
            None => Wire(self).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket of a connection: what goes over the wire.
struct Wire<'a>(&'a Connection);

/// Reads within the timeout. A connection that was idle for too long reads as ended; a request that took too long fails
/// with [`io::ErrorKind::TimedOut`].
impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let connection = self.0;
        loop {
            match (&connection.stream).read(buffer) {
                Ok(0) => return Ok(0),
                // Linux hands out what comes after a shutdown, too.
                Ok(_) if connection.is_aborted() => return Ok(0),
                Ok(read) => {
                    lock(&connection.activity).on_received(Instant::now());
                    connection.check()?;
                    return Ok(read);
                }
                Err(error) if is_wakeup(&error) => match connection.check() {
                    Err(_) if connection.is_idle() => return Ok(0),
                    checked => checked?,
                },
                Err(error) => return Err(error),
            }
        }
    }
}

/// Writes within the timeout, else fails with [`io::ErrorKind::TimedOut`].
impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let connection = self.0;
        loop {
            match (&connection.stream).write(bytes) {
                Ok(written) => {
                    lock(&connection.activity).on_sent(written, Instant::now());
                    connection.check()?;
                    return Ok(written);
                }
                Err(error) if is_wakeup(&error) => connection.check()?,
                Err(error) => return Err(error),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes within a limit, if there is one, a piece at a time. While it waits, it is not the caller who is silent.
struct LimitedStream<'a> {
    connection: &'a Connection,
    transfer: Option<Transfer>,
}

impl Write for LimitedStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stream = self.connection;
        let Some(limit) = self.transfer.as_ref().map(Transfer::limit) else { return stream.write(bytes) };
        let piece = &bytes[..bytes.len().min(limit.piece())];
        self.connection.enter(Phase::Working);
        limit.wait_for(piece.len());
        self.connection.enter(Phase::Writing);
        // Who has gone must not cost the others its turn.
        stream.write_all(piece).inspect_err(|_| limit.give_back(piece.len()))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a read or write only returned so that its thread can check the timeout.
fn is_wakeup(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
