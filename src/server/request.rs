//! Reads one request: whole, bounded, and in our own words.
//!
//! Whatever a stranger sends becomes a [`Head`] of at most 16 KiB and a body of at most 1 MiB, or a [`Refusal`]. No
//! byte of the stranger's head goes further than this file, but for a method and a target of plain ASCII.

use std::io::{self, Read};

use super::{
    handler::{Accepts, BUSY_STATUS, BUSY_TEXT},
    limits::{MemoryBudget, MemoryPermit},
};
use crate::{pack, protocol::RAW_MEDIA_TYPE};

/// The longest head in bytes; what any client sends is below 1 KiB.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The most headers; any client sends fewer than 20.
const MAX_HEADERS: usize = 100;

/// The longest body in bytes: exchanging as many peers as a list holds takes half of it.
const MAX_BODY_BYTES: usize = 1 << 20;

/// The longest body in bytes that takes nothing of the memory budget. A server sends 1,024 peers at once, which is a
/// little less: strangers who hold the budget must not stop that.
const SMALL_BODY_BYTES: usize = 64 << 10;

/// How many bytes of a long body are read, and taken from the memory budget, at a time.
const BODY_PIECE_BYTES: usize = 64 << 10;

/// The longest body in bytes of a request that may be answered beside any number of others.
const MAX_SMALL_REQUEST_BYTES: usize = 16 << 10;

/// The refusal of a request that cannot be served; its connection is closed afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Status code and reason, as they stand in the status line.
    pub(super) status: &'static str,
    /// What helps whoever reads it.
    pub(super) text: &'static str,
}

/// Why there is no request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RequestError {
    /// The connection ended between two requests, or broke.
    Ended,
    /// It is answered with this.
    Refused(Refusal),
}

impl From<io::Error> for RequestError {
    /// Takes [`io::ErrorKind::TimedOut`] for the end of the request timeout; sockets themselves fail otherwise.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => refuse("408 Request Timeout", "the request took too long"),
            _ => Self::Ended,
        }
    }
}

const fn refuse(status: &'static str, text: &'static str) -> RequestError {
    RequestError::Refused(Refusal { status, text })
}

const fn bad_request(text: &'static str) -> RequestError {
    refuse("400 Bad Request", text)
}

/// The answer to a request for which there is no room at the moment.
pub(super) const BUSY: Refusal = Refusal { status: BUSY_STATUS, text: BUSY_TEXT };

const TOO_LONG: RequestError = refuse("431 Request Header Fields Too Large", "the head of the request is too long");
const INCOMPLETE: RequestError = bad_request("the request is incomplete");

/// What matters of a request's head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// A token, in the case it was sent in.
    pub(super) method: String,
    /// Begins with a slash; visible ASCII.
    pub(super) target: String,
    /// The length of the body in bytes, at most 1 MiB.
    pub(super) length: usize,
    /// The connection ends after the answer: the caller said so or speaks HTTP/1.0.
    pub(super) closes: bool,
    /// The caller waits for `100 Continue`.
    pub(super) expects_continue: bool,
    /// The caller knows no chunks.
    pub(super) is_http_1_0: bool,
    pub(super) accepts: Accepts,
}

/// Reads a head. `unread` is what has arrived and was not used; what follows the head is left in it.
pub(super) fn read_head(from: &mut impl Read, unread: &mut Vec<u8>) -> Result<Head, RequestError> {
    loop {
        if let Some((head, length)) = parse_head(&unread[..unread.len().min(MAX_HEAD_BYTES)])? {
            unread.drain(..length);
            return Ok(head);
        }
        if unread.len() >= MAX_HEAD_BYTES {
            return Err(TOO_LONG);
        }
        let had = unread.len();
        unread.resize(had + MAX_HEAD_BYTES, 0);
        let read = from.read(&mut unread[had..]);
        unread.truncate(had + *read.as_ref().unwrap_or(&0));
        if read? == 0 {
            // Some old clients send a blank line after a body.
            return Err(if unread.trim_ascii().is_empty() { RequestError::Ended } else { INCOMPLETE });
        }
    }
}

/// Returns what matters of a head and its length in bytes, or nothing if it has not arrived whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, RequestError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let end = match request.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(refuse("431 Request Header Fields Too Large", "the request has too many headers"));
        }
        Err(httparse::Error::Version) => return Err(bad_request("this server speaks HTTP/1.1 and HTTP/1.0")),
        Err(_) => return Err(bad_request("this is not an HTTP request")),
    };
    let mut lines = bytes[..end].split_inclusive(|&byte| byte == b'\n');
    if !lines.all(|line| line.ends_with(b"\r\n")) {
        return Err(bad_request("a line of the head does not end in CR LF"));
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(INCOMPLETE);
    };
    if !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad_request("the target of a request begins with a slash and is plain ASCII"));
    }
    let mut head = Head {
        method: method.to_owned(),
        target: target.to_owned(),
        length: 0,
        closes: version == 0,
        expects_continue: false,
        is_http_1_0: version == 0,
        accepts: Accepts::default(),
    };
    let mut length = None;
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("Content-Length") {
            if length.replace(parse_length(header.value)?).is_some() {
                return Err(bad_request("the length is given twice"));
            }
        } else if is("Transfer-Encoding") {
            return Err(refuse_encoding(header.value));
        } else if is("Expect") {
            if !header.value.eq_ignore_ascii_case(b"100-continue") {
                return Err(refuse("417 Expectation Failed", "only 100-continue can be expected"));
            }
            // Callers that speak HTTP/1.0 do not know the answer, and do not wait for it.
            head.expects_continue = version == 1;
        } else if is("Connection") {
            head.closes |= list_elements(header.value).any(|option| option.eq_ignore_ascii_case(b"close"));
        } else if is("Accept") {
            head.accepts.raw |= list_elements(header.value).any(|range| names_media(range, RAW_MEDIA_TYPE));
            head.accepts.pack |= list_elements(header.value).any(|range| names_media(range, pack::MEDIA_TYPE));
        }
    }
    head.length = match length {
        Some(length) => length,
        None if method == "POST" => return Err(refuse("411 Length Required", "a call needs a Content-Length")),
        None => 0,
    };
    Ok(Some((head, end)))
}

fn parse_length(value: &[u8]) -> Result<usize, RequestError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad_request("the length is not a number"));
    }
    let length = str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
    length
        .filter(|&length| length <= MAX_BODY_BYTES)
        .ok_or(refuse("413 Content Too Large", "a call may have 1 MiB at most"))
}

fn refuse_encoding(value: &[u8]) -> RequestError {
    if value.eq_ignore_ascii_case(b"chunked") {
        refuse("411 Length Required", "a call needs a Content-Length; chunks are not taken")
    } else {
        refuse("501 Not Implemented", "no transfer encoding is taken")
    }
}

/// The elements of a header whose value is a list.
fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether a media range is this type itself and not refused with a quality of zero.
fn names_media(range: &[u8], media_type: &str) -> bool {
    let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    parts.next().is_some_and(|media| media.eq_ignore_ascii_case(media_type.as_bytes()))
        && !parts.any(|parameter| {
            let quality = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="));
            quality.is_some_and(|quality| quality.iter().all(|byte| b"0.".contains(byte)))
        })
}

/// A whole request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    /// What the body holds of the memory budget.
    pub(super) memory: MemoryPermit,
}

impl Request {
    /// Whether it is one of those of which only a few are answered at once: what tells of hundreds of peers.
    pub(super) fn is_large(&self) -> bool {
        self.body.len() > MAX_SMALL_REQUEST_BYTES
    }
}

/// Reads a body of the length that its head announced, first from `unread`, and returns what it holds of the budget.
pub(super) fn read_body(
    from: &mut impl Read,
    unread: &mut Vec<u8>,
    length: usize,
    budget: &MemoryBudget,
) -> Result<(Vec<u8>, MemoryPermit), RequestError> {
    let mut body: Vec<u8> = unread.drain(..length.min(unread.len())).collect();
    let mut memory = budget.permit();
    while body.len() < length {
        let missing = length - body.len();
        let piece = if length > SMALL_BODY_BYTES { missing.min(BODY_PIECE_BYTES) } else { missing };
        if length > SMALL_BODY_BYTES && !memory.grow(piece) {
            return Err(RequestError::Refused(BUSY));
        }
        body.reserve_exact(piece);
        if from.by_ref().take(piece as u64).read_to_end(&mut body)? < piece {
            return Err(INCOMPLETE);
        }
    }
    Ok((body, memory))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{server::limits::MEMORY_BUDGET_BYTES, support::ChunkedReader};

    /// Returns a request and what follows it, or why there is none.
    fn read(bytes: &[u8], sizes: &[usize]) -> Result<(Head, Vec<u8>, Vec<u8>), RequestError> {
        let mut from = ChunkedReader::with_sizes(bytes, sizes);
        let (mut unread, budget) = (Vec::new(), MemoryBudget::new());
        let head = read_head(&mut from, &mut unread)?;
        let (body, _) = read_body(&mut from, &mut unread, head.length, &budget)?;
        assert_eq!(budget.left(), MEMORY_BUDGET_BYTES);
        unread.extend_from_slice(from.rest());
        Ok((head, body, unread))
    }

    fn refused(bytes: &[u8]) -> String {
        match read(bytes, &[usize::MAX]) {
            Err(RequestError::Refused(refusal)) => refusal.status[..3].to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_call_is_read_with_what_matters_of_its_head() {
        let bytes = b"\r\nPOST /RPC2 HTTP/1.1\r\nHost: caf\xe9\r\ncontent-LENGTH:  3 \r\nUpgrade: h2c\r\nConnection: Upgrade, CLOSE\r\n\
                      Expect: 100-Continue\r\nAccept: text/xml, Application/Octet-Stream;q=0.5\r\n\r\nabcGET";
        let (head, body, rest) = read(bytes, &[7]).unwrap();
        let expected = Head {
            method: "POST".into(),
            target: "/RPC2".into(),
            length: 3,
            closes: true,
            expects_continue: true,
            is_http_1_0: false,
            accepts: Accepts { raw: true, pack: false },
        };
        assert_eq!(head, expected);
        assert_eq!((&*body, &*rest), (&b"abc"[..], &b"GET"[..]));
    }

    #[test]
    fn what_is_bad_is_refused_with_the_status_that_helps() {
        let post = |headers: &str| refused(format!("POST / HTTP/1.1\r\n{headers}\r\n").as_bytes());
        for (headers, status) in [
            ("", "411"),
            ("Content-Length: \r\n", "400"),
            ("Content-Length: -1\r\n", "400"),
            ("Content-Length: +1\r\n", "400"),
            ("Content-Length: 0x1\r\n", "400"),
            ("Content-Length: 1, 1\r\n", "400"),
            ("Content-Length: 0\r\nContent-Length: 0\r\n", "400"),
            ("Content-Length: 5\r\n", "400"),
            ("Content-Length: 1048577\r\n", "413"),
            ("Content-Length: 30000000000\r\n", "413"),
            ("Content-Length: 99999999999999999999999999999\r\n", "413"),
            ("Transfer-Encoding: chunked\r\n", "411"),
            ("transfer-encoding:CHUNKED\r\nContent-Length: 0\r\n", "411"),
            ("Transfer-Encoding: gzip, chunked\r\n", "501"),
            ("Transfer-Encoding: \x0bchunked\r\n", "400"),
            ("Transfer-Encoding : chunked\r\n", "400"),
            ("Content-Length: 0\r\n Transfer-Encoding: chunked\r\n", "400"),
            ("Content-Length: 0\r\nExpect: wonders\r\n", "417"),
            ("no colon\r\n", "400"),
            ("A: \0\r\n", "400"),
        ] {
            assert_eq!(post(headers), status, "{headers:?}");
        }
        for (bytes, status) in [
            (&b"POST / HTTP/1.1\nContent-Length: 0\n\n"[..], "400"),
            (b"POST / HTTP/1.1\r\nContent-Length: 0\n\r\n", "400"),
            (b"\n\n\nGET / HTTP/1.1\r\n\r\n", "400"),
            (b"\0", "400"),
            (b"POST / HTTP/1.1\r\nContent-Le", "400"),
            (b"POST /\r\n\r\n", "400"),
            (b"GET / HTTP/2.0\r\n\r\n", "400"),
            (b"PRI * HTTP/2.0\r\n\r\n", "400"),
            (b"OPTIONS * HTTP/1.1\r\n\r\n", "400"),
            (b"GET http://a/ HTTP/1.1\r\n\r\n", "400"),
            (b"CONNECT a:1 HTTP/1.1\r\n\r\n", "400"),
            (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", "400"),
            (b"GET /a b HTTP/1.1\r\n\r\n", "400"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
        ] {
            assert_eq!(refused(bytes), status, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn heads_are_bounded_in_length_and_number() {
        let head = |length: usize| {
            let fixed = "GET / HTTP/1.1\r\nA: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(length - fixed))
        };
        assert!(read(head(MAX_HEAD_BYTES).as_bytes(), &[1000]).is_ok());
        assert_eq!(refused(head(MAX_HEAD_BYTES + 1).as_bytes()), "431");
        assert_eq!(refused(format!("GET /{}", "a".repeat(1 << 20)).as_bytes()), "431");
        assert_eq!(refused(format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(3000)).as_bytes()), "431");
        let many = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert!(read(many(100).as_bytes(), &[1000]).is_ok());
        assert_eq!(refused(many(101).as_bytes()), "431");
    }

    #[test]
    fn a_connection_that_ends_between_requests_is_no_bad_request() {
        assert_eq!(read(b"", &[1]), Err(RequestError::Ended));
        assert_eq!(read(b"\r\n", &[1]), Err(RequestError::Ended));
        assert_eq!(refused(&b"\r\n".repeat(100_000)), "431");
    }

    #[test]
    fn octets_and_packs_are_accepted_only_where_they_are_named() {
        for (accept, raw, pack) in [
            ("application/octet-stream", true, false),
            ("text/xml;q=0.1 , APPLICATION/octet-stream ; q=0.01", true, false),
            ("application/x-tar", false, true),
            ("text/xml, application/X-TAR; q=0.5", false, true),
            ("application/x-tar,application/octet-stream", true, true),
            ("application/x-tar\r\nAccept: application/octet-stream", true, true),
            ("application/x-tar;q=0, application/octet-stream", true, false),
            ("*/*", false, false),
            ("application/*", false, false),
            ("application/octet-stream;q=0", false, false),
            ("application/octet-stream; Q=0.000", false, false),
            ("application/octet-streams", false, false),
            ("application/x-tar-gz, x-tar", false, false),
            ("", false, false),
        ] {
            let bytes = format!("POST / HTTP/1.0\r\nContent-Length: 0\r\nAccept: {accept}\r\n\r\n");
            assert_eq!(read(bytes.as_bytes(), &[100]).unwrap().0.accepts, Accepts { raw, pack }, "{accept}");
        }
    }

    #[test]
    fn long_bodies_share_a_budget() {
        let budget = MemoryBudget::new();
        let body = vec![b'<'; MAX_BODY_BYTES];
        let read = |length: usize| read_body(&mut &body[..], &mut Vec::new(), length, &budget);
        let held: Vec<_> = (0..MEMORY_BUDGET_BYTES / MAX_BODY_BYTES).map(|_| read(MAX_BODY_BYTES).unwrap()).collect();
        assert_eq!(read(SMALL_BODY_BYTES + 1).unwrap_err(), RequestError::Refused(BUSY));
        assert!(read(SMALL_BODY_BYTES).is_ok());
        drop(held);
        assert!(read(MAX_BODY_BYTES).is_ok());
    }

    proptest! {
        #[test]
        fn requests_read_the_same_however_they_are_cut(
            pieces in proptest::collection::vec(prop_oneof![
                Just(b"POST /RPC2 HTTP/1.1\r\n".to_vec()),
                Just(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello".to_vec()),
                Just(b"GET / HTTP/1.0\r\n".to_vec()),
                Just(b"Content-Length: 5\r\n".to_vec()),
                Just(b"Content-Length: 20000\r\n".to_vec()),
                Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
                Just(b"Connection: close\r\n".to_vec()),
                Just(b"\r\n".to_vec()),
                Just(b"\n".to_vec()),
                Just(b"\r".to_vec()),
                (0_usize..20_000).prop_map(|length| vec![b'a'; length]),
                proptest::collection::vec(any::<u8>(), 0..30),
            ], 0..8),
            sizes in proptest::collection::vec(1_usize..5000, 1..4),
        ) {
            let bytes = pieces.concat();
            let whole = read(&bytes, &[usize::MAX]);
            if let Ok((head, body, rest)) = &whole {
                prop_assert!(head.target.starts_with('/') && head.target.is_ascii());
                prop_assert_eq!(head.length, body.len());
                prop_assert!(bytes.ends_with(rest));
            }
            prop_assert_eq!(read(&bytes, &sizes), whole);
        }
    }
}
