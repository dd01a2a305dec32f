//! Handles SIGINT, SIGTERM and SIGHUP.
//!
//! Invariant: a signal ends the program, whatever hangs. The first one asks it to end by itself and gives it
//! [`GRACE_PERIOD`] for that; a second one ends it at once.

use std::{io, process, sync::Arc, thread, time::Duration};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    flag,
    iterator::Signals,
};

/// The signals that end the program.
const TERMINATING: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

/// How long the program may take to end by itself after the first signal.
const GRACE_PERIOD: Duration = Duration::from_millis(1500);

/// Calls `on_signal` in a thread of its own when the first signal comes, with the exit status that shells expect after
/// it: 130 after SIGINT, 143 after SIGTERM. If the program still runs after [`GRACE_PERIOD`], it exits with the status
/// that `on_signal` returned.
pub(crate) fn watch(on_signal: impl FnOnce(u8) -> u8 + Send + 'static) -> io::Result<()> {
    // Writing a file beyond the size limit of the process is then an error and does not end the program.
    flag::register(SIGXFSZ, Arc::default())?;
    let mut signals = Signals::new(TERMINATING)?;
    let wait = move || {
        let Some(signal) = signals.forever().next() else { return };
        let status = i32::from(on_signal(u8::try_from(128 + signal).unwrap_or(u8::MAX)));
        thread::spawn(move || {
            thread::sleep(GRACE_PERIOD);
            process::exit(status);
        });
        if signals.forever().next().is_some() {
            process::exit(status);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

/// Runs `run`. If a signal comes meanwhile, calls `clean_up` and exits.
pub(crate) fn guard<T>(clean_up: impl FnOnce() + Send + 'static, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mut signals = Signals::new(TERMINATING)?;
    let handle = signals.handle();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            clean_up();
            process::exit(128 + signal);
        }
    })?;
    let result = run();
    handle.close();
    result
}
