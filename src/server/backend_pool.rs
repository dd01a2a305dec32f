//! The pool of backends: each is leased to one thread for one request.
//!
//! A request takes a spare backend, or a new one, or waits for the next that is free. There are as many as there have
//! been requests at once, up to the limit, and none a few seconds after the last request.

use std::{
    env, io, mem,
    net::IpAddr,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use super::{
    backend::{Backend, CallHandler},
    limits::LogLimit,
    request::Head,
    response::Response,
};
use crate::{
    error::reason,
    escape::Escaped,
    lock::{Semaphore, lock},
};

/// How long a backend stays spare before it is closed: to open one takes 200 us and five threads.
const SPARE_FOR: Duration = Duration::from_secs(5);

/// How often spare backends are looked at, while there are any.
const CLOSE_INTERVAL: Duration = Duration::from_secs(1);

/// The backends of one server.
pub(super) struct BackendPool {
    handle: CallHandler,
    /// A permit for each request that has a backend. A new one is opened only if none is spare, so never are more open.
    requests: Semaphore,
    spare: Mutex<SpareBackends>,
    failure_log: LogLimit,
}

/// The open backends without a request.
#[derive(Default)]
struct SpareBackends {
    /// Each with the moment when it became so, the longest spare first.
    backends: Vec<(Backend, Instant)>,
    /// Whether there is a thread that closes them.
    has_closer: bool,
    /// The connections of all backends that were opened.
    #[cfg(test)]
    streams: Vec<std::os::unix::net::UnixStream>,
}

impl BackendPool {
    /// A pool without any backend. There will be `most` at once; `handle` answers their calls.
    pub(super) fn new(handle: CallHandler, most: usize) -> Arc<Self> {
        let pool =
            Self { handle, requests: Semaphore::new(most), spare: Mutex::default(), failure_log: LogLimit::default() };
        Arc::new(pool)
    }

    /// Has a request answered, with the body that came with its head. Fails when no backend can be opened, and when one
    /// dies of this request.
    pub(super) fn call(self: &Arc<Self>, head: &Head, body: &mut [u8], address: IpAddr) -> io::Result<Response> {
        let _permit = self.requests.acquire();
        let spare = lock(&self.spare).backends.pop();
        let mut backend = match spare {
            Some((backend, _)) => backend,
            None => self.open_backend()?,
        };
        let response = backend.call(head, body, address, &self.handle)?;
        self.give_back(backend);
        Ok(response)
    }

    /// Opens a backend. That none can be opened is logged.
    fn open_backend(&self) -> io::Result<Backend> {
        let backend = Backend::open().inspect_err(|error| self.log_failure(error))?;
        #[cfg(test)]
        lock(&self.spare).streams.push(backend.clone_stream());
        Ok(backend)
    }

    fn log_failure(&self, error: &io::Error) {
        if self.failure_log.check().is_some() {
            let directory = env::temp_dir();
            let directory = directory.to_string_lossy();
            let directory = Escaped(&directory);
            log::error!("could not open a private socket in '{directory}': {}; callers get HTTP 503", reason(error));
        }
    }

    fn give_back(self: &Arc<Self>, backend: Backend) {
        let mut spare = lock(&self.spare);
        spare.backends.push((backend, Instant::now()));
        if mem::replace(&mut spare.has_closer, true) {
            return;
        }
        drop(spare);
        let pool = Arc::clone(self);
        let thread = thread::Builder::new().name("backends".to_owned()).spawn(move || pool.close_spare());
        if let Err(error) = thread {
            log::debug!("no thread to close spare backends: {error}");
            lock(&self.spare).has_closer = false;
        }
    }

    /// Closes backends that have been spare for long, until none is spare.
    fn close_spare(&self) {
        loop {
            // A backend counts until it is closed, for it has its descriptors until then.
            let permit = self.requests.acquire();
            let mut spare = lock(&self.spare);
            let Some((_, since)) = spare.backends.first() else {
                spare.has_closer = false;
                return;
            };
            if since.elapsed() >= SPARE_FOR {
                let oldest = spare.backends.remove(0);
                drop(spare);
                drop(oldest);
            } else {
                drop((spare, permit));
                thread::sleep(CLOSE_INTERVAL);
            }
        }
    }

    /// Closes all spare backends.
    pub(super) fn close(&self) {
        lock(&self.spare).backends.clear();
    }

    /// Returns how many backends are spare.
    #[cfg(test)]
    pub(super) fn count_spare(&self) -> usize {
        lock(&self.spare).backends.len()
    }

    /// Returns how many backends have been opened and not shut down by a test.
    #[cfg(test)]
    pub(super) fn count_opened(&self) -> usize {
        lock(&self.spare).streams.len()
    }

    /// Shuts down the connection of one of the backends that were opened, as if it or the system had died.
    #[cfg(test)]
    pub(super) fn shut_down_one(&self, index: usize, how: std::net::Shutdown) {
        let streams = &mut lock(&self.spare).streams;
        if !streams.is_empty() {
            let stream = streams.swap_remove(index % streams.len());
            // It may have been closed already.
            let _ = stream.shutdown(how);
        }
    }
}
