//! The silence limit on a connection to a peer.
//!
//! ureq's own limits either start anew with each byte, so that a drip lasts for ever, or count the whole transfer, so
//! that a large file never ends in time. This transport wraps ureq's TCP transport and ends a call when fewer than
//! [`SIGN_OF_LIFE`] bytes arrived within the limit.

use std::{
    collections::HashMap,
    io,
    sync::Mutex,
    time::{Duration, Instant},
};

use ureq::{
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport},
    },
};

/// A peer that sends fewer bytes within the silence limit is silent.
const SIGN_OF_LIFE: usize = 1024;

/// How long an address that was found for a host is believed.
const RESOLVED_FOR: Duration = Duration::from_secs(60);

/// Puts the silence limit on each connection that the connector before it opens.
#[derive(Debug)]
pub(super) struct SilenceLimit(pub(super) Duration);

impl<In: Transport> Connector<In> for SilenceLimit {
    type Out = Watched<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(|transport| Watched { transport, limit: self.0, since: Instant::now(), bytes: 0 }))
    }
}

/// A connection with its last sign of life.
#[derive(Debug)]
pub(super) struct Watched<T> {
    transport: T,
    limit: Duration,
    since: Instant,
    bytes: usize,
}

impl<T: Transport> Transport for Watched<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, mut timeout: NextTimeout) -> Result<(), ureq::Error> {
        timeout.after = self.limit.into();
        self.transport.transmit_output(amount, timeout).map_err(|error| self.silence(error))?;
        // A request has gone out: the answer has the whole limit to begin.
        self.since = Instant::now();
        self.bytes = 0;
        Ok(())
    }

    fn await_input(&mut self, mut timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let left = self.limit.saturating_sub(self.since.elapsed());
        if left.is_zero() {
            return Err(self.silence(ureq::Error::Timeout(timeout.reason)));
        }
        timeout.after = left.into();
        let before = self.transport.buffers().input().len();
        let progress = self.transport.await_input(timeout).map_err(|error| self.silence(error))?;
        self.bytes += self.transport.buffers().input().len() - before;
        if self.bytes >= SIGN_OF_LIFE {
            self.since = Instant::now();
            self.bytes = 0;
        }
        Ok(progress)
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }
}

impl<T> Watched<T> {
    fn silence(&self, error: ureq::Error) -> ureq::Error {
        match error {
            ureq::Error::Timeout(_) => silent(self.limit).into(),
            other => other,
        }
    }
}

/// The error that says that a peer was silent for the whole limit.
pub(super) fn silent(limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("silent for {} s (fewer than 1,024 bytes came)", limit.as_secs()))
}

/// Finds addresses, and remembers them for a while: ureq asks for each call, also on a connection that is open.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    system: DefaultResolver,
    known: Mutex<HashMap<String, (Instant, ResolvedSocketAddrs)>>,
}

impl Resolver for Addresses {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let known = || self.known.lock().expect("no thread panics while it holds the addresses");
        if let Some((since, addresses)) = known().get(&host)
            && since.elapsed() < RESOLVED_FOR
        {
            return Ok(addresses.clone());
        }
        let addresses = self.system.resolve(uri, config, timeout).map_err(|error| match error {
            // The system's error for an unknown name has no kind of its own.
            ureq::Error::Io(_) => ureq::Error::HostNotFound,
            other => other,
        })?;
        known().insert(host, (Instant::now(), addresses.clone()));
        Ok(addresses)
    }
}
