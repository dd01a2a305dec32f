//! Many guests, and bad ones: nobody else waits for them, and they leave nothing.

use super::*;

#[test]
fn silent_connections_keep_no_honest_caller_waiting() {
    let count = full_or(600, 120);
    for said in ["", "POST /RPC2 HTTP/1.1\r\nHo", "POST /RPC2 HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc"] {
        let house = House::open_with(PATIENT, (3, 50));
        let mut silent = Vec::new();
        for index in 0..count {
            let mut caller = house.connect();
            // It may have been turned out already.
            let _ = caller.0.get_mut().write_all(said.as_bytes());
            silent.push(caller);
            if index % 40 == 0 {
                assert!(house.honest_call() < Duration::from_secs(10), "after {index} of {said:?}");
            }
        }
        assert!(house.honest_call() < Duration::from_secs(10), "after all of {said:?}");
        drop(silent);
        house.wait_until_empty();
    }
}

#[test]
fn a_drip_does_not_extend_the_deadline() {
    let house = House::open(BRIEF);
    for (said, drip) in
        [("", "P"), ("POST / HTTP/1.1\r\nX: ", "y"), ("POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", "z")]
    {
        let mut caller = house.connect();
        caller.send(said);
        let mut dripping = caller.0.get_ref().try_clone().unwrap();
        let dripper = thread::spawn(move || {
            let start = Instant::now();
            while dripping.write_all(drip.as_bytes()).is_ok() {
                assert!(start.elapsed() < DEADLINE, "a drip went on for {DEADLINE:?}");
                thread::sleep(BRIEF / 10);
            }
        });
        assert_eq!(caller.reply().unwrap().status(), "408", "{said:?}");
        drop(caller);
        dripper.join().unwrap();
    }
    house.wait_until_empty();
}

#[test]
fn an_idle_connection_goes_after_the_limit() {
    let house = House::open(BRIEF);
    let (mut fresh, mut kept) = (house.connect(), house.connect());
    kept.post("hello");
    assert_eq!(kept.reply().unwrap().body, b"hello");
    let start = Instant::now();
    assert_eq!(fresh.rest(), (Vec::new(), true));
    assert_eq!(kept.rest(), (Vec::new(), true));
    assert!(start.elapsed() >= BRIEF / 2, "it went after {:?}", start.elapsed());
}

#[test]
fn endless_heads_are_refused_and_bound_no_memory() {
    let house = House::open(PATIENT);
    for (start, more) in
        [("GET /", "a"), ("POST / HTTP/1.1\r\nX: ", "a"), ("POST / HTTP/1.1\r\n", "X: y\r\n"), ("", "\r\n")]
    {
        let mut caller = house.connect();
        caller.send(start);
        let piece = more.repeat(10_000);
        // More than is discarded after the last word: the connection is closed while this still sends.
        let mut sent = 0;
        while sent < 100_000_000 && caller.0.get_mut().write_all(piece.as_bytes()).is_ok() {
            sent += piece.len();
        }
        assert!(sent < 100_000_000, "all of {start:?} {more:?} was taken");
        house.honest_call();
    }
    house.wait_until_empty();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let house = House::open(PATIENT);
    let mut caller = house.connect();
    let requests: String = (0..200).map(|index| post(&format!("call {index}"))).collect();
    caller.send(requests);
    for index in 0..200 {
        assert_eq!(caller.reply().unwrap().body, format!("call {index}").as_bytes());
    }
}

#[test]
fn requests_whose_answers_nobody_reads_end_within_the_limit() {
    let house = House::open(BRIEF);
    let calls = post(&"x".repeat(1000)).repeat(10_000);
    let senders: Vec<_> = (0..full_or(8, 2))
        .map(|_| {
            let (mut caller, calls) = (house.connect(), calls.clone());
            thread::spawn(move || {
                // Fails once the door has cut it.
                while caller.0.get_mut().write_all(calls.as_bytes()).is_ok() {}
            })
        })
        .collect();
    house.keeps_answering_until(|| senders.iter().all(thread::JoinHandle::is_finished));
    house.wait_until_empty();
}

#[test]
fn connections_that_are_reset_at_once_leave_nothing() {
    let house = House::open_with(PATIENT, (3, 20));
    for index in 0..full_or(3000, 300) {
        let caller = house.connect();
        SockRef::from(caller.0.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
        drop(caller);
        if index % 100 == 0 {
            assert!(house.honest_call() < Duration::from_secs(10));
        }
    }
    house.honest_call();
    house.wait_until_empty();
    wait_until("lines are left over", || house.inside().lines.count() == 0);
}

#[test]
fn callers_that_arrive_together_are_all_served() {
    let rounds = full_or(200, 5);
    for (callers, places) in [(8, (128, 256)), (40, (128, 256)), (40, (3, 50)), (8, (1, 8))] {
        let house = House::open_with(PATIENT, places);
        for _ in 0..rounds {
            let barrier = std::sync::Barrier::new(callers);
            thread::scope(|scope| {
                for _ in 0..callers {
                    scope.spawn(|| {
                        let mut caller = house.connect();
                        barrier.wait();
                        for _ in 0..5 {
                            caller.post("hello");
                            let reply = caller.reply().unwrap();
                            assert_eq!(reply.body, b"hello");
                            if reply.head.contains("Connection: close") {
                                caller = house.connect();
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
fn a_full_house_asks_everyone_to_leave_after_the_answer() {
    let house = House::open_with(PATIENT, (1, 2));
    let mut first = house.connect();
    first.post("hello");
    assert!(!first.reply().unwrap().head.contains("Connection: close"));
    let mut second = house.connect();
    second.post("hello");
    assert!(second.reply().unwrap().head.contains("Connection: close"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_place_is_taken_from_the_address_with_the_most_guests() {
    let house = House::open_with(PATIENT, (1, 10));
    // The lone guest of another address has been silent for longest.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.2:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&house.address.into()).unwrap();
    let mut lone = Caller(BufReader::new(socket.into()));
    lone.0.get_ref().set_read_timeout(Some(DEADLINE)).unwrap();
    lone.post("who");
    assert_eq!(lone.reply().unwrap().body, b"127.0.0.2 false");
    let crowd: Vec<_> = (0..full_or(300, 60)).map(|_| house.connect()).collect();
    house.honest_call();
    lone.post("hello");
    assert_eq!(lone.reply().unwrap().body, b"hello");
    drop(crowd);
}

#[test]
fn downloads_that_nobody_reads_are_cut_within_the_limit() {
    let house = House::open(BRIEF);
    let mut unread: Vec<_> = (0..full_or(60, 10)).map(|_| house.connect()).collect();
    for caller in &mut unread {
        caller.post("stream 10000000000");
    }
    house.keeps_answering_until(|| house.inside().guests.wait_until_empty(BRIEF / 10));
    for mut caller in unread {
        let (body, properly) = caller.rest();
        assert!(!properly && body.len() < 100_000_000, "{} bytes", body.len());
    }
    house.wait_until_empty();
}

/// A caller whose kernel takes no more than a few KiB that have not been read.
fn slow_reader(house: &House) -> Caller {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&house.address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    Caller(BufReader::with_capacity(1, stream))
}

#[test]
fn a_reader_that_drips_is_cut() {
    let house = House::open(BRIEF);
    let mut caller = slow_reader(&house);
    caller.post("stream 100000000");
    caller.head().unwrap();
    let (start, mut byte) = (Instant::now(), [0]);
    while !house.inside().guests.wait_until_empty(BRIEF / 10) {
        caller.0.get_mut().read_exact(&mut byte).unwrap();
        assert!(start.elapsed() < DEADLINE, "it was served for {DEADLINE:?}");
    }
    let (body, _) = caller.rest();
    assert!(body.len() < 100_000_000, "it looks whole");
}

#[test]
fn a_slow_reader_is_served_for_as_long_as_it_reads() {
    let limit = BRIEF * 5;
    let house = House::open(limit);
    let mut caller = slow_reader(&house);
    caller.post("stream 1000000000");
    let (start, mut bytes) = (Instant::now(), [0; 8192]);
    while start.elapsed() < limit * 2 {
        let read = caller.0.get_mut().read(&mut bytes).expect("it is not cut");
        assert!(read > 0, "it ended after {:?}", start.elapsed());
        thread::sleep(limit / 50);
    }
}

#[test]
fn closing_is_quick_while_downloads_run() {
    let mut house = House::open(PATIENT);
    let mut readers = Vec::new();
    for _ in 0..5 {
        let mut caller = house.connect();
        caller.post("stream 1000000000000");
        caller.head().unwrap();
        readers.push(thread::spawn(move || io::copy(&mut caller.0, &mut io::sink())));
    }
    let mut unread = house.connect();
    unread.post("stream 1000000000000");
    unread.head().unwrap();
    let _idle = house.connect();
    let door = house.door.take().unwrap();
    let inside = Arc::clone(&door.house);
    let start = Instant::now();
    door.close();
    assert!(start.elapsed() < Duration::from_secs(20), "closing took {:?}", start.elapsed());
    assert!(inside.guests.wait_until_empty(DEADLINE));
    for reader in readers {
        let received = reader.join().unwrap();
        assert!(received.is_err() || received.unwrap() < 1_000_000_000_000, "a download that was cut looks whole");
    }
    assert!(TcpStream::connect(house.address).is_err(), "the socket still listens");
    // The threads have gone: nobody else holds what they share.
    wait_until("threads are left over", || Arc::strong_count(&inside) == 1);
}

#[test]
fn closing_does_not_wait_for_a_call_in_progress() {
    let mut house = House::open_with(PATIENT, (1, 10));
    let mut callers = [house.connect(), house.connect()];
    for caller in &mut callers {
        caller.post("block 30");
    }
    wait_until("no call is in progress", || house.inside().lines.count() == 1);
    let start = Instant::now();
    house.door.take().unwrap().close();
    assert!(start.elapsed() < Duration::from_secs(20), "closing took {:?}", start.elapsed());
    for mut caller in callers {
        caller.rest();
    }
}

#[test]
fn guests_and_lines_fit_into_every_limit_of_descriptors() {
    for limit in 27..3000 {
        let (lines, guests) = places(limit);
        assert!(RESERVED_DESCRIPTORS + LINE_DESCRIPTORS * lines + GUEST_DESCRIPTORS * guests <= limit, "{limit}");
        assert!(lines >= 1 && guests >= 4, "{limit}: {lines} lines, {guests} guests");
    }
    assert_eq!(places(64), (6, 15));
    assert_eq!(places(1024), (126, 256));
    assert_eq!(places(usize::MAX), (MAX_LINES, MAX_GUESTS));
}

#[test]
fn a_private_path_that_no_socket_can_have_is_explained() {
    let directory = PathBuf::from("/tmp").join("x".repeat(100));
    let error = Endpoint::start(&directory, toy()).err().unwrap();
    assert!(error.to_string().contains("longer than 100 bytes"), "{error}");
    let error = Endpoint::start(&PathBuf::from("/nonexistent"), toy()).err().unwrap();
    assert!(error.to_string().contains("/nonexistent"), "{error}");
}

#[test]
fn ipv6_callers_are_served_on_a_socket_of_their_own() {
    // Without IPv6 on this machine there is nothing to show.
    let Ok(six) = listen("[::1]:0".parse().unwrap(), PATIENT) else { return };
    let port = six.local_addr().unwrap().port();
    assert!(six.local_addr().unwrap().is_ipv6());
    let _four = listen(SocketAddr::from(([127, 0, 0, 1], port)), PATIENT).expect("the same port is free for IPv4");
}
