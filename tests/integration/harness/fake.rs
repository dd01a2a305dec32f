//! A peer that answers as a test says: well, badly, slowly, in part or never. It records what it was asked, and
//! fails the test when nobody asked it anything or somebody sent a wrong proof.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    PASSWORD, PATIENCE, Value, eventually, proof,
    reply::{Reply, Then},
};
use crate::support::parse_call;

/// A call that the peer received.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) op: i64,
    pub(crate) arg: Value,
    proof: String,
}

/// A peer with a script. Without one it knows only itself and shares nothing.
pub(crate) struct FakePeer {
    url: String,
    listener: Option<TcpListener>,
    script: Script,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Script {
    peers: Option<Reply>,
    names: Option<Reply>,
    index: Option<Reply>,
    /// The answers to calls for packs, the last of which is given again and again.
    packs: Vec<Reply>,
    digests: Option<Reply>,
    /// By name: the answers to its fetches, the last of which is given again and again.
    files: HashMap<String, Vec<Reply>>,
}

#[derive(Default)]
struct State {
    calls: Mutex<Vec<Call>>,
    called: Condvar,
    streams: Mutex<Vec<TcpStream>>,
    guests: Mutex<Vec<JoinHandle<()>>>,
    /// How many listings are over, sent or not.
    listings: AtomicUsize,
    stopped: AtomicBool,
    /// Connections open now, and calls being answered now; each with the most that there have been.
    connections: Tally,
    answering: Tally,
    connections_without_a_call: AtomicUsize,
    expects_no_call: AtomicBool,
}

#[derive(Default)]
struct Tally {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Tally {
    fn enter(&self) {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, SeqCst);
    }
}

impl FakePeer {
    /// A peer that has its URL, but listens only once it is started.
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (script, state) = (Script::default(), Arc::default());
        Self { url, listener: Some(listener), script, state, acceptor: None }
    }

    /// A started peer that shares these files, each with its answer.
    pub(crate) fn sharing<'a>(files: impl IntoIterator<Item = (&'a str, Reply)>) -> Self {
        files.into_iter().fold(Self::new(), |peer, (name, reply)| peer.file(name, reply)).start()
    }

    /// What op 0 is answered with.
    pub(crate) fn on_peers(mut self, reply: Reply) -> Self {
        self.script.peers = Some(reply);
        self
    }

    /// What op 1 is answered with, instead of the names of the files.
    pub(crate) fn on_names(mut self, reply: Reply) -> Self {
        self.script.names = Some(reply);
        self
    }

    /// What op 1 with an array is answered with, instead of plain names.
    pub(crate) fn on_index(mut self, reply: Reply) -> Self {
        self.script.index = Some(reply);
        self
    }

    /// What calls for packs are answered with, one after the other, those beyond the last as that.
    pub(crate) fn on_packs(mut self, replies: impl Into<Vec<Reply>>) -> Self {
        self.script.packs = replies.into();
        self
    }

    /// What calls for digests are answered with, instead of a fault.
    pub(crate) fn on_digests(mut self, reply: Reply) -> Self {
        self.script.digests = Some(reply);
        self
    }

    /// Shares a file; its fetch is answered with `reply`.
    pub(crate) fn file(mut self, name: &str, reply: Reply) -> Self {
        self.script.files.insert(name.to_owned(), vec![reply]);
        self
    }

    /// Shares a file; its fetches are answered one after the other, those beyond the last as that.
    pub(crate) fn file_in_turn(mut self, name: &str, replies: impl Into<Vec<Reply>>) -> Self {
        self.script.files.insert(name.to_owned(), replies.into());
        self
    }

    /// This peer must never be called.
    pub(crate) fn never_called(self) -> Self {
        self.state.expects_no_call.store(true, SeqCst);
        self
    }

    pub(crate) fn start(mut self) -> Self {
        let listener = self.listener.take().expect("a peer is started once");
        let script = std::mem::take(&mut self.script);
        let peers = script.peers.unwrap_or_else(|| Reply::peers([&self.url]));
        let names = script.names.unwrap_or_else(|| {
            let mut names: Vec<_> = script.files.keys().collect();
            names.sort();
            Reply::names(names)
        });
        let index = script.index.unwrap_or_else(|| names.clone());
        let script = Arc::new((peers, names, script.files, index, script.packs, script.digests));
        let state = Arc::clone(&self.state);
        self.acceptor = Some(thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if state.stopped.load(SeqCst) {
                    return;
                }
                state.streams.lock().unwrap().push(stream.try_clone().unwrap());
                let (guests, script) = (Arc::clone(&state), Arc::clone(&script));
                let state = Arc::clone(&state);
                let guest = thread::spawn(move || {
                    state.connections.enter();
                    let calls = state.attend(&stream, |call| match (call.op, &call.arg) {
                        (0, _) => script.0.clone(),
                        (1, Value::List(_)) => script.3.clone(),
                        (1, _) => script.1.clone(),
                        (3, Value::List(_)) if script.5.is_some() => script.5.clone().unwrap(),
                        (4, Value::List(_)) if !script.4.is_empty() => {
                            script.4[state.count_op(4).min(script.4.len() - 1)].clone()
                        }
                        (_, Value::Text(name)) => {
                            let name = String::from_utf8_lossy(name);
                            let unknown = || Reply::fault(format!("[Errno 2] No such file or directory: '{name}'"));
                            let reply = script.2.get(&*name).map(|replies| {
                                &replies[if replies.len() > 1 { state.count(call).min(replies.len() - 1) } else { 0 }]
                            });
                            reply.cloned().unwrap_or_else(unknown)
                        }
                        (op, arg) => Reply::fault(format!("op {op} with {arg:?}")),
                    });
                    if calls == 0 && !state.stopped.load(SeqCst) {
                        state.connections_without_a_call.fetch_add(1, SeqCst);
                    }
                    // Before the caller sees the end, for then it may open another.
                    state.connections.leave();
                    _ = stream.shutdown(Shutdown::Both);
                    // What is kept of closed ones would use up the descriptors of all tests.
                    state.streams.lock().unwrap().retain(|stream| stream.peer_addr().is_ok());
                });
                guests.guests.lock().unwrap().push(guest);
            }
        }));
        self
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What it has been asked so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap().clone()
    }

    /// The names that were fetched from it so far, in order of the calls.
    pub(crate) fn fetched(&self) -> Vec<String> {
        let is_fetch = |call: &Call| call.op != 0 && call.op != 1 && matches!(call.arg, Value::Text(_));
        let fetches = self.calls().into_iter().filter(is_fetch);
        fetches.map(|call| call.arg.text()).collect()
    }

    /// Waits until a listing is over, whether its caller took it or hung up.
    #[track_caller]
    pub(crate) fn wait_for_listing(&self) {
        eventually("the end of a listing", PATIENCE, || (self.state.listings.load(SeqCst) > 0).then_some(()));
    }

    /// Waits until it has been asked for so many files.
    #[track_caller]
    pub(crate) fn wait_for_fetches(&self, count: usize) {
        let calls = self.state.calls.lock().unwrap();
        let few = |calls: &mut Vec<Call>| calls.iter().filter(|call| call.op != 0 && call.op != 1).count() < count;
        let (calls, waited) = self.state.called.wait_timeout_while(calls, PATIENCE, few).unwrap();
        assert!(!waited.timed_out(), "not enough was fetched from {}: {calls:?}", self.url);
    }

    /// The most calls that were under way at once, and the most connections that were open at once.
    pub(crate) fn most_at_once(&self) -> (usize, usize) {
        (self.state.answering.most.load(SeqCst), self.state.connections.most.load(SeqCst))
    }

    /// How many connections were opened and closed again without a call.
    pub(crate) fn connections_without_a_call(&self) -> usize {
        self.state.connections_without_a_call.load(SeqCst)
    }
}

impl Drop for FakePeer {
    fn drop(&mut self) {
        self.state.stopped.store(true, SeqCst);
        if let Some(acceptor) = self.acceptor.take() {
            _ = TcpStream::connect(self.url.strip_prefix("http://").unwrap());
            _ = acceptor.join();
        }
        for stream in self.state.streams.lock().unwrap().drain(..) {
            _ = stream.shutdown(Shutdown::Both);
        }
        let guests = std::mem::take(&mut *self.state.guests.lock().unwrap());
        let failed = guests.into_iter().filter_map(|guest| guest.join().err()).count();
        if thread::panicking() {
            eprintln!("the scripted peer {} was asked {:?}", self.url, self.calls());
            return;
        }
        assert_eq!(failed, 0, "{} was sent what is no call", self.url);
        let calls = self.calls();
        let uncalled = self.state.expects_no_call.load(SeqCst);
        assert_eq!(calls.is_empty(), uncalled, "{} was asked {calls:?}", self.url);
        for call in calls {
            assert_eq!(call.proof, proof(PASSWORD, &self.url), "a wrong proof in {call:?}");
        }
    }
}

impl State {
    /// How often this op was asked before.
    fn count_op(&self, op: i64) -> usize {
        self.calls.lock().unwrap().iter().filter(|earlier| earlier.op == op).count()
    }

    /// How often this was asked before.
    fn count(&self, call: &Call) -> usize {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|earlier| earlier.op == call.op && earlier.arg == call.arg).count()
    }

    /// Serves one connection to its end and says how many calls it brought.
    fn attend(&self, stream: &TcpStream, answer: impl Fn(&Call) -> Reply) -> usize {
        let mut reader = BufReader::new(stream);
        let mut count = 0;
        while let Some(call) = read_call(&mut reader) {
            count += 1;
            self.answering.enter();
            let (reply, is_listing) = (answer(&call), call.op == 1);
            self.calls.lock().unwrap().push(call);
            self.called.notify_all();
            let goes_on = self.deliver(stream, &reply);
            self.answering.leave();
            self.listings.fetch_add(usize::from(is_listing), SeqCst);
            if !goes_on {
                break;
            }
        }
        count
    }

    /// Sends an answer; says whether the connection goes on.
    fn deliver(&self, mut stream: &TcpStream, reply: &Reply) -> bool {
        let mut bytes = &*reply.bytes;
        if let Some((position, gate)) = &reply.gate {
            let (before, after) = bytes.split_at(*position);
            _ = stream.write_all(before);
            gate.pass();
            bytes = after;
        }
        thread::sleep(reply.delay);
        let (size, pause) = reply.pace.unwrap_or((usize::MAX, Duration::ZERO));
        let sent = bytes.chunks(size.min(bytes.len().max(1))).all(|piece| {
            let sent = stream.write_all(piece).is_ok();
            thread::sleep(pause);
            sent && !self.stopped.load(SeqCst)
        });
        match reply.then {
            Then::Continue => sent,
            Then::Close => false,
            Then::Stall => {
                // Ends when the caller hangs up or the test does.
                _ = stream.read(&mut [0]);
                false
            }
            Then::Repeat => {
                let chunk = &reply.bytes[reply.bytes.len() - size..];
                while !self.stopped.load(SeqCst) {
                    if stream.write_all(chunk).is_err() {
                        break;
                    }
                }
                false
            }
        }
    }
}

/// Reads one POST and the call in it; none at the end of the connection.
fn read_call(reader: &mut impl BufRead) -> Option<Call> {
    let mut length = 0;
    let mut first = true;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if std::mem::take(&mut first) {
            assert!(line.starts_with("POST /RPC2 HTTP/1.1"), "not a call: {line:?}");
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((key, value)) = line.split_once(':')
            && key.eq_ignore_ascii_case("Content-Length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body).ok()?;
    if body.len() as u64 != length {
        // A caller may be killed in the middle of a call.
        return None;
    }
    let (method, params) = parse_call(&body);
    assert_eq!(method, "f");
    let params: [Value; 3] = params.try_into().expect("a call has three parameters");
    let [proof, Value::Int(op), arg] = params else { panic!("op is a number") };
    Some(Call { op, arg, proof: proof.text() })
}
