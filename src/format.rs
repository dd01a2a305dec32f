//! Formats counts, sizes and rates for people.

use std::{fmt::Display, time::Duration};

/// Formats the summary of a run: `3 files, 1.20 MiB in 0.3 s (4.00 MiB/s)`.
pub(crate) fn tally(files: usize, bytes: u64, time: Duration) -> String {
    let rate = u128::from(bytes) * 1000 / time.as_millis().max(1);
    let rate = size(u64::try_from(rate).unwrap_or(u64::MAX));
    let seconds = time.as_secs_f64();
    format!("{}, {} in {seconds:.1} s ({rate}/s)", count(files, "file"), size(bytes))
}

/// Formats a count of things: `1 file`, `2 files`.
pub(crate) fn count(number: impl Copy + Display + PartialEq + From<u8>, what: &str) -> String {
    let plural = if number == 1.into() { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// Formats a number of bytes in binary units with three significant digits: `1.20 MiB`, `317 KiB`, `1000 B`.
pub(crate) fn size(bytes: u64) -> String {
    let steps = bytes.checked_ilog2().unwrap_or(0) / 10;
    let Some(unit) = steps.checked_sub(1).map(|at| ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][at as usize]) else {
        return format!("{bytes} B");
    };
    let half = 1_u128 << (10 * steps - 1);
    let rounded = |parts: u128| (u128::from(bytes) * parts + half) >> (10 * steps);
    match (rounded(100), rounded(10), rounded(1)) {
        (hundredths @ ..1000, ..) => format!("{}.{:02} {unit}", hundredths / 100, hundredths % 100),
        (_, tenths @ ..1000, _) => format!("{}.{} {unit}", tenths / 10, tenths % 10),
        (.., whole) => format!("{whole} {unit}"),
    }
}

/// Tells how to get names, where they are not logged.
pub(crate) fn names_hint() -> &'static str {
    if log::log_enabled!(log::Level::Debug) { "" } else { " (-v names them)" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1500, "1.46 KiB"),
            (10_234, "9.99 KiB"),
            (10_239, "10.0 KiB"),
            (102_399, "100 KiB"),
            (1_048_575, "1024 KiB"),
            (1 << 20, "1.00 MiB"),
            (2 << 30, "2.00 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn a_tally_has_files_bytes_seconds_and_rate() {
        assert_eq!(tally(1, 1 << 20, Duration::from_millis(500)), "1 file, 1.00 MiB in 0.5 s (2.00 MiB/s)");
        assert_eq!(tally(0, 0, Duration::ZERO), "0 files, 0 B in 0.0 s (0 B/s)");
    }
}
