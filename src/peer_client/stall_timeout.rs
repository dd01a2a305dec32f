//! The limits on a call to a peer: how long it may be silent, and where its time goes.
//!
//! ureq's own limits either start anew with each byte, so that a drip lasts for ever, or count the whole transfer, so
//! that a large file never ends in time. Here a call ends when fewer than [`MIN_PROGRESS_BYTES`] bytes of its answer's body
//! came to their reader within the limit, however much else the peer sends: heads, preludes and trailers are no
//! answer. Only the time that is spent waiting for the peer counts, not that in which this side is busy.
//!
//! ureq runs a call, and the reading of its answer, on the thread that asks for it; so what is known of a call is kept
//! by thread, for there is no other way from a connection to the call that uses it.

use std::{
    cell::Cell,
    collections::HashMap,
    io::{self, ErrorKind, Read},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ureq::{
    Body, BodyReader,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport},
    },
};

/// A peer that sends fewer bytes within the silence limit is silent.
const MIN_PROGRESS_BYTES: u64 = 1024;

/// A call is held back until it is whole, or so long in bytes; most are below a kilobyte.
const MAX_UNSENT: usize = 64 << 10;

/// The silence limit is waited for in this many steps of equal length, none of which counts for more than that. So a
/// process that is stopped for a while (ctrl-z) loses one step, and a system that rounds long waits up makes each step a
/// little longer.
const STEPS: u32 = 16;

/// How long after an answer a connection is taken for open without a look.
const SURELY_OPEN: Duration = Duration::from_millis(100);

/// How long an address that was found for a host is believed.
const RESOLVED_FOR: Duration = Duration::from_secs(60);

/// What is known of the call that a thread makes.
#[derive(Clone, Copy)]
pub(super) struct Call {
    /// Whether there is a connection.
    pub(super) is_connected: bool,
    /// Whether the connection had served another call before.
    pub(super) is_reused: bool,
    /// Whether anything has come over it.
    pub(super) has_response_started: bool,
    /// Bytes of the body that came since the last sign of life.
    bytes: u64,
    /// The time that was spent waiting since then, without the present wait.
    waited: Duration,
    /// When the present wait began.
    since: Instant,
}

thread_local! {
    static CALL: Cell<Call> = Cell::new(Call::new());
}

impl Call {
    fn new() -> Self {
        Self {
            is_connected: false,
            is_reused: false,
            has_response_started: false,
            bytes: 0,
            waited: Duration::ZERO,
            since: Instant::now(),
        }
    }

    /// Begins a call on this thread; the time until its answer begins is spent waiting.
    pub(super) fn begin() {
        CALL.set(Self::new());
    }

    /// The call of this thread.
    pub(super) fn current() -> Self {
        CALL.get()
    }

    fn change(change: impl FnOnce(&mut Self)) {
        let mut call = CALL.get();
        change(&mut call);
        CALL.set(call);
    }
}

/// Puts the silence limit on each connection that the connector before it opens, and hears of their common end.
#[derive(Debug)]
pub(super) struct StallTimeout {
    pub(super) limit: Duration,
    pub(super) is_over: Arc<AtomicBool>,
}

impl<In: Transport> Connector<In> for StallTimeout {
    type Out = StallTimeoutTransport<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        // Connecting has a limit of its own.
        Call::change(|call| call.since = Instant::now());
        Ok(chained.map(|transport| StallTimeoutTransport {
            transport,
            limit: self.limit,
            is_over: Arc::clone(&self.is_over),
            was_used: false,
            unsent: Vec::new(),
            answered: None,
        }))
    }
}

/// A connection that asks whether the peer is silent before it waits, and makes no system call that a call can do
/// without: a small file costs little else.
#[derive(Debug)]
pub(super) struct StallTimeoutTransport<T> {
    transport: T,
    limit: Duration,
    is_over: Arc<AtomicBool>,
    was_used: bool,
    /// Head and body of a call, which ureq gives apart. As one they are one packet, and wake the peer once.
    unsent: Vec<u8>,
    /// When something last came.
    answered: Option<Instant>,
}

impl<T: Transport> Transport for StallTimeoutTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        Call::change(|call| (call.is_connected, call.is_reused) = (true, self.was_used));
        self.unsent.extend_from_slice(&self.transport.buffers().output()[..amount]);
        if self.unsent.len() < MAX_UNSENT { Ok(()) } else { self.send(timeout) }
    }

    fn await_input(&mut self, mut timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.send(timeout)?;
        self.was_used = true;
        loop {
            // What lies unread makes the end of the connection a reset, and the peer stops at once. Were it read, the
            // peer would wait for room that nobody makes any more.
            if self.is_over.load(Ordering::Relaxed) {
                return Err(io::Error::from(ErrorKind::ConnectionAborted).into());
            }
            let step = (self.limit / STEPS).max(Duration::from_millis(1));
            timeout.after = step.into();
            let asked = Instant::now();
            let awaited = self.transport.await_input(timeout);
            let excess = asked.elapsed().saturating_sub(step);
            Call::change(|call| call.since += excess);
            let call = Call::current();
            // What came while the process was stopped is read first.
            if excess < step && call.waited + call.since.elapsed() >= self.limit {
                return Err(silent(self.limit).into());
            }
            match awaited {
                Err(ureq::Error::Timeout(_)) => {}
                Ok(progress) => {
                    Call::change(|call| call.has_response_started |= progress);
                    self.answered = Some(Instant::now());
                    return Ok(progress);
                }
                Err(error) => return Err(self.explain(error)),
            }
        }
    }

    fn is_open(&mut self) -> bool {
        // Asked after each answer and again before the next call; it takes three system calls. A connection that ends
        // just then is found out by the call itself.
        self.answered.is_some_and(|answered| answered.elapsed() < SURELY_OPEN) || self.transport.is_open()
    }
}

impl<T: Transport> StallTimeoutTransport<T> {
    fn send(&mut self, mut timeout: NextTimeout) -> Result<(), ureq::Error> {
        timeout.after = self.limit.into();
        while !self.unsent.is_empty() {
            let output = self.transport.buffers().output();
            let amount = output.len().min(self.unsent.len());
            output[..amount].copy_from_slice(&self.unsent[..amount]);
            self.transport.transmit_output(amount, timeout).map_err(|error| self.explain(error))?;
            self.unsent.drain(..amount);
            // A request has gone out: the answer has the whole limit to begin.
            Call::change(|call| call.since = Instant::now());
        }
        Ok(())
    }

    fn explain(&self, error: ureq::Error) -> ureq::Error {
        match error {
            ureq::Error::Timeout(_) => silent(self.limit).into(),
            other => other,
        }
    }
}

fn silent(limit: Duration) -> io::Error {
    io::Error::new(ErrorKind::TimedOut, format!("silent for {} s (fewer than 1,024 bytes came)", limit.as_secs()))
}

/// The body of an answer, read on the thread that made the call.
pub(super) struct ResponseBody {
    body: BodyReader<'static>,
    /// When the whole body must have come, and how long that is.
    deadline: Option<(Instant, Duration)>,
}

impl ResponseBody {
    /// An answer that may go on for as long as bytes come.
    pub(super) fn new(body: Body) -> Self {
        // What came until now was the head.
        Call::change(|call| (call.waited, call.since) = (call.waited + call.since.elapsed(), Instant::now()));
        Self { body: body.into_reader(), deadline: None }
    }

    /// An answer that must be whole within this time.
    pub(super) fn within(body: Body, time: Duration) -> Self {
        Self { deadline: Some((Instant::now() + time, time)), ..Self::new(body) }
    }
}

impl Read for ResponseBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some((deadline, time)) = self.deadline
            && Instant::now() >= deadline
        {
            let why = format!("so slow that its answer was not whole after {} s", time.as_secs());
            return Err(io::Error::new(ErrorKind::TimedOut, why));
        }
        Call::change(|call| call.since = Instant::now());
        let result = self.body.read(buffer);
        Call::change(|call| {
            call.waited += call.since.elapsed();
            call.bytes += *result.as_ref().unwrap_or(&0) as u64;
            if call.bytes >= MIN_PROGRESS_BYTES {
                (call.bytes, call.waited) = (0, Duration::ZERO);
            }
        });
        result.map_err(explain_cut)
    }
}

/// Says in plain words that an answer ended too early; ureq has several ways to say it.
fn explain_cut(error: io::Error) -> io::Error {
    let is_cut = error.kind() == ErrorKind::UnexpectedEof
        || error.get_ref().is_some_and(|inner| matches!(inner.downcast_ref(), Some(ureq::Error::BodyStalled)));
    if is_cut { io::Error::new(ErrorKind::UnexpectedEof, "the answer is cut short") } else { error }
}

/// Finds addresses, and remembers them for a while: ureq asks for each call, also on a connection that is open.
#[derive(Debug, Default)]
pub(super) struct CachingResolver {
    system: DefaultResolver,
    known: Mutex<HashMap<String, (Instant, ResolvedSocketAddrs)>>,
}

impl Resolver for CachingResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        // The system's resolver takes a thread for each question.
        if let Some(address) = literal(uri) {
            let mut addresses = self.empty();
            addresses.push(address);
            return Ok(addresses);
        }
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let known = || self.known.lock().expect("no thread panics while it holds the addresses");
        if let Some((since, addresses)) = known().get(&host)
            && since.elapsed() < RESOLVED_FOR
        {
            return Ok(addresses.clone());
        }
        let addresses = self.system.resolve(uri, config, timeout).map_err(|error| match error {
            // The system's error for an unknown name has no kind of its own.
            ureq::Error::Io(_) => ureq::Error::HostNotFound,
            other => other,
        })?;
        known().insert(host, (Instant::now(), addresses.clone()));
        Ok(addresses)
    }
}

/// The address that a URI names itself.
fn literal(uri: &Uri) -> Option<SocketAddr> {
    let host = uri.host()?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    Some(SocketAddr::new(bare.parse::<IpAddr>().ok()?, uri.port_u16()?))
}

#[cfg(test)]
mod tests {
    use ureq::{
        Error, Timeout,
        unversioned::transport::{LazyBuffers, time},
    };

    use super::*;

    /// A connection over which nothing comes, on a system that makes every wait longer.
    #[derive(Debug)]
    struct Mute {
        buffers: LazyBuffers,
        /// The part of a wait that is added to it, and what is added to the first wait alone.
        rounding: u32,
        pause: Duration,
        waits: u32,
    }

    impl Transport for Mute {
        fn buffers(&mut self) -> &mut dyn Buffers {
            &mut self.buffers
        }

        fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), Error> {
            Ok(())
        }

        fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
            let time::Duration::Exact(wait) = timeout.for_read().after else { panic!("it would wait for ever") };
            self.waits += 1;
            assert!(self.waits < 1000, "the limit never comes");
            std::thread::sleep(wait + wait / self.rounding + std::mem::take(&mut self.pause));
            Err(Error::Timeout(Timeout::Global))
        }

        fn is_open(&mut self) -> bool {
            true
        }
    }

    /// How long a call lasts whose peer is mute.
    fn time_of_call(limit: Duration, rounding: u32, pause: Duration) -> Duration {
        let transport = Mute { buffers: LazyBuffers::new(1, 1), rounding, pause, waits: 0 };
        let is_over = Arc::default();
        let mut watched =
            StallTimeoutTransport { transport, limit, is_over, was_used: false, unsent: Vec::new(), answered: None };
        let begun = Instant::now();
        Call::begin();
        let error = watched.await_input(NextTimeout::default()).unwrap_err();
        assert!(matches!(&error, Error::Io(error) if error.kind() == ErrorKind::TimedOut), "{error}");
        begun.elapsed()
    }

    #[test]
    fn the_limit_comes_where_the_system_rounds_waits_up() {
        let limit = Duration::from_millis(2400);
        let time = time_of_call(limit, 8, Duration::ZERO);
        assert!(time >= limit && time < limit * 2, "{time:?}");
    }

    #[test]
    fn the_time_in_which_the_process_is_stopped_does_not_count() {
        let (limit, pause) = (Duration::from_millis(400), Duration::from_secs(1));
        let time = time_of_call(limit, 8, pause);
        assert!(time >= pause + limit * 9 / 10, "{time:?}");
    }
}
