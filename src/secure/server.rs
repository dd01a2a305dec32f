//! The server's end of a private connection.

use std::{
    io::{self, Read, Write},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use ring::{rand::SystemRandom, signature::Ed25519KeyPair};
use rustls::{
    ServerConfig, ServerConnection, Stream,
    crypto::ring::sign::any_eddsa_type,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage},
    sign::CertifiedKey,
    version::TLS13,
};

use super::{ALPN, CONFIRMATION_BYTES, Exchange, MESSAGE_BYTES, Role, guesses::Guesses, provider};
use crate::{auth::Password, lock::Semaphore};

/// How many handshakes and exchanges are computed at once: strangers must not have all processors.
const COMPUTED_AT_ONCE: usize = 2;

/// The most bytes that a caller may send before it has shown that it knows the password; its first request may begin among
/// them. TLS itself has messages without end.
const MAX_BYTES: usize = 64 << 10;

/// Why a connection did not become private.
#[derive(Debug)]
pub(crate) enum ServerFailure {
    /// It broke, or was no TLS of ours.
    Io,
    /// The caller ended it before it began the exchange.
    Unused,
    /// Its address has guessed too often.
    TooManyGuesses,
    /// The caller has another password, or somebody is in between.
    WrongPassword,
}

impl From<io::Error> for ServerFailure {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// Makes accepted connections private, with a key that lasts as long as this.
pub(crate) struct SecureServer {
    pub(super) config: Arc<ServerConfig>,
    password: Password,
    guesses: Guesses,
    computing: Semaphore,
}

/// A private connection from the server's side.
pub(crate) struct Session(Box<ServerConnection>);

impl SecureServer {
    pub(crate) fn new(password: Password) -> io::Result<Self> {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let key = key.map_err(|_| io::Error::other("the system gives no random numbers"))?;
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(key.as_ref())).expect("the key was just made");
        let public = key.public_key().expect("the provider knows the public key").to_vec();
        let certified = CertifiedKey::new(vec![CertificateDer::from(public)], key);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider knows TLS 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(certified))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let (guesses, computing) = (Guesses::default(), Semaphore::new(COMPUTED_AT_ONCE));
        Ok(Self { config: Arc::new(config), password, guesses, computing })
    }

    /// Makes a connection from this address private. The limits of time are those of `wire`. What the caller sends after
    /// its confirmation is left in the session.
    pub(crate) fn accept(&self, wire: &mut (impl Read + Write), address: IpAddr) -> Result<Session, ServerFailure> {
        let wire = &mut Bounded { wire, left: MAX_BYTES };
        let connection = ServerConnection::new(Arc::clone(&self.config));
        let mut connection = Box::new(connection.expect("the configuration is sound"));
        while connection.is_handshaking() {
            if connection.wants_write() {
                connection.write_tls(wire)?;
            } else if connection.read_tls(wire)? == 0 {
                return Err(ServerFailure::Io);
            } else {
                let permit = self.computing.acquire();
                let processed = connection.process_new_packets();
                drop(permit);
                if processed.is_err() {
                    // An alert tells the caller why.
                    let _ = connection.write_tls(wire);
                    return Err(ServerFailure::Io);
                }
            }
        }
        if connection.alpn_protocol() != Some(ALPN) {
            return Err(ServerFailure::Io);
        }
        if !self.guesses.is_allowed(address, Instant::now()) {
            return Err(ServerFailure::TooManyGuesses);
        }
        let mut message = [0; MESSAGE_BYTES];
        Stream::new(&mut *connection, wire).read_exact(&mut message).map_err(|_| ServerFailure::Unused)?;
        let permit = self.computing.acquire();
        let exchange = Exchange::begin(Role::Server, &self.password);
        let mut answer = exchange.message.clone();
        let key = exchange.finish(&message, &connection).ok_or(ServerFailure::Io)?;
        drop(permit);
        answer.extend_from_slice(&key.confirmation(Role::Server));
        // Charged before the caller can see whether it guessed right.
        let charge = self.guesses.charge(address, Instant::now()).ok_or(ServerFailure::TooManyGuesses)?;
        let mut stream = Stream::new(&mut *connection, wire);
        stream.write_all(&answer)?;
        let mut confirmation = [0; CONFIRMATION_BYTES];
        stream.read_exact(&mut confirmation).map_err(|_| ServerFailure::WrongPassword)?;
        if !key.is_confirmed(Role::Caller, &confirmation) {
            return Err(ServerFailure::WrongPassword);
        }
        self.guesses.refund(charge, Instant::now());
        Ok(Session(connection))
    }
}

/// A connection over which only so many bytes may come.
struct Bounded<'a, W> {
    wire: &'a mut W,
    left: usize,
}

impl<W: Read> Read for Bounded<'_, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.left);
        if most == 0 {
            return Err(io::Error::other("too much came before the password was shown"));
        }
        let count = self.wire.read(&mut buffer[..most])?;
        self.left -= count;
        Ok(count)
    }
}

impl<W: Write> Write for Bounded<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wire.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wire.flush()
    }
}

impl Session {
    /// Reads what comes over `wire`; nothing at its end.
    pub(crate) fn read(&mut self, wire: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<usize> {
        Stream::new(&mut *self.0, wire).read(buffer)
    }

    /// Sends some of this over `wire`.
    pub(crate) fn write(&mut self, wire: &mut (impl Read + Write), bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.writer().write(bytes)?;
        while self.0.wants_write() {
            self.0.write_tls(wire)?;
        }
        Ok(count)
    }

    /// Tells the caller that nothing more comes.
    pub(crate) fn close(&mut self, wire: &mut (impl Read + Write)) -> io::Result<()> {
        self.0.send_close_notify();
        Stream::new(&mut *self.0, wire).flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_comes_than_may() {
        let mut come = Vec::new();
        let mut wire = Bounded { wire: &mut io::repeat(1), left: MAX_BYTES };
        assert!(wire.read_to_end(&mut come).is_err());
        assert_eq!(come.len(), MAX_BYTES);
    }
}
