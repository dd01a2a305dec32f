//! Backends that are slow, die or end, and a server that ends meanwhile.

use super::*;

#[test]
fn calls_that_take_long_keep_nobody_else() {
    let server = TestServer::start(PATIENT);
    let running = AtomicUsize::new(4);
    let mut slow = Vec::new();
    thread::scope(|scope| {
        for _ in 0..running.load(Ordering::SeqCst) {
            scope.spawn(|| {
                let mut caller = server.connect();
                for index in 0..full_or(10_000, 500) {
                    let start = Instant::now();
                    caller.post("/RPC2", index.to_string());
                    assert_eq!(caller.response().body, index.to_string().into_bytes());
                    assert!(start.elapsed() < Duration::from_secs(10), "a short call took {:?}", start.elapsed());
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        while running.load(Ordering::SeqCst) > 0 && slow.len() < 30 {
            let mut caller = server.connect();
            caller.post("/RPC2", "block 30");
            slow.push(caller);
            server.honest_call();
        }
    });
    assert!(!slow.is_empty());
    drop(server.server);
}

#[test]
fn nobody_gets_the_answer_of_another_when_backends_die() {
    let time = Duration::from_secs(full_or(30, 3) as u64);
    for (connections, backends) in [(32, 16), (20, 1)] {
        let server = TestServer::start_with(PATIENT, connections, backends);
        let state = Arc::clone(&server.server.state);
        let end = Instant::now() + time;
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for caller in 0..16_u64 {
                let (server, answered) = (&server, &answered);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(caller);
                    let mut connection = server.connect();
                    while Instant::now() < end {
                        let most = [900, 20_000, 900_000][random.usize(0..3)];
                        let call =
                            format!("caller {caller} {}", random.alphanumeric()).repeat(random.usize(1..most / 10));
                        let sent = connection.stream().get_mut().write_all(post(&call).as_bytes());
                        match sent.and_then(|()| connection.try_response()) {
                            Ok(reply) if reply.status == 200 => {
                                assert!(reply.body == call.as_bytes(), "another answer");
                                answered.fetch_add(1, Ordering::SeqCst);
                                if !reply.closes() {
                                    continue;
                                }
                            }
                            Ok(reply) => assert_eq!(reply.status, 503),
                            Err(error) => assert!(error.kind() != io::ErrorKind::WouldBlock, "no answer"),
                        }
                        connection = server.connect();
                    }
                });
            }
            let mut random = fastrand::Rng::with_seed(0);
            while Instant::now() < end {
                let how = if random.u8(0..4) == 0 { Shutdown::Both } else { Shutdown::Write };
                state.backends.shut_down_one(random.usize(0..1000), how);
                thread::sleep(Duration::from_micros(random.u64(0..3000)));
            }
        });
        assert!(answered.load(Ordering::SeqCst) > 0);
        server.wait_until_empty();
        server.honest_call();
        eventually("backends are left over", PATIENCE, || (state.backends.count_spare() == 0).then_some(()));
        drop(server.server);
        eventually("threads are left over", PATIENCE, || (Arc::strong_count(&state) == 1).then_some(()));
    }
}
