//! Names on standard output: as they are in a pipe, for programs, and escaped on a terminal.

use std::io::{self, ErrorKind, IsTerminal, Write};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, stat};

use crate::{download_dir::Entry, file_name::FileName, format, progress};

use super::{Run, index::FileIndex};

/// The bytes of output that are gathered before they are printed.
const BUFFER_BYTES: usize = 64 << 10;

/// Prints a line for each name.
pub(super) fn print_names(names: &[FileName]) -> io::Result<()> {
    let is_terminal = io::stdout().is_terminal();
    let lines: String = names.iter().map(|name| format_name(name, is_terminal) + "\n").collect();
    print(&lines, is_terminal)
}

/// Prints the names of an index that are not here, each with its size as far as a peer tells it, and says how much that
/// is. With `-v` all names, each with its peers, and with the sizes of those that differ; with `-q` names alone.
pub(super) fn print_index(run: &Run, index: &FileIndex) -> io::Result<()> {
    if is_closed() {
        return Err(io::Error::other("it is closed"));
    }
    let is_terminal = io::stdout().is_terminal();
    let is_verbose = log::log_enabled!(log::Level::Debug);
    let is_quiet = !log::log_enabled!(log::Level::Info);
    let mut names = index.sorted();
    names.retain(|name| is_verbose || run.dir.entry(&index.name(*name)) != Some(Entry::File));
    let size_of = |name: usize| index.size(name).map_or_else(|| "-".to_owned(), |size| size.to_string());
    let width = names.iter().map(|name| size_of(*name).len()).max().unwrap_or_default();
    let mut lines = String::new();
    for &name in &names {
        if !is_quiet {
            lines.extend([&*format!("{:>width$}", size_of(name)), " "]);
        }
        lines += &format_name(&index.name(name), is_terminal);
        if is_verbose {
            lines.extend(["\t", &sources(run, index, name)]);
        }
        lines += "\n";
        if lines.len() >= BUFFER_BYTES {
            print(&lines, is_terminal)?;
            lines.clear();
        }
    }
    print(&lines, is_terminal)?;
    let sizes = || names.iter().map(|name| index.size(*name));
    let total = sizes().flatten().fold(0, u64::saturating_add);
    let unknown = sizes().filter(Option::is_none).count();
    let and_more = if unknown > 0 { format!(" and {unknown} of unknown size") } else { String::new() };
    log::info!("{}, {}{and_more}", format::count(names.len(), "file"), format::size(total));
    Ok(())
}

/// The peers that list a name, and the size that each tells where it is not that of the first.
fn sources(run: &Run, index: &FileIndex, name: usize) -> String {
    let size = index.size(name);
    let mut sources: Vec<(usize, Option<u64>)> =
        index.sources(name).map(|source| (index.peer_of(source), index.size_of(source))).collect();
    sources.sort_unstable();
    let texts: Vec<String> = sources
        .into_iter()
        .map(|(peer, own_size)| match own_size {
            Some(own) if own_size != size => format!("{} ({own} bytes)", run.peers[peer]),
            _ => run.peers[peer].to_string(),
        })
        .collect();
    texts.join(" ")
}

/// Whether standard output was closed when the program started. Rust's runtime puts `/dev/null` in its place, open for
/// reading too, which `> /dev/null` is not.
fn is_closed() -> bool {
    let (Ok(output), Ok(null)) = (fstat(io::stdout()), stat("/dev/null")) else { return false };
    let is_null = FileType::from_raw_mode(output.st_mode).is_char_device() && output.st_rdev == null.st_rdev;
    is_null && fcntl_getfl(io::stdout()).is_ok_and(|flags| flags.contains(OFlags::RDWR))
}

fn format_name(name: &FileName, is_terminal: bool) -> String {
    if is_terminal { name.to_string() } else { name.as_str().to_owned() }
}

/// Prints whole lines. A reader that has gone away wants no more, which is no fault.
fn print(lines: &str, is_terminal: bool) -> io::Result<()> {
    let print = || {
        let mut out = io::stdout().lock();
        out.write_all(lines.as_bytes()).and_then(|()| out.flush())
    };
    match if is_terminal { progress::suspend(print) } else { print() } {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}
