//! HTTP that is too long, wrong, or announces what does not come.

use std::thread;

use super::siege::{Siege, full_or, shown};
use crate::harness::{Connection, PASSWORD, array, call_for};

const POST: &str = "POST /RPC2 HTTP/1.1\r\n";

/// What stands behind each bad request: were it taken for another request, it would be answered.
const SMUGGLED: &str = "0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n";

/// What comes back for some bytes: the status of the first answer. Nothing may follow it but the end.
#[track_caller]
fn status_of(url: &str, request: &[u8]) -> u16 {
    let mut connection = Connection::open(url);
    connection.send(request);
    connection.send(SMUGGLED);
    let status = connection.response().status;
    let rest = connection.rest();
    assert!(rest.is_empty(), "{} was followed by {}", shown(request), shown(rest));
    status
}

/// Sends each request on a connection of its own and compares the status with those that will do.
fn are_refused(url: &str, requests: impl IntoIterator<Item = impl AsRef<[u8]>>, statuses: &[u16]) {
    for request in requests {
        let request = request.as_ref();
        let status = status_of(url, request);
        assert!(statuses.contains(&status), "{} got {status}, not {statuses:?}", shown(request));
    }
}

/// A server is sent bad requests, by many at once in a full run, while an honest caller is served.
fn survives(name: &str, attack: impl Fn(&str) + Sync) {
    let mut siege = Siege::new(name);
    siege.endure(|url| {
        thread::scope(|scope| {
            for _ in 0..full_or(16, 2) {
                scope.spawn(|| attack(url));
            }
        });
    });
    siege.lift();
}

#[test]
fn heads_that_are_too_long_are_refused() {
    let long = "a".repeat(1 << 20);
    let requests = [
        format!("POST /{long} HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
        format!("{long} / HTTP/1.1\r\n\r\n"),
        format!("{POST}X: {long}\r\nContent-Length: 0\r\n\r\n"),
        format!("{POST}{long}: x\r\nContent-Length: 0\r\n\r\n"),
        format!("{POST}Content-Length: {}\r\n\r\n", "0".repeat(17 << 10)),
        format!("{POST}{}Content-Length: 0\r\n\r\n", "X: y\r\n".repeat(101)),
        format!("{POST}{}Content-Length: 0\r\n\r\n", "X: y\r\n".repeat(100_000)),
        format!("{POST}{}Content-Length: 0\r\n\r\n", "X:\r\n".repeat(100_000)),
    ];
    survives("long heads", |url| are_refused(url, &requests, &[431]));
}

#[test]
fn heads_that_are_no_http_are_refused() {
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n";
    let requests: [&[u8]; 23] = [
        b"POST /RPC2 HTTP/1.1\nHost: x\nContent-Length: 0\n\n",
        b"POST /RPC2 HTTP/1.1\r\nHost: x\nContent-Length: 0\r\n\r\n",
        b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\n\r\n",
        b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\n",
        b"POST /RPC2 HTTP/1.1\r\nHost: x\rContent-Length: 0\r\n\r\n",
        b"POST /RPC2 HTTP/1.1\rContent-Length: 0\r\r",
        b"\n\n\n",
        b"\r\n\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        tls,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n\r\n",
        b"POST /RPC2 HTTP/1.2\r\nContent-Length: 0\r\n\r\n",
        b"POST /RPC2 HTTP/9\r\nContent-Length: 0\r\n\r\n",
        b"POST  /RPC2 HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"POST http://127.0.0.1/RPC2 HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /caf\xc3\xa9 HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"POST /RPC2 HTTP/1.1\r\n\xc3\xa9: x\r\nContent-Length: 0\r\n\r\n",
        b"POST /RPC2 HTTP/1.1\r\nHost: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"POST /RPC2 HTTP/1.1\r\nno colon\r\nContent-Length: 0\r\n\r\n",
        b"POST /RPC2 HTTP/1.1\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
    ];
    survives("no HTTP", |url| are_refused(url, requests, &[400]));
}

#[test]
fn wrong_lengths_are_refused() {
    let length = |length: &str| format!("{POST}Content-Length: {length}\r\n\r\n");
    let wrong = ["-1", "+5", "5 5", "5, 5", "5,5", "0x5", "5.0", "5e0", "", " ", "five", "\u{ff15}", "\u{a0}5", "5;"];
    let twice = [
        format!("{POST}Content-Length: 0\r\nContent-Length: 0\r\n\r\n"),
        format!("{POST}Content-Length: 0\r\ncontent-length: 5\r\n\r\nhello"),
        format!("{POST}Content-Length: 5\r\nX: y\r\nCONTENT-LENGTH: 0\r\n\r\nhello"),
        format!("{POST}Content-Length : 5\r\n\r\nhello"),
        format!("{POST} Content-Length: 5\r\n\r\nhello"),
    ];
    let large = [
        "1048577",
        "30000000000",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551621",
        "1000000000000000000000000000000",
    ];
    survives("wrong lengths", |url| {
        are_refused(url, wrong.map(length), &[400]);
        are_refused(url, &twice, &[400]);
        are_refused(
            url,
            [POST, "\r\n"].map(|end| format!("{POST}Host: x\r\n{}\r\n", end.trim_start_matches(POST))),
            &[411],
        );
        are_refused(url, large.map(length), &[413]);
    });
}

#[test]
fn lengths_that_are_not_kept_to_are_given_up_within_the_limit() {
    let requests = [
        format!("{POST}Content-Length: 1048576\r\n\r\n<methodCall>"),
        format!("{POST}Content-Length: 100\r\n\r\n"),
        format!("{POST}Content-Length: 40\r\nExpect: x"),
    ];
    survives("short bodies", |url| {
        thread::scope(|scope| {
            for request in &requests {
                scope.spawn(move || {
                    let mut connection = Connection::open(url);
                    connection.send(request);
                    assert_eq!(connection.response().status, 408, "{request:?}");
                    assert_eq!(connection.rest(), b"", "{request:?}");
                });
            }
        });
    });
}

#[test]
fn no_spelling_of_a_transfer_encoding_is_taken() {
    let values = [
        "chunked",
        "Chunked",
        "CHUNKED",
        "  chunked  ",
        "\tchunked",
        "chunked\t",
        "\u{b}chunked",
        "\u{a0}chunked",
        "gzip, chunked",
        "chunked, identity",
        "chunked, chunked",
        "chunked;q=1",
        "\"chunked\"",
        "identity",
        "x",
        "",
    ];
    let names = [
        "Transfer-Encoding:",
        "transfer-encoding:",
        "TRANSFER-ENCODING:",
        "Transfer-Encoding :",
        " Transfer-Encoding:",
    ];
    let requests: Vec<String> = names
        .into_iter()
        .flat_map(|name| values.into_iter().map(move |value| format!("{name} {value}\r\n")))
        .flat_map(|header| {
            let length = "Content-Length: 4\r\n";
            [
                format!("{POST}{header}\r\n"),
                format!("{POST}{header}{length}\r\n"),
                format!("{POST}{length}{header}\r\n"),
                format!("POST /RPC2 HTTP/1.0\r\n{length}{header}\r\n"),
            ]
        })
        .collect();
    survives("transfer encodings", |url| are_refused(url, &requests, &[400, 411, 501]));
}

#[test]
fn expectations_and_upgrades_are_refused_or_passed_over() {
    let head = |headers: &str| format!("{POST}{headers}Content-Length: 4\r\n\r\n");
    let expectations = ["200-ok", "100-continue, 200-ok", "100", "", "100-continue;q=1"];
    let expectations = expectations.map(|value| head(&format!("Expect: {value}\r\n")));
    survives("expectations", |url| {
        are_refused(url, &expectations, &[417]);
        are_refused(url, [format!("{POST}Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n")], &[413]);
        let document = call_for(PASSWORD, url, 0, &array([""; 0]));
        for headers in [
            "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "Upgrade: TLS/1.0\r\n",
            "Host: caf\u{e9}\r\nX-\u{61}: \u{1f980} \u{fffd}\r\n",
            "Host: a\r\nHost: b\r\nTE: trailers\r\nTrailer: X\r\nRange: bytes=0-1\r\nContent-Encoding: gzip\r\n",
            "Transfer_Encoding: chunked\r\nX-Transfer-Encoding: chunked\r\n",
        ] {
            let mut connection = Connection::open(url);
            for _ in 0..2 {
                connection.send(format!("{POST}{headers}Content-Length: {}\r\n\r\n{document}", document.len()));
                assert_eq!(connection.response().answer().peers(), [url], "{headers:?}");
            }
        }
        let mut connection = Connection::open(url);
        connection.send(b"POST /RPC2 HTTP/1.1\r\nX: \xff\xfe\x80\r\nContent-Length: 0\r\n\r\n");
        connection.response().answer().fault();
    });
}
