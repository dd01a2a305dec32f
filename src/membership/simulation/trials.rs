//! Scenarios, tried on networks of several sizes, with the bounds that each must keep; the table of what they took.

use std::{fmt, thread};

use super::*;

#[expect(clippy::cast_precision_loss, reason = "the figures are far below 2^52")]
fn ratio(sum: usize, count: usize) -> f64 {
    sum as f64 / count as f64
}

/// `a + b * size`: a server needs as long to call every other in its turn, and so to find out who is dead.
fn linear_bound(a: f64, b: f64, size: usize) -> f64 {
    a + b * ratio(size, 1)
}

/// `a + b * log2(size)`: as long as news takes to reach all.
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
        if self.full {
            let one_dies = after(|world| {
                let number = world.random.usize(..world.servers.len());
                world.stop(number);
            });
            let limit = linear_bound(8.0, 0.25, size);
            let (row, _) = self.run("one dies: off all lists", limit, one_dies, World::none_lists_the_dead);
            rows.push(row);
        }
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
            let limit = linear_bound(8.0, 0.5, size);
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
            let seldom = Self { seeds: self.restarts.div_ceil(10), ..self };
            let (row, _) =
                seldom.run("restarted alone after an hour: all know all", limit, begin(60), World::all_know_all);
            rows.push(row);
        }
        rows
    }

    fn of_the_dead(self) -> Vec<Row> {
        let size = self.size;
        let limit = bound(0.2, 0.03, size);
        let begin = |seed| World::joined_among_dead(size, seed, self.joining);
        let (row, world) = self.run("joined, a tenth is dead: the living know all", limit, begin, World::all_know_all);
        let mut rows = vec![row];
        if self.full {
            let limit = linear_bound(8.0, 0.25, size);
            let once = Self { seeds: 1, ..self };
            let (row, _) =
                once.run("the same: the dead off all lists", limit, |_| world.clone(), World::none_lists_the_dead);
            rows.push(row);
        }
        rows
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
    let large = if crate::support::full() {
        Trial { size: 1000, seeds: 1, joining: 10, restarts: 20, full: false }
    } else {
        Trial { size: 300, seeds: 1, joining: 3, restarts: 20, full: false }
    };
    let trials = [
        Trial { size: 10, seeds: 30, joining: 1, restarts: 200, full: true },
        Trial { size: 100, seeds: 5, joining: 1, restarts: 100, full: true },
        large,
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
