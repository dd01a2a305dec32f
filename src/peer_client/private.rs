//! Private connections of a client: what `secure` does, as a connection of ureq's.

use std::{
    collections::HashMap,
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
    error::PrivateError,
    lock::lock,
    secure::{CallerSession, Handshaken, SecureClient},
};

/// What all private connections of a client share.
#[derive(Clone, Debug)]
pub(super) struct Privacy {
    pub(super) secure: SecureClient,
    /// How long a handshake, an exchange, or both together may take.
    pub(super) limit: Duration,
    pub(super) is_over: Arc<AtomicBool>,
    pub(super) failed: Option<Failed>,
}

/// Why a connection to a host and port did not become private, where that is final: no further word to them then.
pub(super) type Failed = Arc<Mutex<HashMap<Authority, PrivateError>>>;

/// Connections that are encrypted already, each with the host and port that it goes to; a clone shares them.
///
/// The handshake takes two round trips, and tells nothing of the password; so a client makes it before it knows which
/// calls it will make. The third, in which the server charges a guess, waits for the call.
pub(super) type Ready<T> = Arc<Mutex<Vec<(Authority, T, Handshaken)>>>;

/// Makes the connections of another connector private where the URL is `https://`, and leaves the rest open.
#[derive(Debug)]
pub(super) struct Private<C: Connector<()>> {
    pub(super) connector: C,
    pub(super) privacy: Privacy,
    /// Those that are there are used first.
    pub(super) ready: Ready<C::Out>,
}

impl<C: Connector<()>> Private<C> {
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
        let Some(authority) = details.uri.authority().filter(|_| details.needs_tls()) else {
            return Ok(self.connector.connect(details, None)?.map(Either::B));
        };
        self.privacy.check(authority)?;
        let (mut wire, handshaken) = if let Some((transport, handshaken)) = self.take_ready(authority) {
            (self.privacy.limited(transport, details), handshaken)
        } else {
            let Some(transport) = self.connector.connect(details, None)? else { return Ok(None) };
            let mut wire = self.privacy.limited(transport, details);
            let handshaken = self.privacy.secure.handshake(&mut wire);
            (wire, handshaken.inspect_err(|error| self.privacy.note(authority, error))?)
        };
        let session = self.privacy.secure.exchange(handshaken, &mut wire);
        let session = session.inspect_err(|error| self.privacy.note(authority, error))?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::A(PrivateTransport { session, adapter: wire.adapter, buffers })))
    }
}

/// Makes connections to `https://` URLs ready for [`Private`], and none for the call that it is asked for.
#[derive(Debug)]
pub(super) struct MakeReady<C: Connector<()>>(pub(super) Private<C>);

impl<C: Connector<()>> Connector<()> for MakeReady<C> {
    type Out = C::Out;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<C::Out>, Error> {
        let Self(Private { connector, privacy, ready }) = self;
        if let Some(authority) = details.uri.authority()
            && let Some(transport) = connector.connect(details, None)?
        {
            let mut wire = privacy.limited(transport, details);
            let handshaken = privacy.secure.handshake(&mut wire)?;
            lock(ready).push((authority.clone(), wire.adapter.into_inner(), handshaken));
        }
        // That ends the call.
        Err(io::Error::from(io::ErrorKind::ConnectionAborted).into())
    }
}

impl Privacy {
    /// Fails where a connection to this host and port has failed for good.
    fn check(&self, authority: &Authority) -> io::Result<()> {
        let failed = self.failed.as_ref().and_then(|failed| lock(failed).get(authority).copied());
        failed.map_or(Ok(()), |failure| Err(io::Error::other(failure)))
    }

    /// Notes a failure that is final: somebody else is there, or in between.
    fn note(&self, authority: &Authority, error: &io::Error) {
        let failure = error.get_ref().and_then(|inner| inner.downcast_ref()).copied();
        if let Some(failure @ (PrivateError::NotPrivate | PrivateError::NotConfirmed)) = failure
            && let Some(failed) = &self.failed
        {
            lock(failed).insert(authority.clone(), failure);
        }
    }

    /// A connection that fails when the limit has passed from now on.
    fn limited<T: Transport>(&self, transport: T, details: &ConnectionDetails) -> UntilThen<'_, T> {
        UntilThen {
            adapter: TransportAdapter::new(transport, Arc::clone(&details.current_time)),
            until: Instant::now() + self.limit,
            step: step(self.limit),
            is_over: &self.is_over,
        }
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
        sync::atomic::AtomicUsize,
        thread,
    };

    use super::{super::PeerClient, *};
    use crate::{
        auth::Password,
        error::CallError,
        peer::PeerUrl,
        secure::SecureServer,
        support::{PATIENCE, eventually},
    };

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ANSWER: &[u8] = b"HTTP/1.1 500 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

    fn listen() -> (TcpListener, PeerUrl) {
        let listener = TcpListener::bind((ADDRESS, 0)).unwrap();
        let url = PeerUrl::new("127.0.0.1", listener.local_addr().unwrap().port(), true).unwrap();
        (listener, url)
    }

    fn server(password: &str) -> Arc<SecureServer> {
        Arc::new(SecureServer::new(Password::new(password)).unwrap())
    }

    /// Answers one call on a thread of its own.
    fn serve(server: &Arc<SecureServer>, mut stream: TcpStream) {
        let server = Arc::clone(server);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        thread::spawn(move || {
            let Ok(mut session) = server.accept(&mut stream, ADDRESS) else { return };
            session.read(&mut stream, &mut [0; 4096]).unwrap();
            session.write(&mut stream, ANSWER).unwrap();
        });
    }

    /// Answers all calls from now on; how many connections there were.
    fn serve_all(server: Arc<SecureServer>, listener: TcpListener) -> Arc<AtomicUsize> {
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::Relaxed);
                serve(&server, stream.unwrap());
            }
        });
        accepted
    }

    fn client(password: &str) -> PeerClient {
        PeerClient::for_run(Password::new(password), PATIENCE, 1, None, 1)
    }

    fn is_answered(client: &PeerClient, url: &PeerUrl) -> bool {
        matches!(client.exchange_peers(url, []), Err(CallError::Status(500)))
    }

    fn is_not_confirmed(client: &PeerClient, url: &PeerUrl) -> bool {
        matches!(client.exchange_peers(url, []), Err(CallError::Private(PrivateError::NotConfirmed)))
    }

    #[test]
    fn calls_go_over_connections_that_were_made_ready() {
        let (client, server, (listener, url)) = (client("secret"), server("secret"), listen());
        client.make_ready(&url, 2);
        (0..2).for_each(|_| serve(&server, listener.accept().unwrap().0));
        drop(listener);
        let mut answered = 0;
        eventually("two calls", PATIENCE, || {
            answered += usize::from(is_answered(&client, &url));
            (answered == 2).then_some(())
        });
    }

    #[test]
    fn a_server_that_hangs_up_before_it_has_confirmed_is_called_again() {
        let (listener, url) = listen();
        let accepted = serve_all(server("secret"), listener);
        for _ in 0..10 {
            assert!(is_not_confirmed(&client("wrong"), &url));
        }
        assert!(is_answered(&client("secret"), &url));
        let accepted = accepted.load(Ordering::Relaxed);
        assert!(accepted > 11, "{accepted} connections");
    }

    #[test]
    fn who_did_not_confirm_is_called_once_in_a_run() {
        for (client, calls) in [(client("secret"), 1), (PeerClient::new(Password::new("secret"), PATIENCE), 3)] {
            let (listener, url) = listen();
            let accepted = serve_all(server("other"), listener);
            assert!((0..3).all(|_| is_not_confirmed(&client, &url)));
            assert_eq!(accepted.load(Ordering::Relaxed), calls);
        }
    }
}
