//! A server under attack and an honest caller beside it, who measures.

use std::{
    fs::File,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{Dir, PASSWORD, Server, call, call_for, full, post, serve, string};

/// Within this time an honest call is promised to be answered, whatever goes on.
const PROMISE: Duration = Duration::from_secs(1);

/// The same for a server with few descriptors, and how many are few.
const PROMISE_WITH_FEW: Duration = Duration::from_secs(3);
const FEW_DESCRIPTORS: u32 = 70;

/// A deadline is so many times what is promised.
const LENIENCE: u32 = 10;

/// The most memory in KiB that a server may ever have held.
#[cfg(target_os = "linux")]
const MOST_MEMORY: u64 = 120 * 1024;

/// Within this time what strangers cost is promised to be freed: two silence limits, and 12 s for the threads and
/// lines that are kept for the next calls.
#[cfg(target_os = "linux")]
const RECOVERY: Duration = Duration::from_secs(2 + 12);

/// Workers that stay for the next calls.
#[cfg(target_os = "linux")]
const THREADS_KEPT: usize = 4;

/// How long the honest caller rests between two calls.
const REST: Duration = Duration::from_millis(20);

/// How many honest calls are made after an attack.
const CALLS_AFTERWARDS: usize = 3;

/// The descriptors of this process that all attacks together may need.
const WANTED_DESCRIPTORS: u64 = 16 * 1024;

/// What the honest caller fetches.
const SMALL: &str = "small";
const CONTENT: &[u8] = b"worth a call";

/// A file of 4 GiB that takes no space.
pub(super) const LARGE: &str = "large";

/// The beginning of something that may be long.
pub(super) fn shown(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    format!("\"{}\", {} bytes", bytes[..bytes.len().min(100)].escape_ascii(), bytes.len())
}

/// The larger number when the heavy variants are to run, else the smaller.
pub(super) fn full_or(heavy: usize, light: usize) -> usize {
    if full() { heavy } else { light }
}

/// A server under attack.
pub(super) struct Siege {
    name: String,
    server: Server,
    _dir: Dir,
    promise: Duration,
    began: Instant,
    calls: usize,
    slowest: Duration,
    #[cfg(target_os = "linux")]
    base: Load,
}

impl Siege {
    pub(super) fn new(name: &str) -> Self {
        Self::start(name.to_owned(), "1", None)
    }

    /// A server whose silence limit nobody will live to see.
    pub(super) fn without_limit(name: &str) -> Self {
        Self::start(name.to_owned(), "3600", None)
    }

    /// A server that may have only so many descriptors.
    pub(super) fn with_descriptors(limit: u32) -> Self {
        Self::start(format!("{limit} descriptors"), "1", Some(limit))
    }

    fn start(name: String, silence: &str, descriptors: Option<u32>) -> Self {
        raise_descriptor_limit();
        let dir = Dir::with([(SMALL, CONTENT)]);
        File::create(dir.join(LARGE)).unwrap().set_len(4 << 30).unwrap();
        let server = serve(&dir).options(["--timeout", silence]);
        let server = match descriptors {
            Some(limit) => server.descriptors(limit),
            None => server,
        }
        .start();
        let few = descriptors.is_some_and(|limit| limit < FEW_DESCRIPTORS);
        let mut siege = Self {
            name,
            #[cfg(target_os = "linux")]
            base: Load::of(&server),
            server,
            _dir: dir,
            promise: if few { PROMISE_WITH_FEW } else { PROMISE },
            began: Instant::now(),
            calls: 0,
            slowest: Duration::ZERO,
        };
        // Only now have all threads surely started; descriptors that a call needs do not count.
        siege.call_honestly();
        #[cfg(target_os = "linux")]
        {
            siege.base.threads = Load::of(&siege.server).threads;
        }
        siege
    }

    pub(super) fn url(&self) -> &str {
        self.server.url()
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Makes honest calls until the attack is over, and some afterwards.
    #[track_caller]
    pub(super) fn endure<T: Send>(&mut self, attack: impl FnOnce(&str) -> T + Send) -> T {
        let url = self.server.url().to_owned();
        thread::scope(|scope| {
            let (end, ended) = mpsc::channel::<()>();
            let attack = scope.spawn(move || {
                let _end = end;
                attack(&url)
            });
            while ended.recv_timeout(REST) == Err(RecvTimeoutError::Timeout) {
                self.call_honestly();
            }
            let result = attack.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            for _ in 0..CALLS_AFTERWARDS {
                self.call_honestly();
            }
            result
        })
    }

    /// One call by a friend, on a connection of its own.
    #[track_caller]
    pub(super) fn call_honestly(&mut self) {
        let url = self.server.url();
        let begin = Instant::now();
        match self.calls % 4 {
            0 => assert_eq!(call(url, 2, &string(SMALL)).content(), CONTENT),
            1 => assert_eq!(call(url, 1, &string("^s")).names(), [SMALL]),
            // As long as one that tells of a thousand peers.
            2 => {
                let document = call_for(PASSWORD, url, 1, &string("^s")) + &" ".repeat(60_000);
                assert_eq!(post(url, document).answer().names(), [SMALL]);
            }
            _ => assert!(call(url, 0, "<value><array><data/></array></value>").peers().contains(&url.to_owned())),
        }
        let took = begin.elapsed();
        self.calls += 1;
        self.slowest = self.slowest.max(took);
        assert!(took < self.promise * LENIENCE, "{}: honest call {} took {took:?}", self.name, self.calls);
    }

    /// Fails if the server has held too much memory or did not survive; prints what was measured. In a full run it
    /// waits for the strangers' traces to vanish, too.
    #[track_caller]
    pub(super) fn lift(self) {
        let recovered = full().then(|| self.recover());
        self.report(recovered.flatten());
    }

    /// The same, and waits for the traces to vanish in any run.
    #[track_caller]
    pub(super) fn lift_and_recover(self) {
        let recovered = self.recover();
        self.report(recovered);
    }

    #[cfg(target_os = "linux")]
    #[track_caller]
    fn recover(&self) -> Option<Duration> {
        let begin = Instant::now();
        loop {
            let load = Load::of(&self.server);
            if load.descriptors <= self.base.descriptors && load.threads <= self.base.threads + THREADS_KEPT {
                return Some(begin.elapsed());
            }
            let waited = begin.elapsed();
            assert!(waited < RECOVERY * 3, "{}: {load:?} after {waited:?}, {:?} at first", self.name, self.base);
            thread::sleep(REST);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn recover(&self) -> Option<Duration> {
        println!("{}: descriptors and threads are counted on Linux only", self.name);
        None
    }

    #[track_caller]
    fn report(&self, recovered: Option<Duration>) {
        let Self { name, calls, slowest, .. } = self;
        let took = self.began.elapsed();
        #[cfg(target_os = "linux")]
        let memory = crate::harness::peak_memory(self.server.pid());
        #[cfg(not(target_os = "linux"))]
        let memory = 0;
        let recovered = recovered.map_or_else(String::new, |time| format!(", all freed after {time:.1?}"));
        println!("{name}: {calls} honest calls took {slowest:.1?} at most, {memory} KiB{recovered}; {took:.1?} in all");
        #[cfg(target_os = "linux")]
        assert!(memory < MOST_MEMORY, "{name}: the server held {memory} KiB");
        let log = self.server.log();
        assert!(!log.contains("panicked") && !log.contains(PASSWORD), "{name}: {}", self.server);
    }
}

/// What a process holds.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug)]
struct Load {
    descriptors: usize,
    threads: usize,
}

#[cfg(target_os = "linux")]
impl Load {
    fn of(server: &Server) -> Self {
        let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", server.pid())).unwrap().count();
        Self { descriptors: count("fd"), threads: count("task") }
    }
}

/// Attackers need descriptors too, and what a shell allows may be 256.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(WANTED_DESCRIPTORS);
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).unwrap();
    }
}
