//! One peer as seen from here: exchange peers, list and download over HTTP.
//!
//! A call ends with a response or a [`CallError`]. To connect, to make a new connection private and to get the head of
//! the response each ends within the stall timeout; so does the body where it does not flow, and for lists it has a limit
//! too. Nothing is followed (redirects), unpacked (gzip) or sent through a proxy: a peer answers itself or not at all.

mod private;
mod resolver;
mod small_window;
mod stall_timeout;

use std::{
    io::{self, BufReader, ErrorKind, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use ureq::{
    Agent, Body,
    config::ConfigBuilder,
    http::{Response, header},
    typestate::AgentScope,
    unversioned::transport::{Connector, TcpConnector},
};

use crate::{
    auth::Password,
    error::{CallError, PrivateError, reason},
    fd_limit,
    file_name::FileName,
    pack::{self, PackError, PackedFile, read_pack},
    peer::PeerUrl,
    protocol::{self, Digest, IndexEntry, Op, Part, RAW_MEDIA_TYPE},
    rate_limit::{Limited, RateLimit},
    secure::SecureClient,
    xmlrpc,
};

use private::{Failed, MakeReady, Privacy, Private, Ready};
use resolver::CachingResolver;
use small_window::SmallWindow;
pub(crate) use stall_timeout::cancellable;
use stall_timeout::{Call, ResponseBody, StallTimeout, is_cancelled, step};

/// Idle connections kept over all peers; each is a descriptor here and a place there.
const MAX_IDLE: usize = 64;

/// A peer list or a listing must be whole within this many stall timeouts: nothing else goes on before it is.
const TIMEOUTS_FOR_A_LIST: u32 = 4;

/// How long a call waits before it is made again to a private server that hung up: it does so while too many callers
/// from one address are about to show that they know the password.
const HUNG_UP_PAUSE: Duration = Duration::from_millis(500);

/// The most bytes of a response's head.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The buffer for what is received, one for each connection: hundreds may be open, and larger ones gain nothing.
const INPUT_BYTES: usize = 64 << 10;

/// The buffer from which a request is sent; most are shorter.
const OUTPUT_BYTES: usize = 16 << 10;

/// The most bytes that are read of an answer in place of a pack.
const MAX_FAULT_BYTES: u64 = 64 << 10;

/// What all downloads together may have received and not read, where a rate limits them: the bytes of a second divided by
/// this. A download has its part of that, so over a long wire one alone of four may be slower than the limit.
const UNREAD_PARTS: u64 = 8;

/// Of more downloads than this the others hardly count, for they wait for their turn.
const MAX_CALLS: usize = 4;

/// How much is copied at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Where the content of a file goes.
pub(crate) trait DownloadSink: Write {
    /// Says how many bytes are to come, when that is known beforehand.
    fn expect(&mut self, bytes: u64);

    /// Says when the file was last modified, when the peer tells it.
    fn set_modified(&mut self, time: SystemTime);

    /// Says which state of which file it is, when the peer tells it: then it knows parts and digests, too.
    fn set_version(&mut self, version: &str);
}

/// Calls peers with one password; cheap to clone into threads, which then share its connections.
#[derive(Clone)]
pub(crate) struct PeerClient {
    agent: Agent,
    /// Fetches content: with a limit on connections of its own, which take little before it is read.
    content_agent: Agent,
    /// Makes connections ready that `agent` then uses.
    ready_agent: Agent,
    /// Whether all calls were ended.
    is_over: Arc<AtomicBool>,
    password: Password,
    stall_timeout: Duration,
    /// Limits the content that is received.
    limit: Option<RateLimit>,
}

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

impl PeerClient {
    /// Calls with this password; a peer may stall for this long. Nothing of a call is kept for the next.
    pub(crate) fn new(password: Password, stall_timeout: Duration) -> Self {
        Self::build(password, stall_timeout, 0, None, 1, None)
    }

    /// Makes the calls of one run: this many connections to one peer are kept for further calls, and a peer with which
    /// one did not become private is not called again. Limits the content of all downloads together, of which this
    /// number runs at once.
    pub(crate) fn for_run(
        password: Password,
        stall_timeout: Duration,
        idle_per_peer: usize,
        limit: Option<RateLimit>,
        downloads: usize,
    ) -> Self {
        Self::build(password, stall_timeout, idle_per_peer, limit, downloads, Some(Arc::default()))
    }

    fn build(
        password: Password,
        stall_timeout: Duration,
        idle_per_peer: usize,
        limit: Option<RateLimit>,
        downloads: usize,
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
        let content_agent = limit.as_ref().map_or_else(
            || agent.clone(),
            |limit| {
                let unread = limit.rate() / UNREAD_PARTS / downloads.clamp(1, MAX_CALLS) as u64;
                let window = SmallWindow::new(usize::try_from(unread).unwrap_or(usize::MAX));
                let config = config().input_buffer_size(limit.piece().max(MAX_HEAD_BYTES)).build();
                let connector = window.chain(TcpConnector::default());
                let private = Private { connector, privacy: privacy.clone(), ready: Ready::default() };
                Agent::with_parts(config, private.chain(stalls()), CachingResolver::default())
            },
        );
        Self { agent, content_agent, ready_agent, is_over, password, stall_timeout, limit }
    }

    /// Begins to make this many connections to a private peer ready, on threads of their own, for calls that follow.
    /// Not where a limit holds: downloads then have connections of their own.
    pub(crate) fn make_ready(&self, peer: &PeerUrl, connections: usize) {
        if !peer.is_private() || self.limit.is_some() {
            return;
        }
        for _ in 0..connections {
            let (agent, url) = (self.ready_agent.clone(), peer.to_string());
            let thread = thread::Builder::new().name("handshake".to_owned());
            // It ends without a call; where it fails, the call makes a connection of its own.
            let _ = thread.spawn(move || drop(agent.get(url).call()));
        }
    }

    /// Op 0: tells `peer` of these peers, and returns what it knows then, as it says it.
    pub(crate) fn exchange_peers<'a>(
        &self,
        peer: &PeerUrl,
        peers: impl IntoIterator<Item = &'a PeerUrl>,
    ) -> Result<Vec<String>, CallError> {
        let op = Op::ExchangePeers(peers.into_iter().map(|peer| peer.as_str().to_owned()).collect());
        Ok(protocol::read_peers(self.post_for_list(peer, &op)?)?)
    }

    /// Op 1: the names in which `peer` finds the pattern, handed over one by one as the bytes that came. A failure of
    /// `each` ends the call.
    pub(crate) fn list(
        &self,
        peer: &PeerUrl,
        pattern: &str,
        each: &mut dyn FnMut(&[u8]) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        protocol::read_listing(self.post_for_list(peer, &Op::List(pattern.to_owned()))?, each)
    }

    /// Op 1 with an array: the files in whose names `peer` finds the pattern, with sizes and ages, handed over like the
    /// names of [`list`](Self::list); how many. Peers that know no index answer with a failure, or with none.
    pub(crate) fn index(
        &self,
        peer: &PeerUrl,
        pattern: &str,
        each: impl FnMut(IndexEntry<&[u8]>) -> Result<(), CallError>,
    ) -> Result<usize, CallError> {
        protocol::read_index(self.post_for_list(peer, &Op::Index(pattern.to_owned()))?, each)
    }

    /// Op 4: hands over each file of a pack with a reader of its content; see [`read_pack`]. What was handed over whole
    /// is good even if this fails. A failure of `each` ends the call.
    pub(crate) fn download_pack<'a>(
        &self,
        peer: &PeerUrl,
        names: impl IntoIterator<Item = &'a FileName>,
        each: impl FnMut(PackedFile, &mut dyn Read) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        let op = Op::Pack(names.into_iter().map(|name| name.as_str().into()).collect());
        let response = self.post(&self.content_agent, peer, &op, "application/x-tar, text/xml", None)?;
        check_encoding(&response)?;
        let is_pack = header_text(&response, header::CONTENT_TYPE) == Some(pack::MEDIA_TYPE);
        let body = self.content(response);
        if !is_pack {
            // A fault, most likely.
            let reply = BufReader::new(body.take(MAX_FAULT_BYTES));
            protocol::read_content(reply, &mut io::sink())?;
            return Err(CallError::Malformed("not a pack".to_owned()));
        }
        // To its very end: only then is the connection free for the next call.
        read_pack(&mut BufReader::with_capacity(INPUT_BYTES, body), each)
    }

    /// Op 3: the digest of a part, of at most [`MAX_DIGEST_BYTES`](protocol::MAX_DIGEST_BYTES), and what the file is now.
    pub(crate) fn digest(&self, peer: &PeerUrl, name: &FileName, part: Part) -> Result<Digest, CallError> {
        let op = Op::Digest(name.as_str().into(), part);
        Ok(protocol::read_digest(self.post_for_list(peer, &op)?)?)
    }

    /// The body of a response that is content, received within the limit.
    fn content(&self, response: Response<Body>) -> Limited<ResponseBody> {
        Limited {
            inner: ResponseBody(response.into_body().into_reader()),
            transfer: self.limit.as_ref().map(RateLimit::begin),
        }
    }

    fn post_for_list(&self, peer: &PeerUrl, op: &Op) -> Result<BufReader<ResponseBody>, CallError> {
        let response = self.post(&self.agent, peer, op, "text/xml", Some(self.stall_timeout * TIMEOUTS_FOR_A_LIST))?;
        Ok(BufReader::new(ResponseBody(response.into_body().into_reader())))
    }

    /// Op 2: writes the content of a file, or of a part of it, into `sink`, and returns its number of bytes. When this
    /// fails, a part of it may have been written.
    pub(crate) fn download(
        &self,
        peer: &PeerUrl,
        name: &FileName,
        part: Option<Part>,
        sink: &mut dyn DownloadSink,
    ) -> Result<u64, CallError> {
        let op = Op::Fetch(name.as_str().into(), part);
        let response = self.post(&self.content_agent, peer, &op, "application/octet-stream, text/xml", None)?;
        check_encoding(&response)?;
        let is_raw = header_text(&response, header::CONTENT_TYPE) == Some(RAW_MEDIA_TYPE);
        // Not as ureq sees it, to which an empty body has no length.
        let length = header_text(&response, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let modified =
            header_text(&response, header::LAST_MODIFIED).and_then(|text| httpdate::parse_http_date(text).ok());
        if is_raw && let Some(time) = modified {
            sink.set_modified(time);
        }
        let version = header_text(&response, header::ETAG);
        if is_raw && let Some(version) = version.and_then(|text| text.strip_prefix('"')?.strip_suffix('"')) {
            sink.set_version(version);
        }
        let mut body = self.content(response);
        match length {
            _ if !is_raw => Ok(protocol::read_content(BufReader::with_capacity(PIECE_BYTES, body), sink)?),
            Some(length) => {
                sink.expect(length);
                copy(&mut body, length, sink)
            }
            None => Err(CallError::Malformed("raw content without a length".to_owned())),
        }
    }

    /// Ends all calls, now and in future.
    pub(crate) fn shut_down(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.limit.iter().for_each(RateLimit::end);
        self.agent.clone().shutdown();
        self.content_agent.clone().shutdown();
        self.ready_agent.clone().shutdown();
    }

    /// Posts a call, whose response may take this long after its head; one that is not 200 is a failure.
    ///
    /// A kept connection may have been closed over there in the very moment in which we used it. So a call whose
    /// connection broke before a byte came is made again, on a new connection in the end, and there once more at most:
    /// every op may be repeated. A private server that hangs up before it has shown that it knows the password is called
    /// again until half of the stall timeout has passed.
    fn post(
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

impl From<xmlrpc::Error> for CallError {
    fn from(error: xmlrpc::Error) -> Self {
        match error {
            xmlrpc::Error::Io(error) => Self::from(error),
            xmlrpc::Error::Sink(error) => Self::Local(error),
            xmlrpc::Error::Malformed(_) => Self::Malformed(error.to_string()),
            xmlrpc::Error::TooLarge(_) => Self::TooLarge(error.to_string()),
            xmlrpc::Error::False => Self::Refused,
            xmlrpc::Error::Fault(fault) => Self::Fault(fault.text),
        }
    }
}

impl From<PackError> for CallError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Read(error) => Self::from(error),
            PackError::Malformed(_) => Self::Malformed(error.to_string()),
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

fn check_encoding(response: &Response<Body>) -> Result<(), CallError> {
    if response.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(CallError::Malformed("compressed, which was not asked for".to_owned()));
    }
    Ok(())
}

fn header_text(response: &Response<Body>, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

/// Copies a body of known length, to its very end: only then is the connection free for the next call.
pub(crate) fn copy(body: &mut dyn Read, length: u64, sink: &mut dyn DownloadSink) -> Result<u64, CallError> {
    let mut piece = vec![0; usize::try_from(length).unwrap_or(PIECE_BYTES).clamp(1, PIECE_BYTES)];
    let mut copied = 0;
    loop {
        match body.read(&mut piece) {
            Ok(0) if copied == length => return Ok(copied),
            Ok(count @ 1..) => {
                sink.write_all(&piece[..count]).map_err(CallError::Local)?;
                copied += count as u64;
            }
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(CallError::from(error)),
            _ => return Err(CallError::ConnectionLost(format!("after {copied} of {length} bytes"))),
        }
    }
}
