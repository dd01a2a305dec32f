//! Many connections, and hostile ones: nobody else waits for them, and they leave nothing.

use super::*;

#[test]
fn silent_connections_keep_no_honest_caller_waiting() {
    let count = full_or(600, 120);
    for said in ["", "POST /RPC2 HTTP/1.1\r\nHo", "POST /RPC2 HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc"] {
        let server = TestServer::start_with(PATIENT, 50, 3);
        let mut silent = Vec::new();
        for index in 0..count {
            let mut caller = server.connect();
            // It may have been turned out already.
            let _ = caller.stream().get_mut().write_all(said.as_bytes());
            silent.push(caller);
            if index % 40 == 0 {
                assert!(server.honest_call() < Duration::from_secs(10), "after {index} of {said:?}");
            }
        }
        assert!(server.honest_call() < Duration::from_secs(10), "after all of {said:?}");
        drop(silent);
        server.wait_until_empty();
    }
}

#[test]
fn a_drip_does_not_extend_the_deadline() {
    let server = TestServer::start(BRIEF);
    for (said, drip) in
        [("", "P"), ("POST / HTTP/1.1\r\nX: ", "y"), ("POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", "z")]
    {
        let mut caller = server.connect();
        caller.send(said);
        let mut dripping = caller.stream().get_ref().try_clone().unwrap();
        let dripper = thread::spawn(move || {
            let start = Instant::now();
            while dripping.write_all(drip.as_bytes()).is_ok() {
                assert!(start.elapsed() < PATIENCE, "a drip went on for {PATIENCE:?}");
                thread::sleep(BRIEF / 10);
            }
        });
        assert_eq!(caller.response().status, 408, "{said:?}");
        drop(caller);
        dripper.join().unwrap();
    }
    server.wait_until_empty();
}

#[test]
fn an_idle_connection_goes_after_the_limit() {
    let server = TestServer::start(BRIEF);
    let (mut fresh, mut kept) = (server.connect(), server.connect());
    kept.post("/RPC2", "hello");
    assert_eq!(kept.response().body, b"hello");
    let start = Instant::now();
    assert_eq!(fresh.rest_and_end(), (Vec::new(), true));
    assert_eq!(kept.rest_and_end(), (Vec::new(), true));
    assert!(start.elapsed() >= BRIEF / 2, "it went after {:?}", start.elapsed());
}

#[test]
fn endless_heads_are_refused_and_bound_no_memory() {
    let server = TestServer::start(PATIENT);
    for (start, more) in
        [("GET /", "a"), ("POST / HTTP/1.1\r\nX: ", "a"), ("POST / HTTP/1.1\r\n", "X: y\r\n"), ("", "\r\n")]
    {
        let mut caller = server.connect();
        caller.send(start);
        let piece = more.repeat(10_000);
        // More than is discarded after the last word: the connection is closed while this still sends.
        let mut sent = 0;
        while sent < 100_000_000 && caller.stream().get_mut().write_all(piece.as_bytes()).is_ok() {
            sent += piece.len();
        }
        assert!(sent < 100_000_000, "all of {start:?} {more:?} was taken");
        server.honest_call();
    }
    server.wait_until_empty();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = TestServer::start(PATIENT);
    let mut caller = server.connect();
    let requests: String = (0..200).map(|index| post(&format!("call {index}"))).collect();
    caller.send(requests);
    for index in 0..200 {
        assert_eq!(caller.response().body, format!("call {index}").as_bytes());
    }
}

#[test]
fn requests_whose_answers_nobody_reads_end_within_the_limit() {
    let server = TestServer::start(BRIEF);
    let calls = post(&"x".repeat(1000)).repeat(10_000);
    let senders: Vec<_> = (0..full_or(8, 2))
        .map(|_| {
            let (mut caller, calls) = (server.connect(), calls.clone());
            thread::spawn(move || {
                // Fails once the server has cut it.
                while caller.stream().get_mut().write_all(calls.as_bytes()).is_ok() {}
            })
        })
        .collect();
    server.keeps_answering_until(|| senders.iter().all(thread::JoinHandle::is_finished));
    server.wait_until_empty();
}

#[test]
fn connections_that_are_reset_at_once_leave_nothing() {
    let server = TestServer::start_with(PATIENT, 20, 3);
    for index in 0..full_or(3000, 300) {
        let mut caller = server.connect();
        SockRef::from(caller.stream().get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
        drop(caller);
        if index % 100 == 0 {
            assert!(server.honest_call() < Duration::from_secs(10));
        }
    }
    server.honest_call();
    server.wait_until_empty();
    eventually("backends are left over", PATIENCE, || (server.server.state.backends.count_spare() == 0).then_some(()));
}

#[test]
fn callers_that_arrive_together_are_all_served() {
    let rounds = full_or(200, 5);
    for (callers, connections, backends) in [(8, 256, 64), (40, 256, 64), (40, 50, 3), (8, 8, 1)] {
        let server = TestServer::start_with(PATIENT, connections, backends);
        for _ in 0..rounds {
            let barrier = std::sync::Barrier::new(callers);
            thread::scope(|scope| {
                for _ in 0..callers {
                    scope.spawn(|| {
                        let mut caller = server.connect();
                        barrier.wait();
                        for _ in 0..5 {
                            caller.post("/RPC2", "hello");
                            let reply = caller.response();
                            assert_eq!(reply.body, b"hello");
                            if reply.closes() {
                                caller = server.connect();
                            }
                        }
                        // All are held until the last is served.
                        barrier.wait();
                    });
                }
            });
        }
    }
}

#[test]
fn each_answer_of_a_full_server_ends_its_connection() {
    let server = TestServer::start_with(PATIENT, 2, 1);
    let mut first = server.connect();
    first.post("/RPC2", "hello");
    assert!(!first.response().closes());
    let mut second = server.connect();
    second.post("/RPC2", "hello");
    assert!(second.response().closes());
}

#[cfg(target_os = "linux")]
#[test]
fn a_newcomer_costs_the_address_with_the_most_connections() {
    let server = TestServer::start_with(PATIENT, 10, 1);
    // The lone connection of another address has been silent for longest.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.2:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut lone = Connection::over(socket.into());
    lone.post("/RPC2", "who");
    assert_eq!(lone.response().body, b"127.0.0.2 false");
    let crowd: Vec<_> = (0..full_or(300, 60)).map(|_| server.connect()).collect();
    server.honest_call();
    lone.post("/RPC2", "hello");
    assert_eq!(lone.response().body, b"hello");
    drop(crowd);
}

#[test]
fn downloads_that_nobody_reads_are_cut_within_the_limit() {
    let server = TestServer::start(BRIEF);
    let mut unread: Vec<_> = (0..full_or(60, 10)).map(|_| server.connect()).collect();
    for caller in &mut unread {
        caller.post("/RPC2", "stream 10000000000");
    }
    server.keeps_answering_until(|| server.server.connections.wait_until_empty(BRIEF / 10));
    for mut caller in unread {
        let (body, properly) = caller.rest_and_end();
        assert!(!properly && body.len() < 100_000_000, "{} bytes", body.len());
    }
    server.wait_until_empty();
}

/// A caller whose kernel takes no more than a few KiB that have not been read.
fn slow_reader(server: &TestServer) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.address.into()).unwrap();
    Connection::over(socket.into())
}

#[test]
fn a_reader_that_drips_is_cut() {
    let server = TestServer::start(BRIEF);
    let mut caller = slow_reader(&server);
    caller.post("/RPC2", "stream 100000000");
    caller.head();
    let (start, mut byte) = (Instant::now(), [0]);
    while !server.server.connections.wait_until_empty(BRIEF / 10) {
        caller.stream().get_mut().read_exact(&mut byte).unwrap();
        assert!(start.elapsed() < PATIENCE, "it was served for {PATIENCE:?}");
    }
    let (body, _) = caller.rest_and_end();
    assert!(body.len() < 100_000_000, "it looks whole");
}

#[test]
fn a_slow_reader_is_served_for_as_long_as_it_reads() {
    let limit = BRIEF * 5;
    let server = TestServer::start(limit);
    let mut caller = slow_reader(&server);
    caller.post("/RPC2", "stream 1000000000");
    let (start, mut bytes) = (Instant::now(), [0; 8192]);
    while start.elapsed() < limit * 2 {
        let read = caller.stream().get_mut().read(&mut bytes).expect("it is not cut");
        assert!(read > 0, "it ended after {:?}", start.elapsed());
        thread::sleep(limit / 50);
    }
}

#[test]
fn closing_is_quick_while_downloads_run() {
    let server = TestServer::start(PATIENT);
    let mut readers = Vec::new();
    for _ in 0..5 {
        let mut caller = server.connect();
        caller.post("/RPC2", "stream 1000000000000");
        caller.head();
        readers.push(thread::spawn(move || io::copy(caller.stream(), &mut io::sink())));
    }
    let mut unread = server.connect();
    unread.post("/RPC2", "stream 1000000000000");
    unread.head();
    let _idle = server.connect();
    let state = Arc::clone(&server.server.state);
    let connections = Arc::clone(&server.server.connections);
    let start = Instant::now();
    drop(server.server);
    assert!(start.elapsed() < Duration::from_secs(20), "closing took {:?}", start.elapsed());
    assert!(connections.wait_until_empty(PATIENCE));
    for reader in readers {
        let received = reader.join().unwrap();
        assert!(received.is_err() || received.unwrap() < 1_000_000_000_000, "a download that was cut looks whole");
    }
    assert!(TcpStream::connect(server.address).is_err(), "the socket still listens");
    // The threads have gone: nobody else holds what they share.
    eventually("threads are left over", PATIENCE, || (Arc::strong_count(&state) == 1).then_some(()));
}

#[test]
fn closing_does_not_wait_for_a_call_in_progress() {
    let server = TestServer::start_with(PATIENT, 10, 1);
    let mut callers = [server.connect(), server.connect()];
    for caller in &mut callers {
        caller.post("/RPC2", "block 30");
    }
    eventually("no call is in progress", PATIENCE, || (server.server.state.backends.count_opened() == 1).then_some(()));
    let start = Instant::now();
    drop(server.server);
    assert!(start.elapsed() < Duration::from_secs(20), "closing took {:?}", start.elapsed());
    for mut caller in callers {
        caller.rest_and_end();
    }
}
