//! The caller's end of a private connection.

use std::{
    io::{self, ErrorKind, Read, Write},
    mem,
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, Stream,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    version::TLS13,
};

use super::{ALPN, CONFIRMATION_BYTES, Exchange, MESSAGE_BYTES, Role, provider};
use crate::{auth::Password, error::PrivateError};

/// Makes connections private.
#[derive(Clone, Debug)]
pub(crate) struct SecureClient {
    pub(super) config: Arc<ClientConfig>,
    password: Password,
}

/// An encrypted connection to a server that has not shown yet that it knows the password.
#[derive(Debug)]
pub(crate) struct Handshaken(Box<ClientConnection>);

/// A private connection from the caller's side.
#[derive(Debug)]
pub(crate) struct CallerSession {
    connection: Box<ClientConnection>,
    /// The caller's confirmation, which goes with the first request.
    unsent: Vec<u8>,
}

impl SecureClient {
    pub(crate) fn new(password: Password) -> Self {
        let provider = provider();
        let verifier = AnyKey(provider.signature_verification_algorithms);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("the provider knows TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Self { config: Arc::new(config), password }
    }

    /// Encrypts a connection: the first half of making it private, which tells nothing of the password. Fails with
    /// [`PrivateError::NotPrivate`] in the error if there is no TLS of ours. The limits of time are those of `wire`.
    pub(crate) fn handshake(&self, wire: &mut (impl Read + Write)) -> io::Result<Handshaken> {
        let name = ServerName::try_from("tinyp2p").expect("it is a name");
        let connection = ClientConnection::new(Arc::clone(&self.config), name);
        let mut connection = Box::new(connection.expect("the configuration is sound"));
        while connection.is_handshaking() {
            connection.complete_io(wire).map_err(not_private)?;
        }
        if connection.alpn_protocol() != Some(ALPN) {
            return Err(io::Error::other(PrivateError::NotPrivate));
        }
        Ok(Handshaken(connection))
    }

    /// Makes an encrypted connection private: after that the server has shown that it knows the password. Fails with
    /// a [`PrivateError`] in the error if it did not. The limits of time are those of `wire`.
    pub(crate) fn exchange(
        &self,
        Handshaken(mut connection): Handshaken,
        wire: &mut (impl Read + Write),
    ) -> io::Result<CallerSession> {
        let exchange = Exchange::begin(Role::Caller, &self.password);
        let mut stream = Stream::new(&mut *connection, wire);
        stream.write_all(&exchange.message).map_err(not_confirmed)?;
        let mut answer = [0; MESSAGE_BYTES + CONFIRMATION_BYTES];
        stream.read_exact(&mut answer).map_err(not_confirmed)?;
        let (message, confirmation) = answer.split_at(MESSAGE_BYTES);
        let key = exchange.finish(message, &connection).filter(|key| key.is_confirmed(Role::Server, confirmation));
        let key = key.ok_or_else(|| io::Error::other(PrivateError::NotConfirmed))?;
        Ok(CallerSession { connection, unsent: key.confirmation(Role::Caller).to_vec() })
    }
}

impl CallerSession {
    /// Sends all of this over `wire`.
    pub(crate) fn write_all(&mut self, wire: &mut (impl Read + Write), bytes: &[u8]) -> io::Result<()> {
        self.unsent.extend_from_slice(bytes);
        let unsent = mem::take(&mut self.unsent);
        let mut rest = &unsent[..];
        while !rest.is_empty() {
            rest = &rest[self.connection.writer().write(rest)?..];
            while self.connection.wants_write() {
                self.connection.write_tls(wire)?;
            }
        }
        Ok(())
    }

    /// Reads what came over `wire`. Returns `Some(0)` at the end, and `None` if no whole record has come yet. It reads once
    /// at most, so that whoever waits can look at the time.
    pub(crate) fn read(&mut self, wire: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if let Some(count) = self.read_decrypted(buffer)? {
            return Ok(Some(count));
        }
        self.connection.read_tls(wire)?;
        self.connection.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        while self.connection.wants_write() {
            self.connection.write_tls(wire)?;
        }
        self.read_decrypted(buffer)
    }

    fn read_decrypted(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.connection.reader().read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            read => read.map(Some),
        }
    }
}

/// Says of an answer that is no TLS of ours that it is not private; other errors stay what they are.
fn not_private(error: io::Error) -> io::Error {
    if is_of_tls(&error) { io::Error::other(PrivateError::NotPrivate) } else { error }
}

/// Says what an end of the exchange means that comes before the server has shown that it knows the password; other errors
/// stay what they are.
fn not_confirmed(error: io::Error) -> io::Error {
    use ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match error.kind() {
        _ if is_of_tls(&error) => io::Error::other(PrivateError::NotConfirmed),
        BrokenPipe | ConnectionReset | UnexpectedEof => io::Error::other(PrivateError::HungUp),
        _ => error,
    }
}

/// Whether it is an error of rustls's own, which sockets never have.
fn is_of_tls(error: &io::Error) -> bool {
    error.kind() == ErrorKind::InvalidData
}

/// Takes any key: who is there is shown by the exchange.
#[derive(Debug)]
struct AnyKey(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 alone is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
