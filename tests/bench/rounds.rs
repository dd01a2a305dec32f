//! Rounds in which each program does the same work once, so that what slows the machine slows all of them.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Bench,
    servers::Running,
    support::peak_kib,
    table::{Peak, Table, median, ratio},
};

/// Timed rounds of each work.
pub(crate) const ROUNDS: usize = 7;

/// The rounds that are made on a machine under load, too.
const MIN_ROUNDS: usize = 3;

/// The time after which no further round of a work begins, unless it compares with before.
const WORK_BUDGET: Duration = Duration::from_secs(20);

/// One way to do a work.
pub(crate) struct Way<'a> {
    program: String,
    server: Option<u32>,
    client: Client<'a>,
}

enum Client<'a> {
    Process(Box<dyn Fn(&Path) -> Command + 'a>),
    Call(Box<dyn Fn() + 'a>),
}

impl<'a> Way<'a> {
    /// A command, timed from its start to its end; it may fill the directory that it is given.
    pub(crate) fn process(program: &str, client: impl Fn(&Path) -> Command + 'a) -> Self {
        Self { program: program.to_owned(), server: None, client: Client::Process(Box::new(client)) }
    }

    /// A call from this process.
    pub(crate) fn call(program: &str, client: impl Fn() + 'a) -> Self {
        Self { program: program.to_owned(), server: None, client: Client::Call(Box::new(client)) }
    }

    /// The server whose memory stands in the table.
    pub(crate) fn with_server(self, server: &Running) -> Self {
        Self { server: Some(server.id()), ..self }
    }
}

impl Bench {
    /// Times all ways in rounds, ours first in the table, and adds a row for each.
    pub(crate) fn compare(&self, table: &mut Table, work: &str, ways: &[Way<'_>], rounds: usize) {
        println!("{work}");
        let begun = Instant::now();
        // The round in which memory is watched also warms up; where it takes all the time there is, it counts.
        let first: Vec<_> = ways.iter().map(|way| self.run(work, way, true)).collect();
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
        let min_rounds = if begun.elapsed() > WORK_BUDGET { 0 } else { MIN_ROUNDS };
        for round in 0..rounds {
            if round >= min_rounds && begun.elapsed() > WORK_BUDGET && self.programs.len() == 1 {
                break;
            }
            for turn in 0..ways.len() {
                let index = (round + turn) % ways.len();
                times[index].push(self.run(work, &ways[index], false).0);
            }
        }
        if times[0].is_empty() {
            times = first.iter().map(|(time, _)| vec![*time]).collect();
        }
        for (index, way) in ways.iter().enumerate() {
            let ratio = if index == 0 { String::new() } else { ratio(&times[0], &times[index]) };
            let time = format!("{:.3} s", median(&times[index]));
            let peak = Peak { server: way.server.and_then(peak_kib), client: first[index].1 };
            table.add(work, &way.program, time, ratio, peak);
        }
    }

    /// The seconds that a way takes, and the peak memory of its client if that is watched.
    fn run(&self, work: &str, way: &Way<'_>, is_watched: bool) -> (f64, Option<u64>) {
        let dest = self.scratch.dir("dest");
        let mut peak = None;
        let begun = Instant::now();
        match &way.client {
            Client::Process(client) => {
                let mut client = Running::start(&mut client(&dest));
                if is_watched {
                    peak = watch_peak(&mut client);
                }
                let status = client.wait();
                assert!(status.success(), "{} failed at {work}: {status}", way.program);
            }
            Client::Call(call) => call(),
        }
        let seconds = begun.elapsed().as_secs_f64();
        fs::remove_dir_all(dest).expect("the scratch directory can be written");
        (seconds, peak)
    }
}

/// The peak memory of a process until it ends, in KiB, but for its last milliseconds.
fn watch_peak(process: &mut Running) -> Option<u64> {
    let mut last = None;
    while process.runs() {
        last = peak_kib(process.id()).or(last);
        thread::sleep(Duration::from_millis(2));
    }
    last
}
