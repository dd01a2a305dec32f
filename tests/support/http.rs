//! HTTP by hand: what goes out is exactly what a test says, what comes back is read to the byte.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
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

    /// Whether the head announces that the connection ends.
    pub(crate) fn closes(&self) -> bool {
        self.header("Connection") == Some("close")
    }

    /// The length of the body that the head announces.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header("Content-Length").map(|length| length.parse().unwrap())
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
        Self::to(url.strip_prefix("http://").unwrap())
    }

    /// Connects to an address.
    #[track_caller]
    pub(crate) fn open_at(address: SocketAddr) -> Self {
        Self::to(&address.to_string())
    }

    #[track_caller]
    fn to(host: &str) -> Self {
        let stream = TcpStream::connect(host).unwrap_or_else(|error| panic!("could not connect to {host}: {error}"));
        Self { host: host.to_owned(), ..Self::over(stream) }
    }

    /// Takes a connection that a test has made in its own way.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), host: "localhost".to_owned() }
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
        self.try_response().unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Like `response`, where the server may have hung up or cut the answer.
    pub(crate) fn try_response(&mut self) -> io::Result<Response> {
        let mut response = self.try_head()?;
        let Some(length) = response.length() else {
            self.stream.read_to_end(&mut response.body)?;
            return Ok(response);
        };
        (&mut self.stream).take(length).read_to_end(&mut response.body)?;
        if response.body.len() as u64 != length {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("cut: {response:?}")));
        }
        Ok(response)
    }

    /// Reads the head of a response and leaves its body where it is.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Response {
        self.try_head().unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Like `head`, where the server may have hung up.
    pub(crate) fn try_head(&mut self) -> io::Result<Response> {
        let first = self.line()?;
        let bad = |line: &str| io::Error::new(ErrorKind::InvalidData, format!("{line:?} in the head of a response"));
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        let status = status.ok_or_else(|| bad(&first))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Response { status, headers, body: Vec::new() });
            }
            let (key, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
            headers.push((key.to_owned(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(text) => Ok(text.to_owned()),
            None => Err(io::Error::new(ErrorKind::UnexpectedEof, format!("the head was cut at {line:?}"))),
        }
    }

    /// Whatever still comes until the server hangs up, gently or not.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        self.rest_and_end().0
    }

    /// Whatever still comes until the server hangs up, and whether it did so gently: an end, not a reset.
    #[track_caller]
    pub(crate) fn rest_and_end(&mut self) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let ended = self.stream.read_to_end(&mut bytes);
        if let Err(error) = &ended {
            let is_open = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!is_open, "the server keeps the connection open");
        }
        (bytes, ended.is_ok())
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
