//! Lines, threads and endpoints that fail or end, and a door that closes meanwhile.

use super::*;

/// An endpoint that receives nothing, as `tiny_http` does when its accept thread has died.
struct Deaf {
    _listener: UnixListener,
    /// How many threads are to be let go.
    released: Mutex<usize>,
    changed: Condvar,
}

impl Deaf {
    fn new(listener: UnixListener) -> Self {
        Self { _listener: listener, released: Mutex::new(0), changed: Condvar::new() }
    }

    fn let_go(&self, threads: usize) {
        *self.released.lock().unwrap() += threads;
        self.changed.notify_all();
    }
}

impl Receive for Deaf {
    fn receive(&self) -> Option<Received> {
        let none = |released: &mut usize| *released == 0;
        *self.changed.wait_while(self.released.lock().unwrap(), none).unwrap() -= 1;
        None
    }

    fn release(&self) {
        self.let_go(1);
    }

    fn end(&self) {
        self.let_go(1_000_000);
    }
}

#[test]
fn an_endpoint_that_takes_no_lines_is_replaced() {
    let private = tempfile::tempdir().unwrap();
    let directory = private.path().to_path_buf();
    let starts = Arc::new(AtomicUsize::new(0));
    let started = Arc::clone(&starts);
    let start = move || -> io::Result<(PathBuf, Arc<dyn Receive>)> {
        if starts.fetch_add(1, Ordering::SeqCst) == 0 {
            let path = directory.join("dead");
            let listener = UnixListener::bind(&path)?;
            return Ok((path, Arc::new(Deaf::new(listener))));
        }
        let endpoint = Endpoint::start(&directory, toy())?;
        Ok((endpoint.path().to_path_buf(), Arc::new(endpoint)))
    };
    let listener = listen("127.0.0.1:0".parse().unwrap(), PATIENT).unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::open_with(vec![listener], Box::new(start), PATIENT, (3, 10)).unwrap();
    let house = House { door: Some(door), address, _private: private };
    house.honest_call();
    house.honest_call();
    assert_eq!(started.load(Ordering::SeqCst), 2);
}

#[test]
fn calls_that_take_long_keep_nobody_else() {
    let mut house = House::open(PATIENT);
    let running = AtomicUsize::new(4);
    let mut slow = Vec::new();
    thread::scope(|scope| {
        for _ in 0..running.load(Ordering::SeqCst) {
            scope.spawn(|| {
                let mut caller = house.connect();
                for index in 0..full_or(10_000, 500) {
                    let start = Instant::now();
                    caller.post(&index.to_string());
                    assert_eq!(caller.reply().unwrap().body, index.to_string().into_bytes());
                    assert!(start.elapsed() < Duration::from_secs(10), "a short call took {:?}", start.elapsed());
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        while running.load(Ordering::SeqCst) > 0 && slow.len() < 30 {
            let mut caller = house.connect();
            caller.post("block 30");
            slow.push(caller);
            house.honest_call();
        }
    });
    assert!(!slow.is_empty());
    house.door.take().unwrap().close();
}

#[test]
fn nobody_gets_the_answer_of_another_when_lines_die() {
    let time = Duration::from_secs(full_or(30, 3) as u64);
    for places in [(16, 32), (1, 20)] {
        let mut house = House::open_with(PATIENT, places);
        let inside = Arc::clone(house.inside());
        let end = Instant::now() + time;
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for caller in 0..16_u64 {
                let (house, answered) = (&house, &answered);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(caller);
                    let mut connection = house.connect();
                    while Instant::now() < end {
                        let most = [900, 20_000, 900_000][random.usize(0..3)];
                        let call =
                            format!("caller {caller} {}", random.alphanumeric()).repeat(random.usize(1..most / 10));
                        let sent = connection.0.get_mut().write_all(post(&call).as_bytes());
                        match sent.and_then(|()| connection.reply()) {
                            Ok(reply) if reply.status() == "200" => {
                                assert!(reply.body == call.as_bytes(), "another answer");
                                answered.fetch_add(1, Ordering::SeqCst);
                                if !reply.head.contains("Connection: close") {
                                    continue;
                                }
                            }
                            Ok(reply) => assert_eq!(reply.status(), "503"),
                            Err(error) => assert!(error.kind() != io::ErrorKind::WouldBlock, "no answer"),
                        }
                        connection = house.connect();
                    }
                });
            }
            let mut random = fastrand::Rng::with_seed(0);
            while Instant::now() < end {
                let how = if random.u8(0..4) == 0 { Shutdown::Both } else { Shutdown::Write };
                inside.lines.shut_one(random.usize(0..1000), how);
                thread::sleep(Duration::from_micros(random.u64(0..3000)));
            }
        });
        assert!(answered.load(Ordering::SeqCst) > 0);
        house.wait_until_empty();
        house.honest_call();
        wait_until("lines are left over", || inside.lines.count() == 0);
        house.door.take().unwrap().close();
        wait_until("threads are left over", || Arc::strong_count(&inside) == 1);
    }
}

/// Answers greetings, and loses whatever comes after them on the same line.
struct Careless {
    received: Mutex<mpsc::Receiver<Option<Received>>>,
    receive: mpsc::Sender<Option<Received>>,
}

impl Careless {
    fn new(listener: UnixListener) -> Self {
        let (receive, received) = mpsc::channel();
        let sender = receive.clone();
        thread::spawn(move || {
            while let Ok((mut line, _)) = listener.accept() {
                let mut greeting = [0; 1024];
                let read = line.read(&mut greeting).unwrap();
                let greeting = String::from_utf8_lossy(&greeting[..read]);
                let call = greeting.split_once("X-Door: ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
                let answer = Box::new(move || -> Body {
                    line.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                    assert!(line.read(&mut [0; 1024]).unwrap() > 0);
                    Box::new(|_| Ok(()))
                });
                let _ = sender.send(Some(Received { call, answer }));
            }
        });
        Self { received: Mutex::new(received), receive }
    }
}

impl Receive for Careless {
    fn receive(&self) -> Option<Received> {
        self.received.lock().unwrap().recv().unwrap()
    }

    fn release(&self) {
        self.receive.send(None).unwrap();
    }

    fn end(&self) {
        for _ in 0..1000 {
            self.release();
        }
    }
}

#[test]
fn a_call_that_is_lost_ends_its_connection_and_leaves_no_thread() {
    let private = tempfile::tempdir().unwrap();
    let path = private.path().join("careless");
    let start = move || -> io::Result<(PathBuf, Arc<dyn Receive>)> {
        Ok((path.clone(), Arc::new(Careless::new(UnixListener::bind(&path)?))))
    };
    let listener = listen("127.0.0.1:0".parse().unwrap(), BRIEF).unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::open_with(vec![listener], Box::new(start), PATIENT, (3, 10)).unwrap();
    let house = House { door: Some(door), address, _private: private };
    let inside = Arc::clone(house.inside());
    let threads = Arc::strong_count(&inside);
    for length in [10, 1_000_000] {
        let mut caller = house.connect();
        caller.post(&"x".repeat(length));
        assert!(!String::from_utf8_lossy(&caller.rest().0).contains(" 200 "), "{length}");
        house.wait_until_empty();
        wait_until("a thread still waits for the lost call", || Arc::strong_count(&inside) == threads);
        wait_until("a line is left over", || inside.lines.count() == 0);
    }
}

/// Receives when it is told to, and says that it has a call.
struct Late {
    endpoint: Endpoint,
    has_call: mpsc::SyncSender<()>,
    may_go_on: Mutex<mpsc::Receiver<()>>,
}

impl Receive for Late {
    fn receive(&self) -> Option<Received> {
        let received = self.endpoint.receive();
        let _ = self.has_call.try_send(());
        let _ = self.may_go_on.lock().unwrap().recv();
        received
    }

    fn release(&self) {
        self.endpoint.release();
    }

    fn end(&self) {
        self.endpoint.end();
    }
}

#[test]
fn closing_while_an_endpoint_is_replaced_leaves_no_thread() {
    let private = tempfile::tempdir().unwrap();
    let directory = private.path().to_path_buf();
    let (has_call, greeted) = mpsc::sync_channel(1);
    let (go_on, may_go_on) = mpsc::channel();
    let once = Mutex::new(Some((has_call, may_go_on)));
    let starts = AtomicUsize::new(0);
    let start = move || -> io::Result<(PathBuf, Arc<dyn Receive>)> {
        let endpoint = Endpoint::start(&directory, toy())?;
        if starts.fetch_add(1, Ordering::SeqCst) == 0 {
            // Nobody listens there.
            return Ok((directory.join("dead"), Arc::new(endpoint)));
        }
        let (has_call, may_go_on) = once.lock().unwrap().take().expect("it is replaced once");
        let path = endpoint.path().to_path_buf();
        Ok((path, Arc::new(Late { endpoint, has_call, may_go_on: Mutex::new(may_go_on) })))
    };
    let listener = listen("127.0.0.1:0".parse().unwrap(), PATIENT).unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::open_with(vec![listener], Box::new(start), PATIENT, (3, 10)).unwrap();
    let mut house = House { door: Some(door), address, _private: private };
    let inside = Arc::clone(house.inside());
    let mut caller = house.connect();
    caller.post("hello");
    greeted.recv_timeout(DEADLINE).unwrap();
    house.door.take().unwrap().close();
    drop(go_on);
    caller.rest();
    wait_until("a thread is left over", || Arc::strong_count(&inside) == 1);
}

#[test]
fn closing_does_not_wait_for_a_greeting() {
    let private = tempfile::tempdir().unwrap();
    let path = private.path().join("deaf");
    let deaf = UnixListener::bind(&path).unwrap();
    let accepting = deaf.try_clone().unwrap();
    let deaf: Arc<dyn Receive> = Arc::new(Deaf::new(deaf));
    let start = move || -> io::Result<(PathBuf, Arc<dyn Receive>)> { Ok((path.clone(), Arc::clone(&deaf))) };
    let listener = listen("127.0.0.1:0".parse().unwrap(), PATIENT).unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::open_with(vec![listener], Box::new(start), PATIENT, (3, 10)).unwrap();
    let mut house = House { door: Some(door), address, _private: private };
    let mut caller = house.connect();
    caller.post("hello");
    let (mut line, _) = accepting.accept().unwrap();
    assert!(line.read(&mut [0; 1024]).unwrap() > 0);
    let inside = Arc::clone(house.inside());
    house.door.take().unwrap().close();
    assert!(inside.guests.wait_until_empty(Duration::ZERO), "closing gave up waiting for a guest");
}

#[test]
fn a_guest_that_was_refused_keeps_no_turn() {
    let private = tempfile::tempdir().unwrap();
    let directory = private.path().to_path_buf();
    let start = move || -> io::Result<(PathBuf, Arc<dyn Receive>)> {
        // Nobody listens there.
        Ok((directory.join("dead"), Arc::new(Endpoint::start(&directory, toy())?)))
    };
    let listener = listen("127.0.0.1:0".parse().unwrap(), PATIENT).unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::open_with(vec![listener], Box::new(start), PATIENT, (3, 10)).unwrap();
    let house = House { door: Some(door), address, _private: private };
    let mut refused: Vec<_> = (0..4).map(|_| house.connect()).collect();
    for caller in &mut refused {
        caller.post(&"x".repeat(20_000));
        assert_eq!(caller.reply().unwrap().status(), "503");
    }
    let start = Instant::now();
    assert_eq!(house.call(&"x".repeat(20_000)).status(), "503");
    assert!(start.elapsed() < Duration::from_secs(1), "it took {:?}", start.elapsed());
    drop(refused);
}
