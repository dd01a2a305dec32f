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
use thiserror::Error;

use super::{ALPN, CONFIRMATION_BYTES, Exchange, MESSAGE_BYTES, Role, provider};
use crate::auth::Password;

/// Why a connection did not become private.
#[derive(Debug, Error)]
pub(crate) enum ClientFailure {
    /// What is there speaks another language.
    #[error("it answers, but not privately: it is open, or somebody is in between")]
    NotPrivate,
    /// The server did not show that it knows the password in this channel.
    #[error("it has another password, or somebody is in between")]
    NotConfirmed,
    /// The server ended it before it showed that: too many did not show that they know the password, or are about to.
    #[error("it hung up: too many callers or wrong passwords from this address; try again in some seconds")]
    HungUp,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Makes connections private.
#[derive(Clone, Debug)]
pub(crate) struct SecureClient {
    pub(super) config: Arc<ClientConfig>,
    password: Password,
}

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

    /// Makes a connection private: after that the server has shown that it knows the password. The limits of time are
    /// those of `wire`.
    pub(crate) fn connect(&self, wire: &mut (impl Read + Write)) -> Result<CallerSession, ClientFailure> {
        let name = ServerName::try_from("tinyp2p").expect("it is a name");
        let connection = ClientConnection::new(Arc::clone(&self.config), name);
        let mut connection = Box::new(connection.expect("the configuration is sound"));
        while connection.is_handshaking() {
            connection.complete_io(wire).map_err(not_private)?;
        }
        if connection.alpn_protocol() != Some(ALPN) {
            return Err(ClientFailure::NotPrivate);
        }
        let exchange = Exchange::begin(Role::Caller, &self.password);
        let mut stream = Stream::new(&mut *connection, wire);
        stream.write_all(&exchange.message).map_err(hung_up)?;
        let mut answer = [0; MESSAGE_BYTES + CONFIRMATION_BYTES];
        stream.read_exact(&mut answer).map_err(hung_up)?;
        let (message, confirmation) = answer.split_at(MESSAGE_BYTES);
        let key = exchange.finish(message, &connection).ok_or(ClientFailure::NotConfirmed)?;
        if !key.is_confirmed(Role::Server, confirmation) {
            return Err(ClientFailure::NotConfirmed);
        }
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

    /// Reads what came over `wire`: nothing at its end, and none if that was not enough to be understood. It reads once at
    /// most, so that whoever waits can look at the time.
    pub(crate) fn read(&mut self, wire: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if let Some(count) = self.read_understood(buffer)? {
            return Ok(Some(count));
        }
        self.connection.read_tls(wire)?;
        self.connection.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        while self.connection.wants_write() {
            self.connection.write_tls(wire)?;
        }
        self.read_understood(buffer)
    }

    fn read_understood(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.connection.reader().read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            read => read.map(Some),
        }
    }
}

/// Tells an answer that is no TLS from a connection that broke.
fn not_private(error: io::Error) -> ClientFailure {
    let is_tls_error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some();
    if is_tls_error { ClientFailure::NotPrivate } else { ClientFailure::Io(error) }
}

/// Tells a server that hung up before it showed that it knows the password from a failure of this side.
fn hung_up(error: io::Error) -> ClientFailure {
    use ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let is_end = matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof);
    if is_end { ClientFailure::HungUp } else { ClientFailure::Io(error) }
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
