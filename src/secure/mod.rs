//! Private connections: TLS 1.3, and inside it an exchange by which both sides show that they know the password.
//!
//! Invariant: before both have shown it, nothing goes over a connection but the messages of the exchange. They tell a
//! stranger nothing to guess with, and they are bound to the TLS channel: who stands in between has two channels.

mod client;
mod guesses;
mod server;

pub(crate) use self::{
    client::{CallerSession, Handshaken, SecureClient},
    server::{SecureServer, ServerFailure, Session},
};

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use rustls::{ConnectionCommon, crypto::CryptoProvider};
use sha2::Sha256;
use spake2::{Ed25519Group, Identity, Spake2};

use crate::auth::Password;

/// What both sides speak inside TLS.
const ALPN: &[u8] = b"tinyp2p/1";

/// The bytes of a message of the exchange, and of a confirmation.
const MESSAGE_BYTES: usize = 33;
const CONFIRMATION_BYTES: usize = 32;

/// What binds the exchange to the channel: RFC 9266.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Caller,
    Server,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Server => "server",
        }
    }
}

/// An exchange that has begun.
struct Exchange {
    spake2: Spake2<Ed25519Group>,
    /// What the other side gets.
    message: Vec<u8>,
}

/// What both sides know after an exchange, if their passwords are the same.
struct SharedKey {
    key: Vec<u8>,
    binding: [u8; 32],
}

impl Exchange {
    fn begin(role: Role, password: &Password) -> Self {
        let password = spake2::Password::new(password.as_bytes());
        let (caller, server) = (Identity::new(b"tinyp2p caller"), Identity::new(b"tinyp2p server"));
        let (spake2, message) = match role {
            Role::Caller => Spake2::start_a(&password, &caller, &server),
            Role::Server => Spake2::start_b(&password, &caller, &server),
        };
        Self { spake2, message }
    }

    /// Ends it with the message of the other side; nothing if that makes no sense.
    fn finish<T>(self, theirs: &[u8], connection: &ConnectionCommon<T>) -> Option<SharedKey> {
        let key = self.spake2.finish(theirs).ok()?;
        let binding = connection.export_keying_material([0; 32], EXPORTER_LABEL, Some(b"")).ok()?;
        Some(SharedKey { key, binding })
    }
}

impl SharedKey {
    /// What shows that this side knows it.
    fn confirmation(&self, role: Role) -> [u8; CONFIRMATION_BYTES] {
        self.mac(role).finalize().into_bytes().into()
    }

    /// Whether the other side knows it; compared in constant time.
    fn is_confirmed(&self, role: Role, confirmation: &[u8]) -> bool {
        self.mac(role).verify_slice(confirmation).is_ok()
    }

    fn mac(&self, role: Role) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("an HMAC takes a key of any length");
        mac.chain_update(role.name()).chain_update(self.binding)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests;
