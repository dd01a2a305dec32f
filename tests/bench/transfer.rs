//! The benchmark: `cargo bench`, or `cargo bench -- WORD...` for the works whose names hold one of the words.
//!
//! Drives the real binary against itself and against what else is installed (nginx with curl, rsync, Python 3), in
//! rounds that each run every program once, and prints one table. `TINYP2P_BEFORE=PATH cargo bench` compares with
//! another binary of ours and with nothing else. There is no assertion about time. Whatever it starts and makes is
//! gone at the end, also after a panic.

mod calls;
mod rounds;
mod scratch;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod works;

use std::{env, path::PathBuf, time::Instant};

use crate::{
    scratch::Scratch,
    servers::{Program, command},
    support::peak_kib,
    table::Table,
};

/// The variable that names the binary to compare with.
const BEFORE: &str = "TINYP2P_BEFORE";

fn main() {
    let words: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let begun = Instant::now();
    let bench = Bench::set_up(words);
    let mut table = Table::default();
    for (name, work) in works::ALL {
        if bench.wants(name) {
            work(&bench, name, &mut table);
        }
    }
    table.print();
    println!("took {:.0} s, {}", begun.elapsed().as_secs_f64(), scratch::load());
}

/// What all works need.
struct Bench {
    words: Vec<String>,
    scratch: Scratch,
    /// Ours as it is now, and perhaps as it was before.
    programs: Vec<Program>,
    /// Ours in a private network, unless it is compared with before.
    private: Option<Program>,
    has_nginx: bool,
    has_rsync: bool,
    has_python: bool,
}

impl Bench {
    fn set_up(words: Vec<String>) -> Self {
        let scratch = Scratch::new();
        println!("data in {}, {}", scratch.path().display(), scratch::load());
        let mut programs = vec![Program::new("tinyp2p", env!("CARGO_BIN_EXE_tinyp2p").into())];
        programs.extend(env::var_os(BEFORE).map(|path| Program::new("before", PathBuf::from(path))));
        let only_ours = programs.len() > 1;
        let private = (!only_ours).then(|| programs[0].private());
        let has = |program: &str| {
            let is_there = !only_ours && command(program).arg("--help").status().is_ok();
            if !is_there && !only_ours {
                println!("skipped, for there is no {program}: everything against it");
            }
            is_there
        };
        let (has_nginx, has_rsync, has_python) = (has("nginx") && has("curl"), has("rsync"), has("python3"));
        if peak_kib(std::process::id()).is_none() {
            println!("skipped, for there is no /proc: memory and wake-ups");
        }
        Self { words, scratch, programs, private, has_nginx, has_rsync, has_python }
    }

    fn wants(&self, work: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| work.contains(word.as_str()))
    }
}
