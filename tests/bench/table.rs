//! The table that is printed at the end, and the figures in it.

use std::iter;

/// The rows of all works.
#[derive(Default)]
pub(crate) struct Table(Vec<[String; 6]>);

/// The peak memory of both sides in KiB, as far as it is known.
#[derive(Clone, Copy, Default)]
pub(crate) struct Peak {
    pub(crate) server: Option<u64>,
    pub(crate) client: Option<u64>,
}

impl Table {
    pub(crate) fn add(&mut self, work: &str, program: &str, median: String, ratio: String, peak: Peak) {
        let row = [work.to_owned(), program.to_owned(), median, ratio, mib(peak.server), mib(peak.client)];
        println!("  {}", row.join(" | "));
        self.0.push(row);
    }

    pub(crate) fn print(&self) {
        let head = ["work", "program", "median", "ours / it", "server MiB", "client MiB"].map(str::to_owned);
        let rows: Vec<_> = iter::once(&head).chain(&self.0).collect();
        let widths = [0, 1, 2, 3, 4, 5].map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
        println!();
        for (index, row) in rows.into_iter().enumerate() {
            let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            println!("| {} |", cells.join(" | "));
            if index == 0 {
                println!("|{}|", widths.map(|width| "-".repeat(width + 2)).join("|"));
            }
        }
        println!(
            "\nmedians, their ratio, and the middle half of the ratios of single rounds; memory is the peak of a process"
        );
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 50)
}

/// The value below which so many percent of all lie.
pub(crate) fn quantile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) * percent / 100]
}

/// The ratio of the medians, and the quartiles of the ratios of each round.
pub(crate) fn ratio(ours: &[f64], its: &[f64]) -> String {
    let pairs: Vec<f64> = ours.iter().zip(its).map(|(ours, its)| ours / its).collect();
    format!("{:.2} ({:.2}-{:.2})", median(ours) / median(its), quantile(&pairs, 25), quantile(&pairs, 75))
}

/// Kibibytes as mebibytes with one digit after the point.
pub(crate) fn mib(kib: Option<u64>) -> String {
    kib.map_or("-".to_owned(), |kib| format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024))
}
