//! The private lines over which calls reach the endpoint.
//!
//! A line carries one call at a time and is kept for the next one, so there are as many as there are calls in
//! progress. Lines are opened one after the other, and each is greeted before the next is opened: of connections
//! that reach `tiny_http` together it would forget some. If none can be opened, a new endpoint is started, and the
//! old one lives until its last line ends.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{lock, request::Head};

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
const MAX_ANSWER_HEAD: usize = 4096;

/// The longest answer in bytes that comes through a line; the endpoint leaves what is over 64 KiB.
const MAX_ANSWER: u64 = 1024 * 1024;

/// A call whose head and body up to this length in bytes go in one write.
const ONE_WRITE: usize = 16 * 1024;

/// Starts an endpoint: the path of its socket, and what keeps it alive until it is dropped.
pub(crate) type StartEndpoint = Box<dyn Fn() -> io::Result<(PathBuf, Box<dyn Send + Sync>)> + Send + Sync>;

/// A running endpoint.
struct Endpoint {
    path: PathBuf,
    /// Held for its end alone.
    _alive: Box<dyn Send + Sync>,
}

/// One private connection.
pub(super) struct Line {
    id: u64,
    stream: Arc<UnixStream>,
    /// Whether a call has gone over it.
    used: bool,
    endpoint: Arc<Endpoint>,
}

/// What the endpoint answered.
pub(super) struct Reply {
    /// The status line and the headers, without the blank line at their end.
    pub(super) head: Vec<u8>,
    /// The length of the body in bytes.
    pub(super) length: u64,
    /// The body, or nothing where it was left for the door.
    pub(super) body: Option<Vec<u8>>,
}

impl Line {
    /// Whether it has carried a call before: only such a line can have died of old age.
    pub(super) fn has_served(&self) -> bool {
        self.used
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Carries one call. After an error the line is good for nothing.
    pub(super) fn call(&mut self, head: &Head, body: &[u8], address: &str) -> io::Result<Reply> {
        self.used = true;
        let mut call = format!(
            "{} {} HTTP/1.1\r\nContent-Length: {}\r\nX-Door: {} {address}\r\n",
            head.method,
            head.target,
            body.len(),
            self.id
        );
        if head.accepts_octets {
            call.push_str("Accept: application/octet-stream\r\n");
        }
        call.push_str("\r\n");
        let mut call = call.into_bytes();
        let (with_head, rest) = body.split_at(body.len().min(ONE_WRITE));
        call.extend_from_slice(with_head);
        (&*self.stream).write_all(&call)?;
        (&*self.stream).write_all(rest)?;
        self.read_reply()
    }

    /// Waits until a worker has answered: only then does `tiny_http` surely attend to this line.
    fn greet(&self) -> io::Result<()> {
        self.stream.set_read_timeout(Some(GREETING))?;
        self.stream.set_write_timeout(Some(GREETING))?;
        let greeting = format!("OPTIONS * HTTP/1.1\r\nX-Door: {} door\r\n\r\n", self.id);
        (&*self.stream).write_all(greeting.as_bytes())?;
        self.read_reply()?;
        self.stream.set_read_timeout(None)?;
        self.stream.set_write_timeout(None)
    }

    fn read_reply(&self) -> io::Result<Reply> {
        let mut bytes = Vec::with_capacity(1024);
        loop {
            let had = bytes.len();
            bytes.resize(had + 1024, 0);
            match (&*self.stream).read(&mut bytes[had..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => bytes.truncate(had + read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => bytes.truncate(had),
                Err(error) => return Err(error),
            }
            if let Some(mut reply) = Reply::parse(&bytes)? {
                if let Some(body) = &mut reply.body {
                    let missing = reply.length.saturating_sub(body.len() as u64);
                    if (&*self.stream).take(missing).read_to_end(body)? as u64 != missing {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                return Ok(reply);
            }
            if bytes.len() > MAX_ANSWER_HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
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
    /// Understands a reply once its head is there.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
        let httparse::Status::Complete(end) = response.parse(bytes).map_err(invalid)? else {
            return Ok(None);
        };
        let status = response.code.unwrap_or_default();
        let mut reply = Self {
            head: format!("HTTP/1.1 {status} {}\r\n", response.reason.unwrap_or_default()).into_bytes(),
            length: 0,
            body: Some(Vec::new()),
        };
        for header in response.headers.iter() {
            match header.name {
                "X-Door" => reply.body = None,
                "Content-Type" | "Allow" | "Content-Length" => {
                    if header.name == "Content-Length" {
                        let length = str::from_utf8(header.value).ok().and_then(|digits| digits.parse().ok());
                        reply.length = length.ok_or(io::ErrorKind::InvalidData)?;
                    }
                    reply.head.extend_from_slice(header.name.as_bytes());
                    reply.head.extend_from_slice(b": ");
                    reply.head.extend_from_slice(header.value);
                    reply.head.extend_from_slice(b"\r\n");
                }
                _ => {}
            }
        }
        if let Some(body) = &mut reply.body {
            if reply.length > MAX_ANSWER {
                return Err(io::ErrorKind::InvalidData.into());
            }
            body.extend_from_slice(&bytes[end..]);
        }
        Ok(Some(reply))
    }
}

/// The lines of one door.
pub(super) struct Lines {
    start: StartEndpoint,
    most: usize,
    exchange: Mutex<Exchange>,
    changed: Condvar,
    last_id: AtomicU64,
}

struct Exchange {
    endpoint: Arc<Endpoint>,
    /// When an endpoint was last started in the place of another.
    restarted: Option<Instant>,
    /// Lines without a call, with the moment they became so; the last is the youngest.
    spare: Vec<(Line, Instant)>,
    /// The sockets of all lines, so that they can be shut down while they are in use.
    open: Vec<(u64, Arc<UnixStream>)>,
    /// How many lines are being opened or closed: they have descriptors too.
    moving: usize,
    opening: bool,
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
            closed: false,
        });
        Ok(Self { start, most, exchange, changed: Condvar::new(), last_id: AtomicU64::new(0) })
    }

    /// A line for one call: a spare one, a new one, or the next that another call gives back.
    pub(super) fn take(&self) -> io::Result<Line> {
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
            exchange = self.changed.wait(exchange).unwrap_or_else(PoisonError::into_inner);
        }
        exchange.opening = true;
        exchange.moving += 1;
        let endpoint = Arc::clone(&exchange.endpoint);
        drop(exchange);
        let line = self.open(endpoint);
        let mut exchange = lock(&self.exchange);
        exchange.opening = false;
        exchange.moving -= 1;
        if let Ok(line) = &line {
            exchange.open.push((line.id, Arc::clone(&line.stream)));
        }
        let closed = exchange.closed;
        drop(exchange);
        self.changed.notify_all();
        if closed { Err(io::ErrorKind::NotConnected.into()) } else { line }
    }

    /// Opens a line, to a new endpoint if the present one takes none.
    fn open(&self, endpoint: Arc<Endpoint>) -> io::Result<Line> {
        let error = match self.connect(endpoint) {
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
        let line = self.connect(Arc::clone(&endpoint))?;
        let old = std::mem::replace(&mut lock(&self.exchange).endpoint, endpoint);
        drop(old);
        Ok(line)
    }

    fn connect(&self, endpoint: Arc<Endpoint>) -> io::Result<Line> {
        let stream = Arc::new(UnixStream::connect(&endpoint.path)?);
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let line = Line { id, stream, used: false, endpoint };
        match line.greet() {
            Ok(()) => Ok(line),
            Err(error) => {
                line.close();
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
        drop(exchange);
        self.changed.notify_one();
    }

    /// Closes a line; it counts as open until both sides have let go.
    pub(super) fn retire(&self, line: Line) {
        let id = line.id;
        let mut exchange = lock(&self.exchange);
        exchange.open.retain(|(open, _)| *open != id);
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

    /// Shuts all lines down, so that nobody waits for an answer any more.
    pub(super) fn close(&self) {
        let mut exchange = lock(&self.exchange);
        exchange.closed = true;
        for (_, stream) in &exchange.open {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let spare = std::mem::take(&mut exchange.spare);
        drop(exchange);
        self.changed.notify_all();
        for (line, _) in spare {
            self.retire(line);
        }
    }
}

fn start_endpoint(start: &StartEndpoint) -> io::Result<Arc<Endpoint>> {
    let (path, alive) = start()?;
    Ok(Arc::new(Endpoint { path, _alive: alive }))
}
