//! The end that is asked for from outside: ctrl-c, SIGTERM, a terminal that goes away.
//!
//! The first signal asks the program to end by itself; it is given a moment for that, and a second signal ends it at
//! once. So nothing has to be polled, and nothing that hangs can keep the program alive.

use std::{io, process, sync::Arc, thread, time::Duration};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    flag,
    iterator::Signals,
};

/// The signals that ask for the end.
const ENDING: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

/// How long the program may take to end by itself after the first signal.
const GRACE: Duration = Duration::from_millis(1500);

/// Runs `end` in a thread of its own when the first signal comes, with the exit status that shells expect of a program
/// that it ended: 130 after ctrl-c, 143 after SIGTERM. A program that still runs after the grace exits with the status
/// that `end` gives.
pub(crate) fn watch(end: impl FnOnce(u8) -> u8 + Send + 'static) -> io::Result<()> {
    // A file that would grow beyond the limit of the process is an error of that file, and no reason to die.
    flag::register(SIGXFSZ, Arc::default())?;
    let mut signals = Signals::new(ENDING)?;
    let watch = move || {
        let Some(signal) = signals.forever().next() else { return };
        let status = i32::from(end(u8::try_from(128 + signal).unwrap_or(u8::MAX)));
        thread::spawn(move || {
            thread::sleep(GRACE);
            process::exit(status);
        });
        if signals.forever().next().is_some() {
            process::exit(status);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop)
}

/// Runs something that leaves a mess when a signal ends it: then `tidy` runs before the program exits.
pub(crate) fn guard<T>(tidy: impl FnOnce() + Send + 'static, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mut signals = Signals::new(ENDING)?;
    let handle = signals.handle();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            tidy();
            process::exit(128 + signal);
        }
    })?;
    let result = run();
    handle.close();
    result
}
