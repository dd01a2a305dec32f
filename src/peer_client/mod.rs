//! One peer as seen from here: merge, list and fetch over HTTP.
//!
//! A call ends with an answer or a [`CallError`], within the silence limit plus the time in which its answer's body flows,
//! which for lists has a limit too. Nothing is followed (redirects), unpacked (gzip) or sent through a proxy: a peer
//! answers itself or not at all.

mod stall_timeout;

use std::{
    io::{self, BufReader, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ureq::{
    Agent, Body,
    http::{Response, header},
    unversioned::transport::{Connector, TcpConnector},
};

use crate::{auth::Password, error::CallError, fd_limit, file_name::FileName, peer::PeerUrl, protocol};

use stall_timeout::{CachingResolver, Call, ResponseBody, StallTimeout};

/// Idle connections kept over all peers; each is a descriptor here and a place there.
const MAX_IDLE: usize = 64;

/// A peer list or a listing must be whole within so many silence limits: nothing else goes on before it is.
const TIMEOUTS_FOR_A_LIST: u32 = 4;

/// The most bytes of an answer's head.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The buffer in which an answer arrives, one for each connection: hundreds may be open, and larger ones gain nothing.
const INPUT_BYTES: usize = 64 << 10;

/// The buffer from which a call is sent; most calls are shorter.
const OUTPUT_BYTES: usize = 16 << 10;

/// How much is copied at a time.
const PIECE_BYTES: usize = 256 << 10;

/// The media type of a file's own bytes, which our servers send to callers that accept it.
const RAW: &str = "application/octet-stream";

/// Where the content of a file goes.
pub(crate) trait DownloadSink: Write {
    /// Says how many bytes are to come, when that is known beforehand.
    fn expect(&mut self, bytes: u64);
}

/// Calls peers with one password; cheap to clone into threads, which then share its connections.
#[derive(Clone)]
pub(crate) struct PeerClient {
    agent: Agent,
    /// Whether all calls were ended.
    is_over: Arc<AtomicBool>,
    password: Password,
    stall_timeout: Duration,
}

impl PeerClient {
    /// Calls with this password; a peer may be silent for so long. So many connections to one peer are kept for
    /// further calls, and none is kept for 0.
    pub(crate) fn new(password: Password, stall_timeout: Duration, idle_per_peer: usize) -> Self {
        let config = Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("tinyp2p/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("")
            .timeout_resolve(Some(stall_timeout))
            .timeout_connect(Some(stall_timeout))
            .max_response_header_size(MAX_HEAD_BYTES)
            .input_buffer_size(INPUT_BYTES)
            .output_buffer_size(OUTPUT_BYTES)
            .max_idle_connections(if idle_per_peer == 0 { 0 } else { MAX_IDLE.min(fd_limit::available() / 4) })
            .max_idle_connections_per_host(idle_per_peer)
            .build();
        let is_over = Arc::new(AtomicBool::new(false));
        let connector =
            TcpConnector::default().chain(StallTimeout { limit: stall_timeout, is_over: Arc::clone(&is_over) });
        Self {
            agent: Agent::with_parts(config, connector, CachingResolver::default()),
            is_over,
            password,
            stall_timeout,
        }
    }

    /// Op 0: tells `peer` of these peers; what it knows then, as it says it.
    pub(crate) fn exchange_peers<'a>(
        &self,
        peer: &PeerUrl,
        peers: impl IntoIterator<Item = &'a PeerUrl>,
    ) -> Result<Vec<String>, CallError> {
        let call = protocol::write_merge(&self.password.sign(peer.as_str()), peers);
        protocol::read_peers(self.ask_for_list(peer, &call)?)
    }

    /// Op 1: the names in which `peer` finds the pattern, handed over one by one as the bytes that came. A failure of
    /// `each` ends the call.
    pub(crate) fn list(
        &self,
        peer: &PeerUrl,
        pattern: &str,
        each: &mut dyn FnMut(&[u8]) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        let call = protocol::write_list(&self.password.sign(peer.as_str()), pattern);
        protocol::read_listing(self.ask_for_list(peer, &call)?, each)
    }

    fn ask_for_list(&self, peer: &PeerUrl, call: &[u8]) -> Result<BufReader<ResponseBody>, CallError> {
        let answer = self.post(peer, call, "text/xml")?;
        Ok(BufReader::new(ResponseBody::within(answer.into_body(), self.stall_timeout * TIMEOUTS_FOR_A_LIST)))
    }

    /// Op 2: the content of a file into `sink`; its number of bytes. When this fails, a part of it may have landed.
    pub(crate) fn download(
        &self,
        peer: &PeerUrl,
        name: &FileName,
        sink: &mut dyn DownloadSink,
    ) -> Result<u64, CallError> {
        let call = protocol::write_fetch(&self.password.sign(peer.as_str()), name);
        let answer = self.post(peer, &call, "application/octet-stream, text/xml")?;
        let is_raw = answer.headers().get(header::CONTENT_TYPE).is_some_and(|media| media == RAW);
        if answer.headers().contains_key(header::CONTENT_ENCODING) {
            return Err(CallError::Malformed("compressed, which was not asked for".to_owned()));
        }
        // Not as ureq sees it, to which an empty body has no length.
        let length = answer.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let mut body = ResponseBody::new(answer.into_body());
        match length {
            Some(length) if is_raw => {
                sink.expect(length);
                copy(&mut body, length, sink)
            }
            None if is_raw => Err(CallError::Malformed("raw content without a length".to_owned())),
            _ => protocol::read_content(&mut BufReader::with_capacity(PIECE_BYTES, body), sink),
        }
    }

    /// How long a peer may be silent.
    pub(crate) fn stall_timeout(&self) -> Duration {
        self.stall_timeout
    }

    /// Ends all calls, now and in future.
    pub(crate) fn shut_down(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.agent.clone().shutdown();
    }

    /// Posts a call; an answer that is not 200 is a failure.
    ///
    /// A kept connection may have been closed over there in the very moment in which we used it. So a call whose
    /// connection broke before a byte came is made again, on a new connection in the end, and there once more at most:
    /// every op may be repeated.
    fn post(&self, peer: &PeerUrl, call: &[u8], accept: &str) -> Result<Response<Body>, CallError> {
        let mut was_new = false;
        let answer = loop {
            Call::begin();
            let posted = self
                .agent
                .post(format!("{peer}/RPC2"))
                .header(header::CONTENT_TYPE, "text/xml")
                .header(header::ACCEPT, accept)
                .send(call);
            let Call { is_connected, is_reused, has_response_started, .. } = Call::current();
            match posted {
                Err(error) if is_break(&error) && is_connected && !has_response_started && !was_new => {
                    was_new = !is_reused;
                }
                posted => break posted.map_err(|error| self.explain(error))?,
            }
        };
        let media = answer.headers().get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok());
        match answer.status().as_u16() {
            200 if media.is_some_and(|media| media.starts_with("text/html")) => {
                Err(CallError::NotTinyP2p("the answer is a web page"))
            }
            200 => Ok(answer),
            status => Err(CallError::Status(status)),
        }
    }

    fn explain(&self, error: ureq::Error) -> CallError {
        match error {
            ureq::Error::Timeout(_) => CallError::Unreachable(format!(
                "no answer within {} s (is there a firewall in between?)",
                self.stall_timeout.as_secs()
            )),
            ureq::Error::HostNotFound => CallError::Unreachable("the name of the host is unknown".to_owned()),
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                CallError::ConnectionLost("no answer came".to_owned())
            }
            ureq::Error::Io(error) => match CallError::from(error) {
                CallError::ConnectionLost(reason) if !Call::current().is_connected => CallError::Unreachable(reason),
                failure => failure,
            },
            _ => CallError::NotTinyP2p("the answer is not HTTP"),
        }
    }
}

/// Whether a connection broke.
fn is_break(error: &ureq::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error, ureq::Error::Io(error)
        if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
}

/// Copies a body of known length, to its very end: only then is the connection free for the next call.
fn copy(body: &mut dyn Read, length: u64, sink: &mut dyn DownloadSink) -> Result<u64, CallError> {
    let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(length).unwrap_or(PIECE_BYTES).max(1))];
    let mut copied = 0;
    let cut = |copied| CallError::ConnectionLost(format!("after {copied} of {length} bytes"));
    loop {
        match body.read(&mut piece) {
            Ok(0) if copied == length => return Ok(copied),
            Ok(0) => return Err(cut(copied)),
            Ok(count) => {
                sink.write_all(&piece[..count]).map_err(CallError::Local)?;
                copied += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(cut(copied)),
            Err(error) => return Err(CallError::from(error)),
        }
    }
}
