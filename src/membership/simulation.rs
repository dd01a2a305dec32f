//! Whole networks of [`Membership`]s under a virtual clock: that they come to know each other, and at what price.
//!
//! A simulated server calls what the real server's loop calls, and nothing else: `due` when `next_due` says so,
//! `on_request` and `live_peers` for a call that comes in, `on_response` or `on_failure` for one that went out.

mod trials;

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range, time::Duration};

use super::*;

const PERIOD: Duration = Duration::from_secs(60);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What XML adds to each URL of a list.
const XML_BYTES: usize = 50;

/// How long a network is left alone once all is well: until those that failed once have been tried again.
const SETTLING_PERIODS: u32 = 4;

/// For how long its price is measured then.
const STEADY_PERIODS: u32 = 5;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Of a server, with its seed.
    Start(usize, usize),
    Wake(usize),
    Arrive {
        from: usize,
        to: usize,
        life: u32,
    },
    Timeout {
        from: usize,
        to: usize,
        life: u32,
    },
}

#[derive(Clone)]
struct World {
    now: Duration,
    servers: Vec<Server>,
    queue: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    events: u64,
    /// Servers below this number and the others cannot reach each other.
    cut: usize,
    calls: usize,
    bytes: usize,
    random: fastrand::Rng,
}

#[derive(Clone)]
struct Server {
    url: PeerUrl,
    members: Option<Membership>,
    wakes_at: Option<Duration>,
    life: u32,
}

fn url(number: usize) -> PeerUrl {
    format!("http://192.168.1.1:{}", 10_000 + number).parse().unwrap()
}

fn number(url: &PeerUrl) -> usize {
    url.as_str()[19..].parse::<usize>().unwrap() - 10_000
}

impl World {
    fn new(size: usize, seed: u64) -> Self {
        let server = |number| Server { url: url(number), members: None, wakes_at: None, life: 0 };
        Self {
            now: Duration::ZERO,
            servers: (0..size).map(server).collect(),
            queue: BinaryHeap::new(),
            events: 0,
            cut: 0,
            calls: 0,
            bytes: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.events += 1;
        self.queue.push(Reverse((time, self.events, event)));
    }

    fn start(&mut self, number: usize, seeds: &[usize]) {
        let (now, seed) = (self.now, self.random.u64(..));
        let server = &mut self.servers[number];
        server.life += 1;
        let seeds = seeds.iter().map(|&number| url(number)).collect();
        server.members = Some(Membership::new(server.url.clone(), seeds, Some(PERIOD), now, seed));
        server.wakes_at = None;
        self.plan(number);
    }

    fn stop(&mut self, number: usize) {
        self.servers[number].members = None;
        self.servers[number].life += 1;
    }

    /// Puts the server's next wake-up into the queue.
    fn plan(&mut self, number: usize) {
        let now = self.now;
        let server = &mut self.servers[number];
        let Some(members) = &server.members else { return };
        let Some(next) = members.next_due() else { return };
        let next = now.max(next);
        if server.wakes_at.is_none_or(|at| next < at) {
            server.wakes_at = Some(next);
            self.at(next, Event::Wake(number));
        }
    }

    fn run_until(&mut self, end: Duration) {
        while let Some(Reverse((time, _, _))) = self.queue.peek()
            && *time <= end
        {
            let Reverse((time, _, event)) = self.queue.pop().unwrap();
            self.now = time;
            self.handle(event);
        }
        self.now = end;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Start(number, seed) => self.start(number, &[seed]),
            Event::Wake(from) => self.wake(from),
            Event::Arrive { from, to, life } if self.servers[from].life == life => self.arrive(from, to, life),
            Event::Timeout { from, to, life } if self.servers[from].life == life => {
                let (now, peer) = (self.now, self.servers[to].url.clone());
                self.servers[from].members.as_mut().unwrap().on_failure(&peer, now);
                self.plan(from);
            }
            _ => {}
        }
    }

    fn wake(&mut self, from: usize) {
        let server = &mut self.servers[from];
        if server.wakes_at != Some(self.now) {
            return;
        }
        server.wakes_at = None;
        let Some(members) = &mut server.members else { return };
        let (due, life) = (members.due(self.now), server.life);
        for peer in due {
            self.calls += 1;
            let arrival = self.now + Duration::from_micros(self.random.u64(5_000..50_000));
            self.at(arrival, Event::Arrive { from, to: number(&peer), life });
        }
        self.plan(from);
    }

    fn arrive(&mut self, from: usize, to: usize, life: u32) {
        let is_cut = (from < self.cut) != (to < self.cut);
        let now = self.now;
        let [near, far] = self.servers.get_disjoint_mut([from, to]).expect("nobody calls its own URL");
        let (Some(calling), Some(called), false) = (&mut near.members, &mut far.members, is_cut) else {
            return self.at(now + REQUEST_TIMEOUT, Event::Timeout { from, to, life });
        };
        let request: Vec<&PeerUrl> = calling.peers_to_send().collect();
        called.on_request(&request, now);
        let sent = request.len();
        let response: Vec<&PeerUrl> = called.live_peers().collect();
        calling.on_response(&far.url, &response, now);
        self.bytes += (sent + response.len()) * (far.url.as_str().len() + XML_BYTES);
        self.plan(from);
        self.plan(to);
    }

    fn is_alive(&self, url: &PeerUrl) -> bool {
        self.servers[number(url)].members.is_some()
    }

    fn living(&self) -> impl Iterator<Item = &Membership> {
        self.servers.iter().filter_map(|server| server.members.as_ref())
    }

    /// Whether every living server lists every living server.
    fn all_know_all(&self) -> bool {
        let living = self.living().count();
        self.living().all(|members| members.live_peers().filter(|url| self.is_alive(url)).count() == living)
    }

    /// Whether no living server lists a dead one.
    fn none_lists_the_dead(&self) -> bool {
        self.living().all(|members| members.live_peers().all(|url| self.is_alive(url)))
    }

    /// Whether no server lists one from the other side of the cut.
    fn halves_are_apart(&self) -> bool {
        let side = |url: &PeerUrl| number(url) < self.cut;
        let servers = self.servers.iter().filter_map(|server| Some((side(&server.url), server.members.as_ref()?)));
        servers.into_iter().all(|(own_side, members)| members.live_peers().all(|url| side(url) == own_side))
    }

    /// Runs until all is well; says how many periods that took, to a tenth. Panics after `limit` periods.
    fn periods_until(&mut self, scenario: &str, limit: f64, is_well: impl Fn(&Self) -> bool) -> f64 {
        let begin = self.now;
        for tenths in 0_u32.. {
            let periods = f64::from(tenths) / 10.0;
            assert!(periods <= limit, "{} servers, {scenario}: not within {limit:.1} periods", self.servers.len());
            self.run_until(begin + PERIOD.mul_f64(periods));
            if is_well(self) {
                return periods;
            }
        }
        unreachable!("the limit was reached before")
    }

    /// All join through the first server, in random order, within some periods.
    fn joined(size: usize, seed: u64, periods: u32) -> Self {
        let mut world = Self::new(size, seed);
        world.start(0, &[]);
        world.join(1..size, periods);
        world
    }

    fn join(&mut self, numbers: Range<usize>, periods: u32) {
        let begin = self.now;
        for number in numbers {
            let time = begin + (PERIOD * periods).mul_f64(self.random.f64());
            self.at(time, Event::Start(number, 0));
        }
        self.run_until(begin + PERIOD * periods);
    }

    /// A tenth joins through the first server, and dies; then the others join.
    fn joined_among_dead(size: usize, seed: u64, periods: u32) -> Self {
        let mut world = Self::new(size, seed);
        let dying = 1..1 + size / 10;
        world.start(0, &[]);
        world.join(dying.clone(), 1);
        dying.clone().for_each(|number| world.stop(number));
        world.join(dying.end..size, periods);
        world
    }

    /// Two halves that never met; then one of the first half learns of one of the other.
    fn introduced(size: usize, seed: u64, periods: u32) -> Self {
        let mut world = Self::new(size, seed);
        let other = size / 2;
        world.start(0, &[]);
        world.start(other, &[]);
        for number in (1..size).filter(|&number| number != other) {
            let time = PERIOD.mul_f64(f64::from(periods) * world.random.f64());
            world.at(time, Event::Start(number, if number < other { 0 } else { other }));
        }
        world.run_until(PERIOD * (periods + 1));
        assert!(world.living().all(|members| members.live_peers().count() == size / 2));
        let (now, introduced) = (world.now, url(other));
        world.servers[1].members.as_mut().expect("it lives").on_request(&[&introduced], now);
        world.plan(1);
        world
    }
}
