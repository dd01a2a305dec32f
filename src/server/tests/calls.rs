//! Calls and their answers: what reaches the handler, what is refused before, and how answers are written.

use super::*;

#[test]
fn small_and_large_answers_arrive_on_one_connection() {
    let server = TestServer::start(PATIENT);
    let mut caller = server.connect();
    for body in ["hello", "message 0", "message 65536", "message 65537", "message 3000000", "stream 0", "stream 1"] {
        caller.post("/RPC2", body);
        let reply = caller.response();
        assert_eq!(reply.status, 200, "{body}");
        assert!(reply.header("Content-Type") == Some("text/xml"), "{reply:?}");
        assert!(reply.header("Connection").is_none(), "{reply:?}");
        let number = body.split_once(' ').map_or(5, |(_, number)| number.parse().unwrap());
        assert_eq!(reply.body.len(), number, "{body}");
    }
    caller.post("/RPC2", "stream 10000000");
    let reply = caller.response();
    assert_eq!(reply.body.len(), 10_000_000);
    assert!(reply.body.iter().enumerate().all(|(index, &byte)| usize::from(byte) == index & 255));
}

#[test]
fn bodies_of_calls_arrive_whole_at_every_size() {
    let server = TestServer::start(PATIENT);
    let mut caller = server.connect();
    for length in [0, 1, 1023, 1024, 1025, 16_383, 16_384, 16_385, 65_536, 65_537, 1024 * 1024] {
        caller.post("/RPC2", "b".repeat(length));
        assert_eq!(caller.response().body, vec![b'b'; length], "{length}");
    }
}

#[test]
fn callers_are_kept_or_closed_as_http_wants_it() {
    let server = TestServer::start(PATIENT);
    for (request, closes) in [
        (post("hello"), false),
        (post("hello").replace("Content", "Connection: Keep-Alive\r\nContent"), false),
        (post("hello").replace("Content", "Connection: te, Close\r\nContent"), true),
        (post("hello").replace("1.1", "1.0"), true),
        (post("hello").replace("1.1", "1.0").replace("Content", "Connection: keep-alive\r\nContent"), true),
        (post("hello").replace("Content", "Connection: Upgrade\r\nUpgrade: h2c\r\nContent"), false),
    ] {
        let mut caller = server.connect();
        caller.send(&request);
        let reply = caller.response();
        assert_eq!(reply.body, b"hello", "{request}");
        assert_eq!(reply.closes(), closes, "{request}");
        if closes {
            assert_eq!(caller.rest_and_end(), (Vec::new(), true), "{request}");
        } else {
            caller.post("/RPC2", "again");
            assert_eq!(caller.response().body, b"again", "{request}");
        }
    }
}

#[test]
fn methods_and_paths_that_take_no_calls_say_so() {
    let server = TestServer::start(PATIENT);
    let mut caller = server.connect();
    for (request, status, says) in [
        ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 200, ""),
        ("POST /rpc2 HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 404, "/RPC2"),
        ("POST /../etc/passwd HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 404, "/RPC2"),
        ("GET / HTTP/1.1\r\n\r\n", 405, "tinyp2p PASSWORD client URL PATTERN"),
        ("DELETE /RPC2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405, "POST only"),
        ("post / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405, "POST only"),
        ("GET /favicon.ico HTTP/1.1\r\n\r\n", 404, "/RPC2"),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"),
    ] {
        caller.send(request);
        let reply = caller.response();
        assert_eq!(reply.status, status, "{request}");
        assert_eq!(reply.header("Allow") == Some("POST"), status == 405, "{request}");
        assert!(String::from_utf8(reply.body).unwrap().contains(says), "{request}");
    }
    caller.send("HEAD / HTTP/1.1\r\n\r\n");
    let head = caller.head();
    assert!(head.status == 405 && head.length() > Some(0), "{head:?}");
    caller.post("/RPC2", "no body came before this");
    assert_eq!(caller.response().body, b"no body came before this");
}

#[test]
fn what_is_refused_is_answered_and_closed() {
    let server = TestServer::start(PATIENT);
    for (request, status) in [
        ("POST / HTTP/1.1\r\n\r\n", 411),
        ("POST / HTTP/1.1\r\nContent-Length: 30000000000\r\n\r\n<", 413),
        ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n<", 400),
        ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n", 501),
        ("POST / HTTP/1.1\nContent-Length: 0\n\n", 400),
        ("OPTIONS * HTTP/1.1\r\n\r\n", 400),
    ] {
        let mut caller = server.connect();
        caller.send(request);
        let reply = caller.response();
        assert_eq!(reply.status, status, "{request}");
        assert!(reply.closes() && reply.header("Content-Type") == Some("text/plain"), "{reply:?}");
        assert!(reply.body.len() > 10, "{request}");
        assert_eq!(caller.rest_and_end(), (Vec::new(), true), "{request}");
    }
    server.honest_call();
}

#[test]
fn a_request_that_ends_early_is_answered() {
    let server = TestServer::start(PATIENT);
    for request in ["P", "POST / HTTP/1.1\r\nContent-Len", "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell"] {
        let mut caller = server.connect();
        caller.send(request);
        caller.stream().get_ref().shutdown(Shutdown::Write).unwrap();
        assert_eq!(caller.response().status, 400, "{request}");
    }
}

#[test]
fn a_caller_that_still_sends_sees_why_it_is_refused() {
    let server = TestServer::start(PATIENT);
    let mut caller = server.connect();
    caller.send(format!("{POST}Content-Length: 10000000\r\n\r\n"));
    caller.send(vec![b'<'; 10_000_000]);
    assert_eq!(caller.response().status, 413);
    let mut caller = server.connect();
    caller.send(format!("{POST}X: {}", "y".repeat(5_000_000)));
    assert_eq!(caller.response().status, 431);
}

#[test]
fn expect_is_answered_before_the_body_comes() {
    let server = TestServer::start(PATIENT);
    let mut caller = server.connect();
    caller.send(format!("{POST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
    assert_eq!(caller.head().status, 100);
    caller.send("hello");
    assert_eq!(caller.response().body, b"hello");
    caller.send(format!("{POST}Expect: 100-continue\r\nContent-Length: 50000000\r\n\r\n"));
    assert_eq!(caller.response().status, 413);
}

#[test]
fn the_handler_learns_who_calls_and_what_is_accepted() {
    let server = TestServer::start(PATIENT);
    assert_eq!(server.call("who").body, b"127.0.0.1 false");
    let mut caller = server.connect();
    caller.send(post("who").replace("Content", "X-Caller: evil\r\naccept: application/octet-stream\r\nContent"));
    assert_eq!(caller.response().body, b"127.0.0.1 true");
}

#[test]
fn a_body_that_fails_cuts_the_connection() {
    let server = TestServer::start(PATIENT);
    for what in ["fail 1000000", "short 1000000", "long 1000000", "panicking 1000000", "short 10", "fail 1"] {
        let mut caller = server.connect();
        caller.post("/RPC2", what);
        let announced = match caller.try_head() {
            Ok(head) => head.length().unwrap(),
            // Nothing had been written yet, so not even a head comes.
            Err(error) => {
                assert_eq!((what, error.kind()), ("fail 1", io::ErrorKind::ConnectionReset));
                continue;
            }
        };
        let (body, properly) = caller.rest_and_end();
        assert!((body.len() as u64) < announced, "{what}: {} of {announced} bytes", body.len());
        assert!(!properly, "{what}: closed properly");
    }
    server.honest_call();
}

#[test]
fn a_call_that_panics_costs_that_call_alone() {
    let server = TestServer::start(PATIENT);
    let mut caller = server.connect();
    for _ in 0..10 {
        caller.post("/RPC2", "panic");
        assert_eq!(caller.response().status, 500);
    }
    caller.post("/RPC2", "hello");
    assert_eq!(caller.response().body, b"hello");
}
