//! The private lines over which calls reach the endpoint.
//!
//! A line carries one call at a time and is kept for the next one, so there are as many as there are calls in
//! progress. Lines are opened one after the other, and each is greeted before the next is opened: of connections
//! that reach `tiny_http` together it would forget some. If none can be opened, a new endpoint is started, and the
//! old one lives until its last line ends.

use std::{
    io::{self, Read, Write},
    mem,
    net::{IpAddr, Shutdown},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    io::{Errno, retry_on_intr},
    net::{RecvFlags, recv},
};

use super::{House, conversation, lock, request::Head};
use crate::handover::Receive;

/// How long a line waits for its next call before it is closed.
const SPARE_FOR: Duration = Duration::from_secs(5);

/// How long the answer to a greeting may take. It takes 100 us; the rest is for a machine under load, where a second
/// endpoint that was not needed does no harm.
const GREETING: Duration = Duration::from_secs(1);

/// How long the far side of a line may take to let go.
const LETTING_GO: Duration = Duration::from_millis(200);

/// The shortest time between two starts of an endpoint, so that no shortage becomes a storm.
const BETWEEN_STARTS: Duration = Duration::from_secs(1);

/// The longest head of an answer in bytes; the endpoint's are below 200.
const MAX_ANSWER_HEAD: usize = 1024;

/// A call whose head and body up to this length in bytes go in one write.
const ONE_WRITE: usize = 16 * 1024;

/// Starts an endpoint: the path of its socket, and where its calls are received.
pub(crate) type StartEndpoint = Box<dyn Fn() -> io::Result<(PathBuf, Arc<dyn Receive>)> + Send + Sync>;

/// A running endpoint. It ends when nothing holds this any more: threads that wait for its calls do not.
struct Endpoint {
    path: PathBuf,
    calls: Arc<dyn Receive>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.calls.end();
    }
}

/// One private connection.
pub(super) struct Line {
    stream: Arc<UnixStream>,
    /// Whether a call has gone over it.
    used: bool,
    /// How many bytes of the last answer still lie in it.
    unread: usize,
    endpoint: Arc<Endpoint>,
}

/// Puts a call on a line. It needs no line: once the call is whole, another thread has that.
pub(super) struct Sender(Arc<UnixStream>);

impl Sender {
    /// Sends a call by its number; after an error the line is good for nothing.
    pub(super) fn send(&self, number: u64, head: &Head, body: &[u8], address: IpAddr) -> io::Result<()> {
        let Self(stream) = self;
        let Head { method, target, .. } = head;
        let length = body.len();
        let accept = if head.accepts_octets { "Accept: application/octet-stream\r\n" } else { "" };
        let call = format!(
            "{method} {target} HTTP/1.1\r\nContent-Length: {length}\r\nX-Door: {number} {address}\r\n{accept}\r\n"
        );
        let mut call = call.into_bytes();
        let (with_head, rest) = body.split_at(body.len().min(ONE_WRITE));
        call.extend_from_slice(with_head);
        (&**stream).write_all(&call)?;
        (&**stream).write_all(rest)
    }
}

/// The head of an answer.
pub(super) struct Reply {
    /// The status line and the headers, without the blank line at their end.
    pub(super) head: Vec<u8>,
    /// The length of the body in bytes.
    pub(super) length: u64,
}

impl Line {
    /// Whether it has carried a call before: only such a line can have died of old age.
    pub(super) fn has_served(&self) -> bool {
        self.used
    }

    /// Where its calls are received.
    pub(super) fn calls(&self) -> &Arc<dyn Receive> {
        &self.endpoint.calls
    }

    /// Makes it ready for the next call: what the last answer left goes now.
    pub(super) fn begin(&mut self) -> Sender {
        self.used = true;
        // An error here is one of the sender's, too.
        let _ = (&*self.stream).read_exact(&mut [0; MAX_ANSWER_HEAD][..mem::take(&mut self.unread)]);
        Sender(Arc::clone(&self.stream))
    }

    /// The head of an answer, which is there as soon as the call has been answered.
    ///
    /// Its bytes stay in the line until the next call. When they go, Linux wakes whoever reads at the other end, for
    /// there is room to write again; and `tiny_http` need not be woken before there is a call to read.
    pub(super) fn reply(&mut self) -> io::Result<Reply> {
        let mut bytes = [0; MAX_ANSWER_HEAD];
        (_, self.unread) = recv(&self.stream, &mut bytes[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
        Reply::parse(&bytes[..self.unread])
    }

    /// Whether something has come over it, its end too.
    pub(super) fn is_heard(&self) -> bool {
        let heard = recv(&self.stream, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        !matches!(heard, Err(Errno::AGAIN))
    }

    /// Waits until a greeting has been answered: only then does `tiny_http` surely attend to this line.
    fn greet(&self, number: u64) -> io::Result<()> {
        self.stream.set_read_timeout(Some(GREETING))?;
        self.stream.set_write_timeout(Some(GREETING))?;
        let greeting = format!("OPTIONS * HTTP/1.1\r\nX-Door: {number} door\r\n\r\n");
        (&*self.stream).write_all(greeting.as_bytes())?;
        let (_, read) = retry_on_intr(|| recv(&self.stream, &mut [0; MAX_ANSWER_HEAD][..], RecvFlags::empty()))?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.stream.set_read_timeout(None)?;
        self.stream.set_write_timeout(None)
    }

    /// Closes it and waits for the far side to do the same, because its descriptors count too.
    fn close(self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let _ = self.stream.set_read_timeout(Some(LETTING_GO));
        let _ = io::copy(&mut &*self.stream, &mut io::sink());
        drop(self.endpoint);
    }
}

impl Reply {
    /// Understands the head of an answer, which is whole because the endpoint writes it at once.
    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(end)) = response.parse(bytes) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let length = response.headers.iter().find(|header| header.name == "Content-Length");
        let length = length.and_then(|length| str::from_utf8(length.value).ok()?.parse().ok());
        let length = length.ok_or(io::ErrorKind::InvalidData)?;
        // All of its headers are the endpoint's own, and go on to the guest.
        Ok(Self { head: bytes[..end - 2].to_vec(), length })
    }
}

/// The lines of one door.
pub(super) struct Lines {
    start: StartEndpoint,
    most: usize,
    exchange: Mutex<Exchange>,
    changed: Condvar,
}

struct Exchange {
    endpoint: Arc<Endpoint>,
    /// When an endpoint was last started in the place of another.
    restarted: Option<Instant>,
    /// Lines without a call, with the moment they became so; the last is the youngest.
    spare: Vec<(Line, Instant)>,
    /// The sockets of all lines, so that they can be shut down while they are in use.
    open: Vec<Arc<UnixStream>>,
    /// How many lines are being opened or closed: they have descriptors too.
    moving: usize,
    opening: bool,
    /// How many calls wait for a line.
    waiting: usize,
    closed: bool,
}

impl Lines {
    /// Starts the first endpoint. There will be `most` lines at most.
    pub(super) fn new(start: StartEndpoint, most: usize) -> io::Result<Self> {
        let exchange = Mutex::new(Exchange {
            endpoint: start_endpoint(&start)?,
            restarted: None,
            spare: Vec::new(),
            open: Vec::new(),
            moving: 0,
            opening: false,
            waiting: 0,
            closed: false,
        });
        Ok(Self { start, most, exchange, changed: Condvar::new() })
    }

    /// A line for one call: a spare one, a new one, or the next that another call gives back.
    pub(super) fn take(&self, house: &Arc<House>) -> io::Result<Line> {
        let mut exchange = lock(&self.exchange);
        loop {
            if exchange.closed {
                return Err(io::ErrorKind::NotConnected.into());
            }
            if let Some((line, _)) = exchange.spare.pop() {
                return Ok(line);
            }
            if !exchange.opening && exchange.open.len() + exchange.moving < self.most {
                break;
            }
            exchange.waiting += 1;
            exchange = self.changed.wait(exchange).unwrap_or_else(PoisonError::into_inner);
            exchange.waiting -= 1;
        }
        exchange.opening = true;
        exchange.moving += 1;
        let endpoint = Arc::clone(&exchange.endpoint);
        drop(exchange);
        let line = self.open(house, endpoint);
        let mut exchange = lock(&self.exchange);
        exchange.opening = false;
        exchange.moving -= 1;
        let closed = exchange.closed;
        drop(exchange);
        self.changed.notify_all();
        if closed { Err(io::ErrorKind::NotConnected.into()) } else { line }
    }

    /// Opens a line, to a new endpoint if the present one takes none.
    fn open(&self, house: &Arc<House>, endpoint: Arc<Endpoint>) -> io::Result<Line> {
        // Want of threads is not the endpoint's fault.
        conversation::hire(house, &endpoint.calls)?;
        let error = match self.connect(house, endpoint) {
            Ok(line) => return Ok(line),
            Err(error) => error,
        };
        let mut exchange = lock(&self.exchange);
        if exchange.closed || exchange.restarted.is_some_and(|then| then.elapsed() < BETWEEN_STARTS) {
            return Err(error);
        }
        exchange.restarted = Some(Instant::now());
        drop(exchange);
        log::debug!("a new private server is started, as the old one takes no lines: {error}");
        let endpoint = start_endpoint(&self.start)?;
        conversation::hire(house, &endpoint.calls)?;
        let line = self.connect(house, Arc::clone(&endpoint))?;
        let old = mem::replace(&mut lock(&self.exchange).endpoint, endpoint);
        drop(old);
        Ok(line)
    }

    /// Opens a line to an endpoint. A thread has been hired to receive its greeting.
    fn connect(&self, house: &House, endpoint: Arc<Endpoint>) -> io::Result<Line> {
        let (greeting, calls) = (house.calls.await_greeting(), Arc::clone(&endpoint.calls));
        let line = self.connect_and_greet(endpoint, greeting);
        if line.is_err() && house.calls.forget_greeting(greeting) {
            calls.release();
        }
        line
    }

    fn connect_and_greet(&self, endpoint: Arc<Endpoint>, greeting: u64) -> io::Result<Line> {
        let stream = Arc::new(UnixStream::connect(&endpoint.path)?);
        let line = Line { stream, used: false, unread: 0, endpoint };
        let mut exchange = lock(&self.exchange);
        if exchange.closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // Before it is greeted, so that closing ends that too.
        exchange.open.push(Arc::clone(&line.stream));
        drop(exchange);
        match line.greet(greeting) {
            Ok(()) => Ok(line),
            Err(error) => {
                self.retire(line);
                Err(error)
            }
        }
    }

    /// Takes a line back after its call.
    pub(super) fn give_back(&self, line: Line) {
        let mut exchange = lock(&self.exchange);
        if exchange.closed {
            drop(exchange);
            return self.retire(line);
        }
        exchange.spare.push((line, Instant::now()));
        let is_wanted = exchange.waiting > 0;
        drop(exchange);
        // To tell nobody takes a system call, too.
        if is_wanted {
            self.changed.notify_one();
        }
    }

    /// Closes a line; it counts as open until both sides have let go.
    pub(super) fn retire(&self, line: Line) {
        let mut exchange = lock(&self.exchange);
        exchange.open.retain(|open| !Arc::ptr_eq(open, &line.stream));
        exchange.moving += 1;
        drop(exchange);
        line.close();
        lock(&self.exchange).moving -= 1;
        self.changed.notify_all();
    }

    /// Closes lines that have waited too long for a call. Says whether lines remain.
    pub(super) fn close_spare(&self, now: Instant) -> bool {
        loop {
            let mut exchange = lock(&self.exchange);
            let old = |since: Instant| now.saturating_duration_since(since) > SPARE_FOR;
            if !exchange.spare.first().is_some_and(|&(_, since)| old(since)) {
                return !exchange.open.is_empty();
            }
            let (line, _) = exchange.spare.remove(0);
            drop(exchange);
            self.retire(line);
        }
    }

    /// How many lines are open or about to be, or not yet let go by both sides.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let exchange = lock(&self.exchange);
        exchange.open.len() + exchange.moving
    }

    /// Shuts the one of the open lines at which a number points, as if `tiny_http` or the system had.
    #[cfg(test)]
    pub(super) fn shut_one(&self, index: usize, how: Shutdown) {
        let exchange = lock(&self.exchange);
        if let Some(stream) = exchange.open.get(index % exchange.open.len().max(1)) {
            let _ = stream.shutdown(how);
        }
    }

    /// Shuts all lines down and ends the endpoint, so that nobody waits for a call any more.
    pub(super) fn close(&self) {
        let mut exchange = lock(&self.exchange);
        exchange.closed = true;
        for stream in &exchange.open {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let (spare, endpoint) = (mem::take(&mut exchange.spare), Arc::clone(&exchange.endpoint));
        drop(exchange);
        self.changed.notify_all();
        for (line, _) in spare {
            self.retire(line);
        }
        // Threads that wait for its calls hold the house, and with it this one. Older ones end with their last line.
        endpoint.calls.end();
    }
}

fn start_endpoint(start: &StartEndpoint) -> io::Result<Arc<Endpoint>> {
    let (path, calls) = start()?;
    Ok(Arc::new(Endpoint { path, calls }))
}
