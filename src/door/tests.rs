//! Drives a door and its endpoint over loopback with a toy in the node's place.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    endpoint::{Answering, Endpoint},
    handover::{Answer, Handover},
};

/// A body of `length` bytes, each the low byte of its index in pieces of 256 KiB.
fn stream(length: u64) -> Answer {
    let body = move |to: &mut dyn Write| {
        let piece: Vec<u8> = (0..256 * 1024).map(|index: u32| index.to_le_bytes()[0]).collect();
        let mut left = length;
        while left > 0 {
            let now = usize::try_from(left.min(piece.len() as u64)).unwrap();
            to.write_all(&piece[..now])?;
            left -= now as u64;
        }
        Ok(())
    };
    Answer::Stream { content_type: "text/xml", length, body: Box::new(body) }
}

/// Answers by what the call says: `stream N`, `message N`, `short N`, `long N`, `fail N`, `panic`, `who`, or an echo.
fn toy() -> Answering {
    Arc::new(|call, octets, address| {
        let text = String::from_utf8_lossy(call);
        let (word, number) = text.split_once(' ').unwrap_or((&text, ""));
        let number = number.parse::<u64>().unwrap_or_default();
        match word {
            "stream" => stream(number),
            "message" => Answer::Message(vec![b'm'; usize::try_from(number).unwrap()]),
            "short" | "long" | "fail" | "panicking" => {
                let what = word.to_owned();
                Answer::Stream {
                    content_type: "text/xml",
                    length: number,
                    body: Box::new(move |to| {
                        let half = usize::try_from(number / 2).unwrap();
                        to.write_all(&vec![b'h'; half])?;
                        match &*what {
                            "short" => Ok(()),
                            "long" => to.write_all(&vec![b'h'; half + 1]),
                            "fail" => Err(io::ErrorKind::NotFound.into()),
                            _ => std::panic::resume_unwind(Box::new("as wanted")),
                        }
                    }),
                }
            }
            "panic" => std::panic::resume_unwind(Box::new("as wanted")),
            "who" => Answer::Message(format!("{address} {octets}").into_bytes()),
            _ => Answer::Message(call.to_vec()),
        }
    })
}

/// A door on loopback, with its private directory.
struct House {
    door: Option<Door>,
    address: SocketAddr,
    _private: tempfile::TempDir,
}

impl House {
    fn open(silence: Duration) -> Self {
        Self::open_with(silence, (128, 256))
    }

    fn open_with(silence: Duration, places: (usize, usize)) -> Self {
        let private = tempfile::tempdir().unwrap();
        let directory = private.path().to_path_buf();
        let handover = Arc::new(Handover::default());
        let left = Arc::clone(&handover);
        let start = move || -> io::Result<(PathBuf, Box<dyn Send + Sync>)> {
            let endpoint = Endpoint::start(&directory, toy(), Arc::clone(&left))?;
            Ok((endpoint.path().to_path_buf(), Box::new(endpoint)))
        };
        let listener = listen("127.0.0.1:0".parse().unwrap(), silence).unwrap();
        let address = listener.local_addr().unwrap();
        let door = Door::open_with(vec![listener], Box::new(start), handover, silence, places).unwrap();
        Self { door: Some(door), address, _private: private }
    }

    fn connect(&self) -> Caller {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        Caller(BufReader::new(stream))
    }

    /// A whole honest call on a new connection.
    fn call(&self, body: &str) -> Reply {
        let mut caller = self.connect();
        caller.post(body);
        caller.reply().expect("an honest call is answered")
    }

    /// Sends bytes, ends the sending side, and returns all that comes back.
    fn exchange(&self, bytes: &[u8]) -> String {
        let mut caller = self.connect();
        let _ = caller.0.get_mut().write_all(bytes);
        let mut answer = Vec::new();
        let _ = caller.0.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn everyone_has_left(&self, limit: Duration) {
        let door = self.door.as_ref().unwrap();
        assert!(door.house.guests.wait_until_empty(limit), "guests are left over");
    }
}

struct Caller(BufReader<TcpStream>);

#[derive(Debug)]
struct Reply {
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn status(&self) -> &str {
        &self.head[9..12]
    }
}

impl Caller {
    fn send(&mut self, text: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(text.as_ref()).unwrap();
    }

    fn post(&mut self, body: &str) {
        self.send(format!("POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    }

    fn head(&mut self) -> io::Result<(String, usize)> {
        let mut head = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                return Ok((head, length));
            }
            head.push_str(&line);
        }
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let (head, length) = self.head()?;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Reply { head, body })
    }
}

const PATIENT: Duration = Duration::from_secs(30);

#[test]
fn small_and_large_answers_arrive_on_one_connection() {
    let house = House::open(PATIENT);
    let mut caller = house.connect();
    for body in ["hello", "message 0", "message 65536", "message 65537", "message 3000000", "stream 0", "stream 1"] {
        caller.post(body);
        let reply = caller.reply().unwrap();
        assert_eq!(reply.status(), "200", "{body}");
        assert!(reply.head.contains("Content-Type: text/xml\r\n"), "{}", reply.head);
        assert!(!reply.head.contains("X-Door"), "{}", reply.head);
        let number = body.split_once(' ').map_or(5, |(_, number)| number.parse().unwrap());
        assert_eq!(reply.body.len(), number, "{body}");
    }
    caller.post("stream 10000000");
    let reply = caller.reply().unwrap();
    assert_eq!(reply.body.len(), 10_000_000);
    assert!(reply.body.iter().enumerate().all(|(index, &byte)| usize::from(byte) == index & 255));
}
