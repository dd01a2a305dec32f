//! Whole networks of [`Membership`]s under a virtual clock: that they come to know each other, and at what price.
//!
//! A simulated server calls what the real server's loop calls, and nothing else: `due` when `next_due` says so, `told`
//! and `listed` for a call that comes in, `answered` or `failed` for one that went out.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use super::*;

const PERIOD: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(30);
const XML_BYTES_A_URL: usize = 50;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Start(usize),
    Stop(usize),
    Wake(usize),
    Arrive { from: usize, to: usize, life: u32 },
    Silence { from: usize, to: usize, life: u32 },
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
    started: Duration,
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
        let server =
            |number| Server { url: url(number), members: None, started: Duration::ZERO, wakes_at: None, life: 0 };
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

    fn start(&mut self, number: usize, named: &[usize]) {
        let seed = self.random.u64(..);
        let server = &mut self.servers[number];
        server.life += 1;
        server.started = self.now;
        let named = named.iter().map(|&number| url(number)).collect();
        server.members = Some(Membership::new(server.url.clone(), named, Some(PERIOD), Duration::ZERO, seed));
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
        let next = now.max(server.started + next);
        if server.wakes_at.is_none_or(|at| next < at || at < now) {
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
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start(number) => self.start(number, &[0]),
            Event::Stop(number) => self.stop(number),
            Event::Wake(from) => self.wake(from),
            Event::Arrive { from, to, life } if self.servers[from].life == life => self.arrive(from, to, life),
            Event::Silence { from, to, life } if self.servers[from].life == life => {
                let (now, peer) = (self.now - self.servers[from].started, self.servers[to].url.clone());
                self.servers[from].members.as_mut().unwrap().failed(&peer, now);
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
        let (due, life) = (members.due(self.now - server.started), server.life);
        for peer in due {
            self.calls += 1;
            let arrival = self.now + Duration::from_micros(self.random.u64(5_000..50_000));
            self.at(arrival, Event::Arrive { from, to: number(&peer), life });
        }
        self.plan(from);
    }

    fn arrive(&mut self, from: usize, to: usize, life: u32) {
        let alone = (from < self.cut) != (to < self.cut);
        let now = self.now;
        let [caller, called] = self.servers.get_disjoint_mut([from, to]).expect("nobody calls its own URL");
        let (Some(asking), Some(telling), false) = (&mut caller.members, &mut called.members, alone) else {
            return self.at(now + SILENCE, Event::Silence { from, to, life });
        };
        let (mut pushed, mut listed) = (0, 0);
        telling.told(asking.pushed().inspect(|_| pushed += 1), now - called.started);
        asking.answered(&called.url, telling.listed().inspect(|_| listed += 1), now - caller.started);
        self.bytes += (pushed + listed) * (called.url.as_str().len() + XML_BYTES_A_URL);
        self.plan(from);
        self.plan(to);
    }

    fn members(&self, number: usize) -> &Membership {
        self.servers[number].members.as_ref().expect("the server lives")
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
        self.living().all(|members| members.listed().filter(|url| self.is_alive(url)).count() == living)
    }

    /// Whether no living server lists a dead one.
    fn none_lists_the_dead(&self) -> bool {
        self.living().all(|members| members.listed().all(|url| self.is_alive(url)))
    }

    /// Whether no server lists one from the other side of the cut.
    fn halves_are_apart(&self) -> bool {
        let side = |url: &PeerUrl| number(url) < self.cut;
        let servers = self.servers.iter().filter_map(|server| Some((side(&server.url), server.members.as_ref()?)));
        servers.into_iter().all(|(own_side, members)| members.listed().all(|url| side(url) == own_side))
    }

    /// Runs until something holds; says how many periods that took, to a tenth. Panics after `limit` periods.
    fn periods_until(&mut self, limit: f64, holds: impl Fn(&Self) -> bool) -> f64 {
        let begin = self.now;
        for tenths in 0_u32.. {
            let periods = f64::from(tenths) / 10.0;
            assert!(periods <= limit, "it took {} servers more than {limit:.1} periods", self.servers.len());
            self.run_until(begin + PERIOD.mul_f64(periods));
            if holds(self) {
                return periods;
            }
        }
        unreachable!("the limit was reached before")
    }

    /// Runs for some periods; says the calls and the kilobytes of a server in each.
    fn price_of(&mut self, periods: u32) -> Price {
        (self.calls, self.bytes) = (0, 0);
        self.run_until(self.now + PERIOD * periods);
        let each = |sum: usize| ratio(sum, self.living().count()) / f64::from(periods);
        Price { calls: each(self.calls), kilobytes: each(self.bytes) / 1000.0 }
    }

    /// All join through the first server, in random order, within some periods.
    fn joined(size: usize, seed: u64, periods: u32) -> Self {
        let mut world = Self::new(size, seed);
        world.start(0, &[]);
        world.join(1..size, periods);
        world
    }

    fn join(&mut self, numbers: std::ops::Range<usize>, periods: u32) {
        let end = self.now + PERIOD * periods;
        for number in numbers {
            let time = self.now + (end - self.now).mul_f64(self.random.f64());
            self.at(time, Event::Start(number));
        }
        self.run_until(end);
    }

    /// A tenth joins through the first server, and dies; then the others join.
    fn joined_among_dead(size: usize, seed: u64) -> Self {
        let mut world = Self::new(size, seed);
        world.start(0, &[]);
        world.join(1..1 + size / 10, 1);
        (1..1 + size / 10).for_each(|number| world.stop(number));
        world.join(1 + size / 10..size, 1);
        world
    }

    /// Two halves that never met; one of the one is told of one of the other.
    fn introduced(size: usize, seed: u64) -> Self {
        let mut world = Self::new(size, seed);
        world.start(0, &[]);
        world.start(size / 2, &[]);
        for number in (1..size).filter(|&number| number != size / 2) {
            let first = if number < size / 2 { 0 } else { size / 2 };
            world.start(number, &[first]);
        }
        world.run_until(PERIOD);
        assert!(!world.all_know_all());
        let now = world.now - world.servers[1].started;
        let introduced = world.servers[size / 2].url.clone();
        world.servers[1].members.as_mut().expect("it lives").told([&introduced], now);
        world
    }

    /// As after hours of a cut, when every server has found all beyond it dead: what [`Self::halves_are_apart`] waits
    /// for, without the waiting.
    fn cut_for_hours(&mut self, cut: usize) {
        self.cut = cut;
        for server in &mut self.servers {
            let (now, own_side) = (self.now - server.started, number(&server.url) < cut);
            let members = server.members.as_mut().expect("all live");
            for place in 1..members.peers.len() {
                let peer = &members.peers[place];
                if (number(&peer.url) < cut) != own_side {
                    let (failed_at, rests_until) = (now, now + LONGEST_PAUSE.mul_f64(self.random.f64()));
                    let death = Trouble { tries: 9, failures: 9, failed_at, rests_until, again: false };
                    members.peers[place].trouble = Some(Box::new(death));
                }
            }
        }
        assert!(self.halves_are_apart());
        self.run_until(self.now + PERIOD * 2);
    }
}

#[derive(Clone, Copy)]
struct Price {
    calls: f64,
    kilobytes: f64,
}

#[expect(clippy::cast_precision_loss, reason = "the figures are far below 2^52")]
fn ratio(sum: usize, count: usize) -> f64 {
    sum as f64 / count as f64
}

/// `a + b * log2(size)`: what may be promised of networks of any size.
fn bound(a: f64, b: f64, size: usize) -> f64 {
    a + b * ratio(size, 1).log2()
}

/// Prints one line of the table.
fn report(size: usize, scenario: &str, periods: f64, calls: usize, price: Price) {
    let Price { calls: steady, kilobytes } = price;
    let calls = ratio(calls, size);
    println!("{size:>7} | {scenario:<42} | {periods:>7.1} | {calls:>7.1} | {steady:>8.2} | {kilobytes:>9.1}");
}

/// What the columns of the table mean: how long it took until all was well (all know all, where nothing else is said),
/// how many calls of a server that took in all, and what a server then calls and moves in each period.
fn head() {
    println!("servers | scenario                                   | periods |   calls | calls/p. | kB/period");
}

/// How many networks of a size to try: chance rules each, and the small ones cost nothing.
fn seeds(size: usize) -> std::ops::Range<u64> {
    0..match size {
        ..=10 => 30,
        ..=100 => 5,
        _ => 1,
    }
}

/// Runs a scenario for several seeds and reports the longest run.
fn worst(size: usize, scenario: &str, run: impl Fn(u64) -> (World, f64)) -> World {
    let runs = seeds(size).map(run);
    let (mut world, periods) = runs.max_by(|one, other| one.1.total_cmp(&other.1)).expect("there are seeds");
    let calls = world.calls;
    let price = world.clone().price_of(5);
    report(size, scenario, periods, calls, price);
    world.calls = 0;
    assert!(price.calls < 3.5, "{scenario}: {} calls a period", price.calls);
    world
}

fn sizes() -> Vec<usize> {
    vec![10, 100, 1000]
}

#[test]
fn servers_that_join_in_random_order_know_each_other() {
    head();
    for size in sizes() {
        let begin = Instant::now();
        let clean = worst(size, "joined", |seed| {
            let mut world = World::joined(size, seed, 1);
            let periods = world.periods_until(bound(0.2, 0.05, size), World::all_know_all);
            (world, periods)
        });
        println!("{:?}", begin.elapsed());
        worst(size, "cut for 5 periods, healed", |_| {
            let mut world = clean.clone();
            world.cut = size / 2;
            world.run_until(world.now + PERIOD * 5);
            (world.cut, world.calls) = (0, 0);
            let periods = world.periods_until(bound(3.0, 0.5, size), World::all_know_all);
            (world, periods)
        });
        println!("{:?}", begin.elapsed());
        worst(size, "cut for hours, healed", |_| {
            let mut world = clean.clone();
            world.cut_for_hours(size / 2);
            (world.cut, world.calls) = (0, 0);
            let periods = world.periods_until(bound(15.0, 0.5, size), World::all_know_all);
            (world, periods)
        });
        println!("{:?}", begin.elapsed());
        worst(size, "one dies; off all lists", |_| {
            let mut world = clean.clone();
            world.stop(size / 3);
            let periods = world.periods_until(bound(8.0, 3.0, size), World::none_lists_the_dead);
            (world, periods)
        });
        println!("{:?}", begin.elapsed());
    }
}

#[test]
fn servers_that_join_among_dead_ones_know_the_living() {
    for size in sizes() {
        let begin = Instant::now();
        let mut world = worst(size, "joined, a tenth is dead", |seed| {
            let mut world = World::joined_among_dead(size, seed);
            let periods = world.periods_until(bound(0.2, 0.05, size), World::all_know_all);
            (world, periods)
        });
        println!("{:?}", begin.elapsed());
        println!("{:?}", world.periods_until(200.0, World::none_lists_the_dead));
        println!("{:?}", begin.elapsed());
    }
}

#[test]
fn networks_that_never_met_grow_together() {
    for size in sizes() {
        let begin = Instant::now();
        worst(size, "two networks introduced", |seed| {
            let mut world = World::introduced(size, seed);
            world.calls = 0;
            let periods = world.periods_until(bound(1.0, 1.0, size), World::all_know_all);
            (world, periods)
        });
        println!("{:?}", begin.elapsed());
    }
}
