//! Makes the connections of a private server private, and logs who could not.

use std::{
    io::{self, Read, Write},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use super::limits::LogLimit;
use crate::{
    auth::Password,
    peer::PeerUrl,
    secure::{SecureServer, ServerFailure, Session},
};

/// After this number of wrong passwords there is one more warning.
const MANY: u64 = 100;

/// What private connections share.
pub(super) struct Privacy {
    secure: SecureServer,
    url: PeerUrl,
    wrong_log: LogLimit,
    many_log: LogLimit,
    wrong: AtomicU64,
}

impl Privacy {
    /// For the server of this URL. Fails where the system gives no random numbers.
    pub(super) fn new(password: Password, url: PeerUrl) -> io::Result<Self> {
        let secure = SecureServer::new(password)?;
        let (wrong_log, many_log, wrong) = (LogLimit::default(), LogLimit::default(), AtomicU64::new(0));
        Ok(Self { secure, url, wrong_log, many_log, wrong })
    }

    /// The answer to a caller in clear.
    pub(super) fn refusal(&self) -> String {
        format!("this server is private; call it by {}", self.url)
    }

    /// Makes a connection private; nothing if it is to be closed without a word.
    pub(super) fn accept(&self, wire: &mut (impl Read + Write), caller: IpAddr) -> Option<Session> {
        match self.secure.accept(wire, caller) {
            Ok(session) => return Some(session),
            Err(ServerFailure::WrongPassword) => self.log_wrong_password(caller),
            // Clients open some that they may need.
            Err(ServerFailure::Unused) => {}
            Err(failure) => log::debug!("a connection of {caller} did not become private: {failure:?}"),
        }
        None
    }

    fn log_wrong_password(&self, caller: IpAddr) {
        let wrong = self.wrong.fetch_add(1, Ordering::Relaxed) + 1;
        if wrong.is_multiple_of(MANY) && self.many_log.check().is_some() {
            log::warn!("{wrong} wrong passwords by now; somebody may be guessing, so it should be a long one");
        }
        if let Some(skipped) = self.wrong_log.check() {
            let others = if skipped > 0 { format!(" ({skipped} more since the last time)") } else { String::new() };
            log::warn!("refused {caller}: it has another password, or hung up{others}");
        }
    }
}
