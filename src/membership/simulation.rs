//! Whole networks of [`Membership`]s under a virtual clock: that they come to know each other, and at what price.
//!
//! A simulated server calls what the real server's loop calls, and nothing else: `due` when `next_due` says so, `told`
//! and `listed` for a call that comes in, `answered` or `failed` for one that went out.

use std::{cmp::Reverse, collections::BinaryHeap, env, fmt, ops::Range, thread, time::Duration};

use super::*;

const PERIOD: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(30);

/// What XML adds to each URL of a list.
const XML_BYTES: usize = 50;

/// How long a network is left alone once all is well: until those that failed once have been tried again.
const SETTLING_PERIODS: u32 = 4;

/// For how long its price is measured then.
const STEADY_PERIODS: u32 = 5;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Of one that was given another.
    Start(usize, usize),
    Wake(usize),
    Arrive {
        from: usize,
        to: usize,
        life: u32,
    },
    Silence {
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

    fn start(&mut self, number: usize, named: &[usize]) {
        let (now, seed) = (self.now, self.random.u64(..));
        let server = &mut self.servers[number];
        server.life += 1;
        let named = named.iter().map(|&number| url(number)).collect();
        server.members = Some(Membership::new(server.url.clone(), named, Some(PERIOD), now, seed));
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
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start(number, named) => self.start(number, &[named]),
            Event::Wake(from) => self.wake(from),
            Event::Arrive { from, to, life } if self.servers[from].life == life => self.arrive(from, to, life),
            Event::Silence { from, to, life } if self.servers[from].life == life => {
                let (now, peer) = (self.now, self.servers[to].url.clone());
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
        let (due, life) = (members.due(self.now), server.life);
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
        let [near, far] = self.servers.get_disjoint_mut([from, to]).expect("nobody calls its own URL");
        let (Some(asking), Some(telling), false) = (&mut near.members, &mut far.members, alone) else {
            return self.at(now + SILENCE, Event::Silence { from, to, life });
        };
        let (mut pushed, mut listed) = (0, 0);
        telling.told(asking.pushed().inspect(|_| pushed += 1), now);
        asking.answered(&far.url, telling.listed().inspect(|_| listed += 1), now);
        self.bytes += (pushed + listed) * (far.url.as_str().len() + XML_BYTES);
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

    /// Two halves that never met; then one of the first half is told of one of the other.
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
        assert!(world.living().all(|members| members.listed().count() == size / 2));
        let (now, introduced) = (world.now, url(other));
        world.servers[1].members.as_mut().expect("it lives").told([&introduced], now);
        world.plan(1);
        world
    }
}

#[expect(clippy::cast_precision_loss, reason = "the figures are far below 2^52")]
fn ratio(sum: usize, count: usize) -> f64 {
    sum as f64 / count as f64
}

/// `a + b * log2(size)`: what may be promised of networks of any size.
fn bound(a: f64, b: f64, size: usize) -> f64 {
    a + b * ratio(size, 1).log2()
}

/// One line of the table.
struct Row {
    size: usize,
    scenario: &'static str,
    /// How long it took until all was well in each of the runs, the longest last.
    periods: Vec<f64>,
    /// The calls of a server in that time, in the longest run.
    calls: f64,
    /// The calls of a server in each period later on, and the kilobytes that these move.
    steady: (f64, f64),
}

impl Row {
    /// How long that share of the runs took at most.
    fn within(&self, percent: usize) -> f64 {
        self.periods[(self.periods.len() - 1) * percent / 100]
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, scenario, periods, calls, steady: (steady, kilobytes) } = self;
        let (runs, median, worst) = (periods.len(), self.within(50), self.within(100));
        write!(f, "{size:>7} | {scenario:<45} | {runs:>4} | {median:>6.1} | {worst:>5.1} | {calls:>5.0}")?;
        write!(f, " | {steady:>12.2} | {kilobytes:>9.1}")
    }
}

/// How long the runs took; how many calls each server made in the worst one; how many it made in each period later on,
/// and the kilobytes that these moved to and fro.
const HEAD: &str = "
        |                                               |      |     periods    |       | calls of a   | kB of a
servers | scenario                                      | runs | median | worst | calls | server and period";

/// What to try on networks of one size, and how often: chance rules each run, and small ones cost nothing.
#[derive(Clone, Copy)]
struct Trial {
    size: usize,
    seeds: u64,
    /// In how many periods all join.
    joining: u32,
    restarts: u64,
    /// Whether the scenarios that take a large network too long are tried, too.
    full: bool,
}

impl Trial {
    /// Runs a scenario from each of the seeds until all is well; returns the end of the longest run, too.
    fn run(
        self,
        scenario: &'static str,
        limit: f64,
        begin: impl Fn(u64) -> World,
        is_well: impl Fn(&World) -> bool,
    ) -> (Row, World) {
        let runs = (0..self.seeds).map(|seed| {
            let mut world = begin(seed);
            (world.periods_until(scenario, limit, &is_well), world)
        });
        let mut periods = Vec::new();
        let worst = runs.inspect(|run| periods.push(run.0)).max_by(|one, other| one.0.total_cmp(&other.0));
        let mut world = worst.expect("there are seeds").1;
        periods.sort_by(f64::total_cmp);
        let end = world.clone();
        let living = world.living().count();
        let calls = ratio(world.calls, living);
        world.run_until(world.now + PERIOD * SETTLING_PERIODS);
        (world.calls, world.bytes) = (0, 0);
        world.run_until(world.now + PERIOD * STEADY_PERIODS);
        let each = |sum: usize| ratio(sum, living) / f64::from(STEADY_PERIODS);
        let steady = (each(world.calls), each(world.bytes) / 1000.0);
        (Row { size: self.size, scenario, periods, calls, steady }, end)
    }

    fn of_the_clean(self) -> Vec<Row> {
        let size = self.size;
        let (joined, clean) = self.run(
            "joined in random order: all know all",
            bound(0.2, 0.03, size),
            |seed| World::joined(size, seed, self.joining),
            World::all_know_all,
        );
        assert!(joined.steady.0 < 3.2, "{joined}");
        let mut rows = vec![joined];
        let after = |change: fn(&mut World)| {
            let clean = clean.clone();
            move |seed| {
                let mut world = clean.clone();
                world.random = fastrand::Rng::with_seed(seed);
                // So that no two runs begin alike.
                let later = world.now + PERIOD.mul_f64(world.random.f64());
                world.run_until(later);
                change(&mut world);
                world.calls = 0;
                world
            }
        };
        let one_dies = after(|world| {
            let number = world.random.usize(..world.servers.len());
            world.stop(number);
        });
        let (row, _) = self.run("one dies: off all lists", bound(6.0, 2.2, size), one_dies, World::none_lists_the_dead);
        rows.push(row);
        let short = after(|world| {
            world.cut = world.servers.len() / 2;
            world.run_until(world.now + PERIOD * 5);
            world.cut = 0;
        });
        let (row, _) =
            self.run("cut for 5 periods, healed: all know all", bound(4.0, 0.5, size), short, World::all_know_all);
        rows.push(row);
        rows.extend(self.restarted(&clean));
        if self.full {
            let cut = after(|world| world.cut = world.servers.len() / 2);
            let limit = bound(0.0, 5.0, size);
            let (row, apart) =
                self.run("cut in halves: each off the other's lists", limit, cut, World::halves_are_apart);
            rows.push(row);
            let healed = |_| World { cut: 0, calls: 0, ..apart.clone() };
            let limit = bound(12.0, 0.5, size);
            let (row, _) = self.run("cut until then, healed: all know all", limit, healed, World::all_know_all);
            rows.push(row);
        }
        rows
    }

    fn restarted(self, clean: &World) -> Vec<Row> {
        let begin = |down: u32| {
            move |seed: u64| {
                let mut world = clean.clone();
                let mut random = fastrand::Rng::with_seed(seed);
                let number = random.usize(..self.size);
                world.stop(number);
                world.run_until(world.now + Duration::from_secs(1) + PERIOD * down);
                world.start(number, &[]);
                world.calls = 0;
                world
            }
        };
        let often = Self { seeds: self.restarts, ..self };
        let (row, _) = often.run("restarted alone: all know all", 4.0, begin(0), World::all_know_all);
        assert!(row.within(95) <= 2.0, "{row}");
        let mut rows = vec![row];
        if self.full {
            let limit = 16.0;
            let (row, _) =
                often.run("restarted alone after an hour: all know all", limit, begin(60), World::all_know_all);
            rows.push(row);
        }
        rows
    }

    fn of_the_dead(self) -> Vec<Row> {
        let size = self.size;
        let limit = bound(0.2, 0.03, size);
        let begin = |seed| World::joined_among_dead(size, seed, self.joining);
        let (row, world) = self.run("joined, a tenth is dead: the living know all", limit, begin, World::all_know_all);
        let limit = bound(6.0, 1.2, size);
        let once = Self { seeds: 1, ..self };
        let (later, _) =
            once.run("the same: the dead off all lists", limit, |_| world.clone(), World::none_lists_the_dead);
        vec![row, later]
    }

    fn of_the_unmet(self) -> Vec<Row> {
        let begin = |seed| {
            let world = World::introduced(self.size, seed, self.joining);
            World { calls: 0, ..world }
        };
        let limit = bound(2.0, 0.7, self.size);
        let (row, _) = self.run("two networks introduced: all know all", limit, begin, World::all_know_all);
        let mut rows = vec![row];
        if self.full {
            let begin = |seed| World::joined(self.size, seed, 0);
            let limit = bound(0.1, 0.1, self.size);
            let (row, _) = self.run("started all at once: all know all", limit, begin, World::all_know_all);
            rows.push(row);
        }
        rows
    }
}

#[test]
fn networks_of_any_size_become_whole_in_logarithmic_time_at_three_calls_a_period() {
    let everything = env::var_os("TINYP2P_FULL").is_some();
    let trials = [
        Trial { size: 10, seeds: 30, joining: 1, restarts: 200, full: true },
        Trial { size: 100, seeds: 5, joining: 1, restarts: 100, full: true },
        Trial { size: 1000, seeds: 1, joining: 10, restarts: 20, full: everything },
    ];
    let rows = thread::scope(|scope| {
        let parts = [Trial::of_the_clean, Trial::of_the_dead, Trial::of_the_unmet];
        let parts = parts.map(|part| scope.spawn(move || trials.map(part)));
        parts.map(|part| part.join().expect("the scenarios end as promised"))
    });
    println!("{HEAD}");
    for size in 0..trials.len() {
        rows.iter().flat_map(|part| &part[size]).for_each(|row| println!("{row}"));
    }
}
