//! What a reader of XML-RPC must take, refuse and survive, and what a writer must produce.
//!
//! This file holds what the tests share, and the exchanges of the original.

use std::io::{self, BufRead, Read, Write};

use super::*;
use crate::support::ChunkedReader;

mod limits;
mod properties;
mod reading;
mod writing;

/// Every fixture: its name, its request and its response.
macro_rules! wire {
    ($($name:literal),*) => {
        [$((
            $name,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/wire/", $name, ".request.xml")),
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/wire/", $name, ".response.xml")),
        )),*]
    };
}

const WIRE: [(&str, &[u8], &[u8]); 13] = wire![
    "fetch-binary",
    "fetch-crlf",
    "fetch-empty",
    "fetch-missing",
    "fetch-text",
    "fetch-utf8",
    "list-all",
    "list-bad-pattern",
    "list-none",
    "list-pattern",
    "peers",
    "peers-merge",
    "wrong-password"
];

const PROOF: &str = "5cb6b6025f3d6288f24f52786378a79a";
const LIMIT: u64 = 1024 * 1024;

fn response(name: &str) -> &'static [u8] {
    WIRE.iter().find(|(found, ..)| *found == name).unwrap().2
}

/// Reads strings, with the error as its text.
fn strings_of(input: impl BufRead, depth: usize) -> Result<Vec<Vec<u8>>, String> {
    let mut strings = Vec::new();
    let result = read_strings(input, depth, LIMIT, |string| {
        strings.push(string.to_vec());
        Ok::<(), Error>(())
    });
    result.map(|()| strings).map_err(|error| error.to_string())
}

/// Reads content, with the error as its text.
fn content_of(input: impl BufRead) -> Result<Vec<u8>, String> {
    let mut sink = Vec::new();
    let length = read_content(input, &mut sink).map_err(|error| error.to_string())?;
    assert_eq!(length, sink.len() as u64);
    Ok(sink)
}

fn fault_of(document: &[u8]) -> Fault {
    match read_content(document, &mut io::sink()) {
        Err(Error::Fault(fault)) => fault,
        other => panic!("{other:?} in place of a fault"),
    }
}

fn answer(value: &str) -> Vec<u8> {
    format!("<methodResponse><params><param>{value}</param></params></methodResponse>").into_bytes()
}

fn call(value: &str) -> Vec<u8> {
    format!("<methodCall><methodName>f</methodName><params><param>{value}</param></params></methodCall>").into_bytes()
}

/// The value of a call whose parameter has this within its `<value>`.
fn param(within: &str) -> Result<Value, String> {
    let call = read_call(&call(&format!("<value>{within}</value>"))).map_err(|error| error.to_string())?;
    assert_eq!(call.params.len(), 1);
    Ok(call.params.into_iter().next().unwrap())
}

/// The response document for a file of these bytes.
fn written(bytes: &[u8]) -> Vec<u8> {
    let content = Content::prepare(&mut &bytes[..], bytes.len() as u64).unwrap();
    let mut document = Vec::new();
    content.write(&mut &bytes[..], &mut document).unwrap();
    assert_eq!(document.len() as u64, content.length());
    document
}

fn is_text(document: &[u8]) -> bool {
    document.windows(8).any(|window| window == b"<string>")
}

/// A sink that takes a number of bytes and remembers its writes.
struct Sink {
    room: usize,
    writes: Vec<Vec<u8>>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room -= bytes.len();
        self.writes.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn requests_of_the_original_are_read_and_written_byte_for_byte() {
    for (name, request, _) in WIRE {
        let (op, arg) = match name {
            "fetch-binary" => (2, "bin.dat".into()),
            "fetch-crlf" => (2, "crlf.txt".into()),
            "fetch-empty" => (2, "empty".into()),
            "fetch-missing" => (2, "nope".into()),
            "fetch-text" => (2, "file0".into()),
            "fetch-utf8" => (2, "utf8.txt".into()),
            "list-all" => (1, "".into()),
            "list-bad-pattern" => (1, "(".into()),
            "list-none" => (1, "zzz".into()),
            "list-pattern" => (1, "file*".into()),
            "peers-merge" => (0, Value::Array(vec!["http://127.0.0.1:33330".into(), "http://127.0.0.1:33331".into()])),
            _ => (0, Value::Array(vec![])),
        };
        let proof = if name == "wrong-password" { "00000000000000000000000000000000" } else { PROOF };
        let params = vec![proof.into(), Value::Int(op), arg];
        assert_eq!(write_call("f", &params), request, "{name}");
        assert_eq!(read_call(request).unwrap(), Call { method: "f".into(), params }, "{name}");
    }
}

#[test]
fn contents_of_the_original_are_read_byte_for_byte_and_written_so_where_they_are_plain_text() {
    let all_bytes: Vec<u8> = (0..=255).collect();
    for (name, bytes) in [
        ("fetch-binary", &all_bytes[..]),
        ("fetch-crlf", b"a\r\nb\rc\n"),
        ("fetch-empty", b""),
        ("fetch-text", b"hello <b> & world\n"),
        ("fetch-utf8", "caf\u{e9}\n".as_bytes()),
    ] {
        assert_eq!(content_of(response(name)).unwrap(), bytes, "{name}");
        let expected = String::from_utf8_lossy(response(name)).replace('\r', "&#13;");
        assert_eq!(written(bytes) == expected.as_bytes(), name != "fetch-binary", "{name}");
    }
}

#[test]
fn lists_of_the_original_are_read_and_written_byte_for_byte() {
    for (name, depth, strings) in [
        ("list-all", 2, &["crlf.txt", "file0", "empty", "utf8.txt", "bin.dat", "file1"][..]),
        ("list-none", 2, &[]),
        ("list-pattern", 2, &["file0", "file1"]),
        ("peers", 1, &["http://127.0.0.1:33330"]),
        ("peers-merge", 1, &["http://127.0.0.1:33330", "http://127.0.0.1:33331"]),
    ] {
        let bytes: Vec<_> = strings.iter().map(|string| string.as_bytes().to_vec()).collect();
        assert_eq!(strings_of(response(name), depth).unwrap(), bytes, "{name}");
        assert_eq!(write_strings(depth, strings), response(name), "{name}");
        assert!(strings_of(response(name), 3 - depth).is_err(), "{name} at another depth");
    }
}

#[test]
fn faults_and_refusals_of_the_original_are_read_and_written_byte_for_byte() {
    for (name, message) in [
        ("fetch-missing", "<type 'exceptions.IOError'>:[Errno 2] No such file or directory: 'nope'"),
        ("list-bad-pattern", "<class 'sre_constants.error'>:unbalanced parenthesis"),
    ] {
        let fault = Fault { code: 1, text: message.into() };
        assert_eq!(write_fault(&fault), response(name));
        assert_eq!(fault_of(response(name)), fault);
        assert_eq!(strings_of(response(name), 2), Err(Error::Fault(fault).to_string()));
    }
    let refusal = response("wrong-password");
    assert_eq!(write_false(), refusal);
    assert_eq!(content_of(refusal), Err(Error::False.to_string()));
    assert_eq!(strings_of(refusal, 1), Err(Error::False.to_string()));
}
