//! Ends a call whose peer has stalled.
//!
//! ureq's own limits either start anew with each byte, so that a drip lasts for ever, or count the whole transfer, so
//! that a large file never ends in time. Here a call ends when fewer than [`MIN_PROGRESS_BYTES`] of its response's body
//! came to their reader within the limit, however much else the peer sends: heads, preludes and trailers are no
//! progress. Only the time that is spent waiting for the peer counts, not that in which this side is busy.
//!
//! ureq makes a call, and reads its response, on the thread that asks for it; so what is known of a call is kept by
//! thread, for there is no other way from a connection to the call that uses it.

use std::{
    cell::{Cell, RefCell},
    io::{self, ErrorKind, Read},
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ureq::{
    BodyReader, Error, Timeout,
    unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport},
};

/// A peer that sends fewer bytes of a body within the limit has stalled.
const MIN_PROGRESS_BYTES: u64 = 1024;

/// The limit is waited for in this many steps of equal length, none of which counts for more than that. So a process
/// that is stopped for a while (ctrl-z) loses one step, and a system that rounds long waits up makes each step a little
/// longer.
const STEPS: u32 = 16;

/// The longest step: a call that was cancelled ends within it.
const MAX_STEP: Duration = Duration::from_millis(100);

/// The longest that one wait for a peer lasts; ureq ends it with [`Timeout::PerRead`].
pub(super) fn step(limit: Duration) -> Duration {
    (limit / STEPS).clamp(Duration::from_millis(1), MAX_STEP)
}

/// Whether the calls of this thread are to end.
pub(super) fn is_cancelled() -> bool {
    IS_CANCELLED.with_borrow(|flag| flag.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)))
}

/// Makes calls that end when the flag is set: within a tenth of a second, unless they wait for a connection.
pub(crate) fn cancellable<T>(is_cancelled: &Arc<AtomicBool>, calls: impl FnOnce() -> T) -> T {
    let before = IS_CANCELLED.replace(Some(Arc::clone(is_cancelled)));
    let result = calls();
    IS_CANCELLED.set(before);
    result
}

/// What is known of the call that a thread makes.
#[derive(Clone, Copy, Default)]
pub(super) struct Call {
    /// Whether the connection had served another call before.
    pub(super) is_reused: bool,
    /// Whether anything has come over it.
    pub(super) has_response_started: bool,
    /// Bytes of the body since the last progress.
    bytes: u64,
    /// The time that was spent waiting since then.
    waited: Duration,
    /// Until when that is counted.
    counted: Option<Instant>,
}

thread_local! {
    static CALL: Cell<Call> = Cell::default();
    /// Ends the calls of this thread when it is set.
    static IS_CANCELLED: RefCell<Option<Arc<AtomicBool>>> = RefCell::default();
}

impl Call {
    /// Begins a call on this thread.
    pub(super) fn begin() {
        CALL.set(Self::default());
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

    /// Counts the time since the last count, at most this much of it; how much that was beyond.
    fn count(&mut self, most: Duration) -> Duration {
        let now = Instant::now();
        let elapsed = now - self.counted.replace(now).unwrap_or(now);
        self.waited += elapsed.min(most);
        elapsed.saturating_sub(most)
    }
}

/// Puts the stall timeout on each connection, and ends all of them when everything is over.
#[derive(Debug)]
pub(super) struct StallTimeout {
    pub(super) limit: Duration,
    pub(super) is_over: Arc<AtomicBool>,
}

impl<In: Transport> Connector<In> for StallTimeout {
    type Out = StallTimeoutTransport<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let is_over = Arc::clone(&self.is_over);
        let (was_used, unsent) = (false, Vec::new());
        Ok(chained.map(|transport| StallTimeoutTransport { transport, limit: self.limit, is_over, was_used, unsent }))
    }
}

/// A connection on which a peer that stalls is noticed.
#[derive(Debug)]
pub(super) struct StallTimeoutTransport<T> {
    transport: T,
    limit: Duration,
    is_over: Arc<AtomicBool>,
    was_used: bool,
    /// Head and body of a request, which ureq gives apart. Sent as one they are one packet, and wake the peer once.
    unsent: Vec<u8>,
}

impl<T: Transport> Transport for StallTimeoutTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        self.unsent.extend_from_slice(&self.transport.buffers().output()[..amount]);
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.send(timeout).map_err(|error| if let Error::Timeout(_) = error { self.stalled() } else { error })?;
        let step = step(self.limit);
        loop {
            // What lies unread makes the end of the connection a reset, and the peer stops at once. Were it read, the
            // peer would wait for room that nobody makes any more.
            if is_cancelled() || self.is_over.load(Ordering::Relaxed) {
                return Err(io::Error::from(ErrorKind::ConnectionAborted).into());
            }
            let mut call = Call::current();
            call.count(Duration::MAX);
            let awaited = self.transport.await_input(timeout);
            let overslept = call.count(step);
            call.has_response_started |= matches!(awaited, Ok(true));
            CALL.set(call);
            // What came while the process was stopped is read first.
            if overslept < step && call.waited >= self.limit {
                return Err(self.stalled());
            }
            match awaited {
                Err(Error::Timeout(Timeout::PerRead)) => {}
                awaited => return awaited,
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }

    fn is_tls(&self) -> bool {
        self.transport.is_tls()
    }
}

impl<T: Transport> StallTimeoutTransport<T> {
    /// Sends a request that was held back.
    fn send(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        Call::change(|call| call.is_reused = self.was_used);
        self.was_used = true;
        for piece in mem::take(&mut self.unsent).chunks(self.transport.buffers().output().len()) {
            self.transport.buffers().output()[..piece.len()].copy_from_slice(piece);
            self.transport.transmit_output(piece.len(), timeout)?;
        }
        // The response has the whole limit to begin.
        Call::change(|call| call.counted = Some(Instant::now()));
        Ok(())
    }

    fn stalled(&self) -> Error {
        let text = format!("silent for {} s (fewer than 1,024 bytes came)", self.limit.as_secs());
        io::Error::new(ErrorKind::TimedOut, text).into()
    }
}

/// The body of a response, read on the thread that made the call.
pub(super) struct ResponseBody(pub(super) BodyReader<'static>);

impl Read for ResponseBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Call::change(|call| call.counted = Some(Instant::now()));
        let result = self.0.read(buffer);
        Call::change(|call| {
            call.bytes += *result.as_ref().unwrap_or(&0) as u64;
            if call.bytes >= MIN_PROGRESS_BYTES {
                call.bytes = 0;
                call.waited = Duration::ZERO;
            }
        });
        result.map_err(explain)
    }
}

/// Says in plain words that a body came too slowly, or ended too early; ureq has several ways to say that.
fn explain(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    if let Some(Error::Timeout(_)) = inner {
        return io::Error::new(ErrorKind::TimedOut, "so slow that its answer was not whole in time");
    }
    let is_cut = error.kind() == ErrorKind::UnexpectedEof || matches!(inner, Some(Error::BodyStalled));
    if is_cut { io::Error::new(ErrorKind::UnexpectedEof, "the answer is cut short") } else { error }
}

#[cfg(test)]
mod tests {
    use ureq::unversioned::transport::{LazyBuffers, time};

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
            let timeout = timeout.for_read();
            let time::Duration::Exact(wait) = timeout.after else { panic!("it would wait for ever") };
            self.waits += 1;
            assert!(self.waits < 1000, "the limit never comes");
            std::thread::sleep(wait + wait / self.rounding + std::mem::take(&mut self.pause));
            Err(Error::Timeout(timeout.reason))
        }

        fn is_open(&mut self) -> bool {
            true
        }
    }

    /// How long a call lasts whose peer is mute.
    fn time_of_call(limit: Duration, rounding: u32, pause: Duration) -> Duration {
        let transport = Mute { buffers: LazyBuffers::new(1, 1), rounding, pause, waits: 0 };
        let (is_over, was_used, unsent) = (Arc::default(), false, Vec::new());
        let mut transport = StallTimeoutTransport { transport, limit, is_over, was_used, unsent };
        let begun = Instant::now();
        Call::begin();
        let timeout = NextTimeout { per_read: Some(step(limit).into()), ..NextTimeout::default() };
        let error = transport.await_input(timeout).unwrap_err();
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
