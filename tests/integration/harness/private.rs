//! Private connections by hand, made from the protocol's description and not from the program's own code.

use std::{
    io::{self, Error, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use hmac::{Hmac, KeyInit, Mac};
use ring::{rand::SystemRandom, signature::Ed25519KeyPair};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme,
    StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring::{default_provider, sign::any_eddsa_type},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::AlwaysResolvesServerRawPublicKeys,
    sign::CertifiedKey,
    version::TLS13,
};
use sha2::Sha256;
use spake2::{Ed25519Group, Identity, Password, Spake2};

use super::{Dir, PATIENCE, Server, SilentPort, serve};

const ALPN: &[u8] = b"tinyp2p/1";

/// A caller of a private server.
pub(crate) struct Caller(pub(crate) StreamOwned<ClientConnection, TcpStream>);

impl Caller {
    /// Connects to the server of a URL, as far as the TLS handshake.
    pub(crate) fn connect(url: &str) -> io::Result<Self> {
        Self::over(TcpStream::connect(url.strip_prefix("https://").unwrap())?)
    }

    /// Makes the TLS handshake over a connection.
    pub(crate) fn over(mut stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyKey))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from("x").unwrap()).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(Self(StreamOwned::new(tls, stream)))
    }

    /// Makes the exchange as far as the server's confirmation. Returns its own, or nothing if the server's is not that of
    /// this password. Fails if the server hangs up.
    pub(crate) fn guess(&mut self, password: &str) -> io::Result<Option<Vec<u8>>> {
        let (caller, server) = (Identity::new(b"tinyp2p caller"), Identity::new(b"tinyp2p server"));
        let (spake2, message) = Spake2::<Ed25519Group>::start_a(&Password::new(password), &caller, &server);
        self.0.write_all(&message)?;
        let mut answer = [0; 65];
        self.0.read_exact(&mut answer)?;
        let key = spake2.finish(&answer[..33]).map_err(|error| Error::other(format!("{error:?}")))?;
        let binding = self.0.conn.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).unwrap();
        let mac = |role: &str| Hmac::<Sha256>::new_from_slice(&key).unwrap().chain_update(role).chain_update(binding);
        let is_confirmed = mac("server").verify_slice(&answer[33..]).is_ok();
        Ok(is_confirmed.then(|| mac("caller").finalize().into_bytes().to_vec()))
    }
}

/// The server's end of TLS, with a key of its own, over a connection.
pub(crate) fn accept_tls(stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(key.as_ref())).unwrap();
    let public = CertificateDer::from(key.public_key().unwrap().to_vec());
    let certified = CertifiedKey::new(vec![public], key);
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(certified))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream)
}

/// A private server that is called through a relay. `pass` is called on a thread for each way of a connection, with whether
/// it is that of the answers; its end is the end of that way.
pub(crate) fn serve_behind(
    dir: &Dir,
    options: &[&str],
    pass: impl Fn(&mut TcpStream, &mut TcpStream, bool) + Clone + Send + 'static,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (own_port, port) = (listener.local_addr().unwrap().port(), SilentPort::reserve().port);
    let bind = format!("127.0.0.1:{port}");
    let server = serve(dir).options(["--private", "--bind", &bind]).options(options.iter().copied()).port(own_port);
    let server = server.start();
    thread::spawn(move || {
        for caller in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
            let ways = [(caller.try_clone().unwrap(), server.try_clone().unwrap()), (server, caller)];
            for ((mut from, mut to), is_answer) in ways.into_iter().zip([false, true]) {
                let pass = pass.clone();
                thread::spawn(move || {
                    pass(&mut from, &mut to, is_answer);
                    _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    server
}

#[derive(Debug)]
struct AnyKey;

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
        unreachable!("TLS 1.3 alone is offered")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
