//! Private connections of a client: what `secure` does, as a connection of ureq's.

use std::{
    fmt,
    io::{self, Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ureq::{
    Error, Timeout,
    http::uri::Authority,
    unversioned::transport::{
        Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
    },
};

use super::stall_timeout::{is_cancelled, step};
use crate::{
    lock::lock,
    secure::{CallerSession, Handshaken, SecureClient},
};

/// Makes the connections of another connector private where the URL is `https://`, and leaves the rest open.
#[derive(Debug)]
pub(super) struct Private<C: Connector<()>> {
    connector: C,
    secure: SecureClient,
    /// How long handshake and exchange may take together.
    limit: Duration,
    is_over: Arc<AtomicBool>,
    ready: Ready<C::Out>,
    makes_ready: bool,
}

/// Connections that are encrypted already, each with the host and port that it goes to; a clone shares them.
///
/// The handshake takes two round trips, and tells nothing of the password; so a client makes it before it knows which
/// calls it will make. The third, in which the server charges a guess, waits for the call.
pub(super) type Ready<T> = Arc<Mutex<Vec<(Authority, T, Handshaken)>>>;

impl<C: Connector<()>> Private<C> {
    /// Handshake and exchange together end within this limit. What is made ready is left in `ready`, where others find it.
    pub(super) fn new(
        connector: C,
        secure: &SecureClient,
        limit: Duration,
        is_over: &Arc<AtomicBool>,
        ready: Ready<C::Out>,
        makes_ready: bool,
    ) -> Self {
        Self { connector, secure: secure.clone(), limit, is_over: Arc::clone(is_over), ready, makes_ready }
    }

    /// Takes out a connection to this host and port that was made ready, and is open yet.
    fn take_ready(&self, authority: &Authority) -> Option<(C::Out, Handshaken)> {
        let mut ready = lock(&self.ready);
        while let Some(at) = ready.iter().position(|(to, ..)| to == authority) {
            let (_, mut transport, handshaken) = ready.swap_remove(at);
            if transport.is_open() {
                return Some((transport, handshaken));
            }
        }
        None
    }
}

impl<C: Connector<()>> Connector<()> for Private<C> {
    type Out = Either<PrivateTransport<C::Out>, C::Out>;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        let connect = || self.connector.connect(details, None);
        let Some(authority) = details.uri.authority().filter(|_| details.needs_tls()) else {
            return Ok(connect()?.map(Either::B));
        };
        let limited = |transport| UntilThen {
            adapter: TransportAdapter::new(transport, Arc::clone(&details.current_time)),
            until: Instant::now() + self.limit,
            step: step(self.limit),
            is_over: &self.is_over,
        };
        let ready = if self.makes_ready { None } else { self.take_ready(authority) };
        let (mut wire, handshaken) = if let Some((transport, handshaken)) = ready {
            (limited(transport), handshaken)
        } else {
            let Some(transport) = connect()? else { return Ok(None) };
            let mut wire = limited(transport);
            let handshaken = self.secure.handshake(&mut wire)?;
            (wire, handshaken)
        };
        if self.makes_ready {
            lock(&self.ready).push((authority.clone(), wire.adapter.into_inner(), handshaken));
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
        }
        let session = self.secure.exchange(handshaken, &mut wire)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::A(PrivateTransport { session, adapter: wire.adapter, buffers })))
    }
}

/// A connection that fails at a time, however slowly bytes come: ureq's limits begin anew with each of them.
struct UntilThen<'a, T: Transport> {
    adapter: TransportAdapter<T>,
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
            match run(&mut self.adapter) {
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
        let first = read.ok_or(Error::Timeout(Timeout::PerRead))?;
        self.buffers.input_appended(first);
        // What came with it is decrypted at once, so that the disk gets larger pieces than a record.
        let mut count = first;
        while count > 0 && !self.adapter.get_mut().buffers().input().is_empty() {
            let room = self.buffers.input_append_buf();
            count = if room.is_empty() { 0 } else { self.session.read(&mut self.adapter, room)?.unwrap_or(0) };
            self.buffers.input_appended(count);
        }
        Ok(first > 0)
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

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
        thread::{self, JoinHandle},
    };

    use super::super::PeerClient;
    use crate::{
        auth::Password,
        error::CallError,
        peer::PeerUrl,
        secure::SecureServer,
        support::{PATIENCE, eventually},
    };

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ANSWER: &[u8] = b"HTTP/1.1 500 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

    /// A port, and the connections that are made ready to it before nobody listens there any more.
    fn make_ready(client: &PeerClient, count: usize) -> (PeerUrl, Vec<TcpStream>) {
        let listener = TcpListener::bind((ADDRESS, 0)).unwrap();
        let url = PeerUrl::new("127.0.0.1", listener.local_addr().unwrap().port(), true).unwrap();
        client.make_ready(&url, count);
        (url, (0..count).map(|_| listener.accept().unwrap().0).collect())
    }

    fn serve(mut stream: TcpStream) -> JoinHandle<bool> {
        thread::spawn(move || {
            let server = SecureServer::new(Password::new("secret")).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let Ok(mut session) = server.accept(&mut stream, ADDRESS) else { return false };
            session.read(&mut stream, &mut [0; 4096]).unwrap();
            session.write(&mut stream, ANSWER).is_ok()
        })
    }

    #[test]
    fn calls_go_over_connections_that_were_made_ready() {
        let client = PeerClient::new(Password::new("secret"), PATIENCE, 1);
        let (url, streams) = make_ready(&client, 2);
        let serving: Vec<_> = streams.into_iter().map(serve).collect();
        let mut called = 0;
        eventually("two calls", PATIENCE, || {
            called += usize::from(matches!(client.exchange_peers(&url, []), Err(CallError::Status(500))));
            (called == 2).then_some(())
        });
        assert!(serving.into_iter().all(|thread| thread.join().unwrap()));
    }
}
