//! Handles SIGINT, SIGTERM and SIGHUP.
//!
//! Invariant: a signal ends the program, whatever hangs. The first one asks it to end by itself and gives it
//! [`GRACE_PERIOD`] for that; a second one ends it at once. A signal that was ignored when the program started, as
//! `nohup` and a shell's background jobs have it, stays ignored.

use std::{
    fs, io,
    os::unix::process::ExitStatusExt,
    process::{self, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

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
    let mut signals = Signals::new(terminating())?;
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
    let mut signals = Signals::new(terminating())?;
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

/// Those of [`TERMINATING`] that are not ignored.
fn terminating() -> Vec<i32> {
    let ignored = ignored_by_proc();
    let is_ignored = |signal: i32| match ignored {
        Some(mask) => mask & (1 << (signal - 1)) != 0,
        None => is_ignored_by_children(signal),
    };
    TERMINATING.into_iter().filter(|signal| !is_ignored(*signal)).collect()
}

/// The set of ignored signals as Linux tells it: signal 1 is the lowest bit. None where there is no `/proc`.
fn ignored_by_proc() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Whether a child survives the signal: what is ignored is inherited, and the safe interfaces do not tell it.
fn is_ignored_by_children(signal: i32) -> bool {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("kill -{signal} $$")]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.status().is_ok_and(|status| status.signal() != Some(signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_and_a_child_tell_the_same() {
        for signal in TERMINATING {
            let by_proc = ignored_by_proc().map(|mask| mask & (1 << (signal - 1)) != 0);
            assert!(by_proc.is_none_or(|ignored| ignored == is_ignored_by_children(signal)), "{signal}");
        }
    }
}
