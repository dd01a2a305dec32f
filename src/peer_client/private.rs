//! Private connections of a client: what `secure` does, as a connection of ureq's.

use std::{
    fmt,
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ureq::{
    Error, Timeout,
    unversioned::transport::{
        Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
    },
};

use super::stall_timeout::{is_cancelled, step};
use crate::secure::{CallerSession, ClientFailure, SecureClient};

/// Makes connections to `https://` URLs private, and leaves the others open.
#[derive(Debug)]
pub(super) struct Private {
    pub(super) secure: SecureClient,
    /// How long handshake and exchange may take together.
    pub(super) limit: Duration,
    pub(super) is_over: Arc<AtomicBool>,
}

impl<In: Transport> Connector<In> for Private {
    type Out = Either<PrivateTransport<In>, In>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() {
            return Ok(Some(Either::B(transport)));
        }
        let mut adapter = TransportAdapter::new(transport, Arc::clone(&details.current_time));
        let until = Instant::now() + self.limit;
        let mut wire = UntilThen { adapter: &mut adapter, until, step: step(self.limit), is_over: &self.is_over };
        let session = self.secure.connect(&mut wire).map_err(|failure| match failure {
            ClientFailure::Io(error) => Error::from(error),
            failure => Error::Io(io::Error::other(failure)),
        })?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::A(PrivateTransport { session, adapter, buffers })))
    }
}

/// A connection that fails at a time, however slowly bytes come: ureq's limits begin anew with each of them.
struct UntilThen<'a, T: Transport> {
    adapter: &'a mut TransportAdapter<T>,
    until: Instant,
    step: Duration,
    is_over: &'a AtomicBool,
}

impl<T: Transport> UntilThen<'_, T> {
    fn run<R>(&mut self, mut run: impl FnMut(&mut TransportAdapter<T>) -> io::Result<R>) -> io::Result<R> {
        loop {
            if is_cancelled() || self.is_over.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Timeout(Timeout::Connect).into_io());
            }
            let after = left.min(self.step).into();
            self.adapter.set_timeout(NextTimeout { after, reason: Timeout::PerRead, ..NextTimeout::default() });
            match run(self.adapter) {
                Err(error) if is_timeout(&error) => {}
                result => return result,
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.get_ref().and_then(|inner| inner.downcast_ref()), Some(Error::Timeout(_)))
}

impl<T: Transport> Read for UntilThen<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.run(|adapter| adapter.read(buffer))
    }
}

impl<T: Transport> Write for UntilThen<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.run(|adapter| adapter.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A private connection.
pub(super) struct PrivateTransport<T: Transport> {
    session: CallerSession,
    adapter: TransportAdapter<T>,
    buffers: LazyBuffers,
}

impl<T: Transport> Transport for PrivateTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.adapter.set_timeout(timeout);
        Ok(self.session.write_all(&mut self.adapter, &self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.adapter.set_timeout(timeout);
        let read = self.session.read(&mut self.adapter, self.buffers.input_append_buf())?;
        // What is not enough yet is waited for like what has not come.
        let count = read.ok_or(Error::Timeout(Timeout::PerRead))?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.adapter.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl<T: Transport> fmt::Debug for PrivateTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateTransport(..)")
    }
}
