//! One peer as seen from here: exchange peers, list and download over HTTP.
//!
//! A call ends with a response or a [`CallError`]. To connect, to make a new connection private and to get the head of
//! the response each ends within the stall timeout; so does the body where it does not flow, and for lists it has a limit
//! too. Nothing is followed (redirects), unpacked (gzip) or sent through a proxy: a peer answers itself or not at all.

mod http;
mod private;
mod resolver;
mod small_window;
mod stall_timeout;

use std::{
    io::{self, BufReader, ErrorKind, Read, Write},
    time::{Duration, SystemTime},
};

use ureq::{
    Body,
    http::{Response, header},
};

use crate::{
    auth::Password,
    error::CallError,
    file_name::FileName,
    pack::{self, PackError, PackedFile, read_pack},
    peer::PeerUrl,
    protocol::{self, Digest, IndexEntry, Op, Part, RAW_MEDIA_TYPE},
    rate_limit::{Limited, RateLimit},
    xmlrpc,
};

use http::Http;
use private::Failed;
use stall_timeout::ResponseBody;
pub(crate) use stall_timeout::cancellable;

/// A peer list or a listing must be whole within this many stall timeouts: nothing else goes on before it is.
const TIMEOUTS_FOR_A_LIST: u32 = 4;

/// The buffer for what is received, one for each connection: hundreds may be open, and larger ones gain nothing.
const INPUT_BYTES: usize = 64 << 10;

/// The most bytes that are read of an answer in place of a pack.
const MAX_FAULT_BYTES: u64 = 64 << 10;

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
    http: Http,
    /// Limits the content that is received.
    limit: Option<RateLimit>,
}

impl PeerClient {
    /// Calls with this password; a peer may stall for this long. Nothing of a call is kept for the next.
    pub(crate) fn new(password: Password, stall_timeout: Duration) -> Self {
        Self { http: Http::new(password, stall_timeout, 0, None, None), limit: None }
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
        let failed = Some(Failed::default());
        let limited = limit.as_ref().map(|limit| (limit, downloads));
        Self { http: Http::new(password, stall_timeout, idle_per_peer, limited, failed), limit }
    }

    /// Begins to make this many connections to a private peer ready, on threads of their own, for calls that follow.
    /// Not where a limit holds: downloads then have connections of their own.
    pub(crate) fn make_ready(&self, peer: &PeerUrl, connections: usize) {
        if peer.is_private() && self.limit.is_none() {
            (0..connections).for_each(|_| self.http.make_ready(peer));
        }
    }

    /// Ends all calls, now and in future.
    pub(crate) fn shut_down(&self) {
        self.http.shut_down();
        self.limit.iter().for_each(RateLimit::end);
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
        let response = self.http.post(&self.http.content_agent, peer, &op, "application/x-tar, text/xml", None)?;
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
        let limit = Some(self.http.stall_timeout * TIMEOUTS_FOR_A_LIST);
        let response = self.http.post(&self.http.agent, peer, op, "text/xml", limit)?;
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
        let response =
            self.http.post(&self.http.content_agent, peer, &op, "application/octet-stream, text/xml", None)?;
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
