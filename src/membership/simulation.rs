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

    fn living(&self) -> impl Iterator<Item = (usize, &Membership)> {
        self.servers.iter().enumerate().filter_map(|(number, server)| Some((number, server.members.as_ref()?)))
    }

    /// Whether every living server lists every living server.
    fn all_know_all(&self) -> bool {
        let living = self.living().count();
        self.living().all(|(_, members)| {
            members.listed().filter(|url| self.servers[number(url)].members.is_some()).count() == living
        })
    }

    /// Whether no living server lists a dead one.
    fn no_dead_listed(&self) -> bool {
        self.living().all(|(_, members)| members.listed().all(|url| self.servers[number(url)].members.is_some()))
    }

    /// Runs until something holds; the periods that it took, in tenths. Panics after too many.
    fn periods_until(&mut self, limit: u32, holds: impl Fn(&Self) -> bool) -> f64 {
        let begin = self.now;
        for tenth in 0..limit * 10 {
            if holds(self) {
                return f64::from(tenth) / 10.0;
            }
            self.run_until(begin + PERIOD * (tenth + 1) / 10);
        }
        panic!("not within {limit} periods");
    }

    /// Calls and kilobytes of a server and period, from now on for some periods.
    fn price(&mut self, periods: u32) -> (f64, f64) {
        (self.calls, self.bytes) = (0, 0);
        self.run_until(self.now + PERIOD * periods);
        #[expect(clippy::cast_precision_loss, reason = "the figures are far below 2^52")]
        let each = |sum: usize| sum as f64 / (self.living().count() as f64 * f64::from(periods));
        (each(self.calls), each(self.bytes) / 1000.0)
    }
}

/// All join in random order within one period through the first server.
fn joined(size: usize, seed: u64) -> World {
    let mut world = World::new(size, seed);
    world.start(0, &[]);
    for number in 1..size {
        let time = PERIOD.mul_f64(world.random.f64());
        world.at(time, Event::Start(number));
    }
    world.run_until(PERIOD);
    world
}

/// A tenth joins through the first server and dies, then the others join through it.
fn joined_among_dead(size: usize, seed: u64) -> World {
    let mut world = World::new(size, seed);
    world.start(0, &[]);
    let order: Vec<usize> = (1..size).collect();
    let (dying, living) = order.split_at(size / 10);
    for &number in dying {
        world.start(number, &[0]);
    }
    world.run_until(Duration::from_secs(10));
    for &number in dying {
        world.stop(number);
    }
    for &number in living {
        let time = world.now + PERIOD.mul_f64(world.random.f64());
        world.at(time, Event::Start(number));
    }
    world.run_until(world.now + PERIOD);
    world
}

fn restarts(world: &World, times: usize) -> Vec<f64> {
    let size = world.servers.len();
    let mut world = world.clone();
    let mut took = Vec::new();
    for _ in 0..times {
        let number = world.random.usize(..size);
        world.stop(number);
        world.run_until(world.now + PERIOD);
        world.start(number, &[]);
        took.push(
            world.periods_until(20, |world| world.servers[number].members.as_ref().unwrap().listed().count() == size),
        );
        world.run_until(world.now + PERIOD);
    }
    took.sort_by(f64::total_cmp);
    took
}

#[test]
fn try_it() {
    for size in [10, 100, 300] {
        let begin = Instant::now();
        let mut world = joined(size, 7);
        let periods = world.periods_until(10, World::all_know_all);
        println!("{size} joined: {periods} periods, {:?}", begin.elapsed());
        let clean = world.clone();
        println!("{size} price: {:?}, {:?}", world.price(10), begin.elapsed());

        let took = restarts(&clean, 100);
        println!("{size} restarts: median {} 95% {} worst {} {:?}", took[50], took[95], took[99], begin.elapsed());

        let mut world = joined_among_dead(size, 7);
        let periods = world.periods_until(10, World::all_know_all);
        let clean_lists = world.periods_until(1000, World::no_dead_listed);
        println!("{size} among dead: {periods} periods + {clean_lists}, {:?}", begin.elapsed());
        println!("{size} price: {:?}, {:?}", world.price(10), begin.elapsed());

        let mut world = clean.clone();
        for number in 0..size / 10 {
            world.stop(number * 10 + 3)
        }
        let clean_lists = world.periods_until(1000, World::no_dead_listed);
        println!("{size} dying later: {clean_lists}, {:?}", begin.elapsed());
        println!("{size} price: {:?}, {:?}", world.price(10), begin.elapsed());
        let mut world = clean.clone();
        world.stop(3);
        let clean_lists = world.periods_until(1000, World::no_dead_listed);
        println!("{size} one dying later: {clean_lists}, {:?}", begin.elapsed());

        let mut world = clean.clone();
        world.cut = size / 2;
        let price = world.price(5);
        world.cut = 0;
        let periods = world.periods_until(1000, World::all_know_all);
        println!("{size} short cut: {periods}, {price:?} {:?}", begin.elapsed());
        world.cut = size / 2;
        (world.calls, world.bytes) = (0, 0);
        let periods = world.periods_until(1000, |world| world.living().all(|(_, m)| m.listed().count() == size / 2));
        println!("{size} cut known: {periods}, {:?} {} calls", begin.elapsed(), world.calls);
        let price = world.price(60);
        println!("{size} cut price: {price:?} {:?}", begin.elapsed());
        world.cut = 0;
        (world.calls, world.bytes) = (0, 0);
        let periods = world.periods_until(1000, World::all_know_all);
        println!("{size} long cut: {periods}, calls {} {:?}", world.calls, begin.elapsed());
    }
}
