//! Finds the addresses of hosts, and remembers them for a while: ureq asks for each call, even on an open connection.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

use ureq::{
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

use crate::lock::lock;

/// How long an address that was found for a host is believed.
const RESOLVED_FOR: Duration = Duration::from_secs(60);

/// The system's resolver with a memory.
#[derive(Debug, Default)]
pub(super) struct CachingResolver {
    system: DefaultResolver,
    known: Mutex<HashMap<String, (Instant, ResolvedSocketAddrs)>>,
}

impl Resolver for CachingResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        // The system's resolver takes a thread for each question.
        if let Ok(address) = host.parse::<SocketAddr>() {
            let mut addresses = self.empty();
            addresses.push(address);
            return Ok(addresses);
        }
        if let Some((since, addresses)) = lock(&self.known).get(&host)
            && since.elapsed() < RESOLVED_FOR
        {
            return Ok(addresses.clone());
        }
        let addresses = self.system.resolve(uri, config, timeout).map_err(|error| match error {
            // The system's error for an unknown name has no kind of its own.
            ureq::Error::Io(_) => ureq::Error::HostNotFound,
            other => other,
        })?;
        lock(&self.known).insert(host, (Instant::now(), addresses.clone()));
        Ok(addresses)
    }
}
