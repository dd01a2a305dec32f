//! Wrong proofs without end, and patterns built to be expensive.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::siege::{Siege, full_or, shown};
use crate::harness::{Connection, PASSWORD, call_for, method_call, post, string};

/// How many calls a guesser sends before it reads their answers.
const AT_ONCE: usize = 50;

/// A refused pattern is promised to take milliseconds; this is ten times a hundred of them.
const DEADLINE: Duration = Duration::from_secs(1);

/// A server says once in so many seconds that it has refused proofs.
const LOGGED_EVERY: u64 = 10;

#[test]
fn wrong_proofs_without_end_slow_nobody_and_fill_no_log() {
    let mut siege = Siege::new("wrong proofs");
    let begin = Instant::now();
    let guesses = full_or(100_000, 4_000);
    let threads = 4;
    siege.endure(|url| {
        thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    let mut connection = Connection::open(url);
                    for batch in 0..guesses / threads / AT_ONCE {
                        let guess = |index| string(&format!("{:032x}", (thread * guesses + batch) * AT_ONCE + index));
                        let call =
                            |index| method_call("f", &[&guess(index), "<value><int>2</int></value>", &string("small")]);
                        (0..AT_ONCE).for_each(|index| connection.post("/RPC2", call(index)));
                        (0..AT_ONCE).for_each(|_| connection.response().answer().assert_false());
                    }
                });
            }
        });
    });
    let took = begin.elapsed();
    let log = siege.server().log();
    let lines = log.lines().filter(|line| line.contains("refused")).count() as u64;
    let most = took.as_secs() / LOGGED_EVERY + 1;
    println!("wrong proofs: {guesses} took {took:.1?} and put {lines} lines into the log");
    assert!((1..=most).contains(&lines), "{lines} lines, not 1 to {most}, tell of refused proofs:\n{log}");
    siege.lift();
}

#[test]
fn expensive_patterns_are_refused_in_milliseconds() {
    let patterns = [
        r"(\w{1000}){1000}".to_owned(),
        r"(\w{500}){500}".to_owned(),
        "(a{1000}){1000}".to_owned(),
        "((((((((((a{10}){10}){10}){10}){10}){10}){10}){10}){10}){10})".to_owned(),
        "(((a{1,100}){1,100}){1,100}){1,100}".to_owned(),
        r"(?i)(\w{999}\W{999}){999}".to_owned(),
        r"\w{4000}".to_owned(),
        r"\w{65535}".to_owned(),
        "a{4294967295}".to_owned(),
        "a{99999999999999999999}".to_owned(),
        r"\w".repeat(2000),
        r"[^\W\d_]".repeat(500),
        r"(?i)[\w\u00e0-\uffff]".repeat(150),
        r"(\w+".repeat(90) + &")*".repeat(90),
        "(".repeat(4000),
        "(".repeat(2000) + &")".repeat(2000),
        "(?:".repeat(1000) + &")".repeat(1000),
        "[".repeat(4000),
        r"\".repeat(4001),
        "(a|b)*".to_owned() + &"(a|b)".repeat(600),
        "x".repeat(1_000_000),
        "(a?){100}".repeat(50) + "b",
    ];
    let mut siege = Siege::new("expensive patterns");
    let slowest = siege.endure(|url| {
        let slowest = || {
            let took = |pattern: &String| {
                let begin = Instant::now();
                let answer = post(url, call_for(PASSWORD, url, 1, &string(pattern))).answer();
                let took = begin.elapsed();
                assert!(took < DEADLINE, "{} took {took:?}", shown(pattern));
                if let Ok(value) = answer.0 {
                    println!("expensive patterns: {} is taken, {took:.1?}: {value:?}", shown(pattern));
                }
                (took, shown(pattern))
            };
            patterns.iter().map(took).max().unwrap()
        };
        thread::scope(|scope| {
            let askers: Vec<_> = (0..full_or(4, 1)).map(|_| scope.spawn(slowest)).collect();
            askers.into_iter().map(|asker| asker.join().unwrap()).max().unwrap()
        })
    });
    println!("expensive patterns: the slowest was {}, {:.1?}", slowest.1, slowest.0);
    siege.lift();
}
