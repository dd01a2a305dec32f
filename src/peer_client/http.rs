//! How calls are made: the connections, which call is made again, and what a failure of a connection means.

use std::{
    io::{self, ErrorKind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ureq::{
    Agent, Body,
    config::ConfigBuilder,
    http::{Response, header},
    typestate::AgentScope,
    unversioned::transport::{Connector, TcpConnector},
};

use super::{
    INPUT_BYTES, header_text,
    private::{Failed, MakeReady, Privacy, Private, Ready},
    resolver::CachingResolver,
    small_window::SmallWindow,
    stall_timeout::{Call, StallTimeout, is_cancelled, step},
};
use crate::{
    auth::Password,
    error::{CallError, PrivateError, reason},
    fd_limit,
    peer::PeerUrl,
    protocol::{self, Op},
    rate_limit::RateLimit,
    secure::SecureClient,
};

/// Idle connections kept over all peers; each is a descriptor here and a place there.
const MAX_IDLE: usize = 64;

/// How long a call waits before it is made again to a private server that hung up: it does so while too many callers
/// from one address are about to show that they know the password.
const HUNG_UP_PAUSE: Duration = Duration::from_millis(500);

/// The most bytes of a response's head.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The buffer from which a request is sent; most are shorter.
const OUTPUT_BYTES: usize = 16 << 10;

/// What all downloads together may have received and not read, where a rate limits them: the bytes of a second divided by
/// this. A download has its part of that, so over a long wire one alone of four may be slower than the limit.
const UNREAD_PARTS: u64 = 8;

/// Of more downloads than this the others hardly count, for they wait for their turn.
const MAX_CALLS: usize = 4;

/// How all calls are made.
fn config(stall_timeout: Duration, idle_per_peer: usize) -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("tinyp2p/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("")
        .timeout_resolve(Some(stall_timeout))
        .timeout_connect(Some(stall_timeout))
        .timeout_per_write(Some(stall_timeout))
        .timeout_per_read(Some(step(stall_timeout)))
        .max_response_header_size(MAX_HEAD_BYTES)
        .input_buffer_size(INPUT_BYTES)
        .output_buffer_size(OUTPUT_BYTES)
        .max_idle_connections(MAX_IDLE.min(fd_limit::available() / 4))
        .max_idle_connections_per_host(idle_per_peer)
}

/// The connections of a client, which its clones share.
#[derive(Clone)]
pub(super) struct Http {
    pub(super) agent: Agent,
    /// Fetches content: with a limit on connections of its own, which take little before it is read.
    pub(super) content_agent: Agent,
    /// Makes connections ready that `agent` then uses.
    ready_agent: Agent,
    /// Whether all calls were ended.
    is_over: Arc<AtomicBool>,
    password: Password,
    pub(super) stall_timeout: Duration,
}

impl Http {
    /// This many connections to one peer are kept for further calls. With `failed` a peer with which one did not become
    /// private is not called again. Content is received within a limit, of which this number of downloads takes a part.
    pub(super) fn new(
        password: Password,
        stall_timeout: Duration,
        idle_per_peer: usize,
        limited: Option<(&RateLimit, usize)>,
        failed: Option<Failed>,
    ) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let stalls = || StallTimeout { limit: stall_timeout, is_over: Arc::clone(&is_over) };
        let config = || config(stall_timeout, idle_per_peer);
        let privacy = Privacy {
            secure: SecureClient::new(password.clone()),
            limit: stall_timeout,
            is_over: Arc::clone(&is_over),
            failed,
        };
        let ready = Ready::default();
        let private =
            || Private { connector: TcpConnector::default(), privacy: privacy.clone(), ready: Arc::clone(&ready) };
        let agent = Agent::with_parts(config().build(), private().chain(stalls()), CachingResolver::default());
        let ready_agent = Agent::with_parts(config().build(), MakeReady(private()), CachingResolver::default());
        let content_agent = limited.map_or_else(
            || agent.clone(),
            |(limit, downloads)| {
                let unread = limit.rate() / UNREAD_PARTS / downloads.clamp(1, MAX_CALLS) as u64;
                let window = SmallWindow::new(usize::try_from(unread).unwrap_or(usize::MAX));
                let config = config().input_buffer_size(limit.piece().max(MAX_HEAD_BYTES)).build();
                let connector = window.chain(TcpConnector::default());
                let private = Private { connector, privacy: privacy.clone(), ready: Ready::default() };
                Agent::with_parts(config, private.chain(stalls()), CachingResolver::default())
            },
        );
        Self { agent, content_agent, ready_agent, is_over, password, stall_timeout }
    }

    /// Begins to make a connection to a private peer ready, on a thread of its own.
    pub(super) fn make_ready(&self, peer: &PeerUrl) {
        let (agent, url) = (self.ready_agent.clone(), peer.to_string());
        let thread = thread::Builder::new().name("handshake".to_owned());
        // It ends without a call; where it fails, the call makes a connection of its own.
        let _ = thread.spawn(move || drop(agent.get(url).call()));
    }

    pub(super) fn shut_down(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        for agent in [&self.agent, &self.content_agent, &self.ready_agent] {
            agent.clone().shutdown();
        }
    }

    /// Posts a call, whose response may take this long after its head; one that is not 200 is a failure.
    ///
    /// A kept connection may have been closed over there in the very moment in which we used it. So a call whose
    /// connection broke before a byte came is made again, on a new connection in the end, and there once more at most:
    /// every op may be repeated. A private server that hangs up before it has shown that it knows the password is called
    /// again until half of the stall timeout has passed.
    pub(super) fn post(
        &self,
        agent: &Agent,
        peer: &PeerUrl,
        op: &Op,
        accept: &str,
        limit: Option<Duration>,
    ) -> Result<Response<Body>, CallError> {
        let body = protocol::write_call(&self.password.sign(peer.as_str()), op);
        let (begun, mut was_new) = (Instant::now(), false);
        let response = loop {
            if is_cancelled() {
                return Err(CallError::NoAnswer("the call was cancelled".to_owned()));
            }
            Call::begin();
            let request = agent.post(format!("{peer}/RPC2")).config().timeout_recv_body(limit).build();
            let posted = request.header(header::CONTENT_TYPE, "text/xml").header(header::ACCEPT, accept).send(&body);
            let call = Call::current();
            match posted {
                Err(ureq::Error::Io(error)) if is_break(&error) && !call.has_response_started && !was_new => {
                    was_new = !call.is_reused;
                }
                Err(error)
                    if private_failure(&error) == Some(PrivateError::HungUp)
                        && begun.elapsed() < self.stall_timeout / 2 =>
                {
                    log::debug!("{peer} hung up; calling again in a moment");
                    self.pause(HUNG_UP_PAUSE);
                }
                posted => break posted.map_err(|error| self.explain(error, call))?,
            }
        };
        let media = header_text(&response, header::CONTENT_TYPE);
        match response.status().as_u16() {
            200 if media.is_some_and(|media| media.starts_with("text/html")) => {
                Err(CallError::NotTinyP2p("the answer is a web page"))
            }
            200 => Ok(response),
            status => Err(CallError::Status(status)),
        }
    }

    /// Waits this long, or until the calls are to end.
    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !is_cancelled() && !self.is_over.load(Ordering::Relaxed) {
            thread::sleep(step(self.stall_timeout).min(time));
        }
    }

    fn explain(&self, error: ureq::Error, call: Call) -> CallError {
        if let Some(failure) = private_failure(&error) {
            return CallError::Private(failure);
        }
        match error {
            ureq::Error::Timeout(_) => {
                let seconds = self.stall_timeout.as_secs();
                CallError::Unreachable(format!("no answer within {seconds} s (is there a firewall in between?)"))
            }
            ureq::Error::HostNotFound => CallError::Unreachable("the name of the host is unknown".to_owned()),
            ureq::Error::Io(error) if is_break(&error) && call.has_response_started => {
                CallError::ConnectionLost("no whole answer came".to_owned())
            }
            ureq::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
                CallError::NoAnswer("no answer came".to_owned())
            }
            ureq::Error::Io(error) if is_break(&error) => CallError::NoAnswer(reason(&error)),
            // Bytes that are not what the peer has encrypted.
            ureq::Error::Io(error) if error.kind() == ErrorKind::InvalidData => CallError::from(error),
            ureq::Error::Io(error) => match CallError::from(error) {
                CallError::ConnectionLost(reason) => CallError::Unreachable(reason),
                failure => failure,
            },
            _ => CallError::NotTinyP2p("the answer is not HTTP"),
        }
    }
}

/// Why a connection did not become private, if that is it.
fn private_failure(error: &ureq::Error) -> Option<PrivateError> {
    let ureq::Error::Io(error) = error else { return None };
    error.get_ref()?.downcast_ref().copied()
}

/// Whether a connection broke that was there.
fn is_break(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
