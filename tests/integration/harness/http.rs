//! HTTP by hand: what goes out is exactly what a test says, what comes back is read to the byte.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use super::{
    Answer, PASSWORD, PATIENCE, proof,
    value::{int, method_call, string},
};

/// A response as it came.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// Fails unless this is a good answer of XML-RPC, and reads it.
    #[track_caller]
    pub(crate) fn answer(&self) -> Answer {
        assert_eq!(self.status, 200, "{self:?}");
        assert!(self.header("Content-Type").is_some_and(|kind| kind.starts_with("text/xml")), "{self:?}");
        Answer::parse(&self.body)
    }
}

/// One connection to a server.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    /// Connects to the server of a URL.
    #[track_caller]
    pub(crate) fn open(url: &str) -> Self {
        let host = url.strip_prefix("http://").unwrap();
        let stream = TcpStream::connect(host).unwrap_or_else(|error| panic!("could not connect to {url}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), host: host.to_owned() }
    }

    /// Sends bytes; says whether the other side still took them.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// Sends a call's document in a well-behaved POST.
    pub(crate) fn post(&mut self, path: &str, document: impl AsRef<[u8]>) {
        let (host, document) = (&self.host, document.as_ref());
        let length = document.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n\r\n"
        );
        assert!(self.send([head.as_bytes(), document].concat()), "the server hung up");
    }

    /// Reads a response to the end that its head announces, or to the end of the connection.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        let mut response = self.head();
        match response.header("Content-Length").map(|length| length.parse().unwrap()) {
            Some(length) => {
                (&mut self.stream).take(length).read_to_end(&mut response.body).unwrap();
                assert_eq!(response.body.len() as u64, length, "the answer was cut: {response:?}");
            }
            None => _ = self.stream.read_to_end(&mut response.body).unwrap(),
        }
        response
    }

    /// Reads the head of a response and leaves its body where it is.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Response {
        let first = self.line();
        let mut words = first.splitn(3, ' ');
        let version = words.next();
        assert!(version.is_some_and(|version| version.starts_with("HTTP/1.")), "{first:?} begins no response");
        let status = words.next().and_then(|word| word.parse().ok());
        let status = status.unwrap_or_else(|| panic!("{first:?} begins no response"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return Response { status, headers, body: Vec::new() };
            }
            let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("{line:?} is no header"));
            headers.push((key.to_owned(), value.trim().to_owned()));
        }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap_or_else(|error| panic!("no answer: {error}"));
        assert!(line.ends_with("\r\n"), "an answer's head was cut at {line:?}");
        line.trim_end().to_owned()
    }

    /// Whatever still comes until the server hangs up, gently or not.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("the server keeps the connection open")
            }
            _ => bytes,
        }
    }

    /// The connection itself.
    pub(crate) fn stream(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.stream
    }
}

/// Posts one document on a connection of its own.
#[track_caller]
pub(crate) fn post(url: &str, document: impl AsRef<[u8]>) -> Response {
    let mut connection = Connection::open(url);
    connection.post("/RPC2", document);
    connection.response()
}

/// Calls op `op` with a value already written and the right proof.
#[track_caller]
pub(crate) fn call(url: &str, op: i64, arg: &str) -> Answer {
    post(url, call_for(PASSWORD, url, op, arg)).answer()
}

/// The document of a call by somebody who knows `password`.
pub(crate) fn call_for(password: &str, url: &str, op: i64, arg: &str) -> String {
    method_call("f", &[&string(&proof(password, url)), &int(op), arg])
}

/// Like `call`, for a server that may not be there yet.
pub(crate) fn try_call(url: &str, op: i64, arg: &str) -> Option<Answer> {
    TcpStream::connect(url.strip_prefix("http://").unwrap()).ok().map(|_| call(url, op, arg))
}
