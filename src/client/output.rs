//! Names on standard output: as they are in a pipe, for programs, and escaped on a terminal.

use std::io::{self, ErrorKind, IsTerminal, Write};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, stat};

use crate::{download_dir::Entry, file_name::FileName, progress};

use super::{Run, index::FileIndex};

/// The bytes of output that are gathered before they are printed.
const BUFFER_BYTES: usize = 64 << 10;

/// Prints a line for each name.
pub(super) fn print_names(names: &[FileName]) -> io::Result<()> {
    let is_terminal = io::stdout().is_terminal();
    let lines: String = names.iter().map(|name| format(name, is_terminal) + "\n").collect();
    print(&lines, is_terminal)
}

/// Prints the names of an index that are not here; with `-v` all names, each with its peers.
pub(super) fn print_index(run: &Run, index: &FileIndex) -> io::Result<()> {
    if is_closed() {
        return Err(io::Error::other("it is closed"));
    }
    let is_terminal = io::stdout().is_terminal();
    let is_verbose = log::log_enabled!(log::Level::Debug);
    let mut lines = String::new();
    for name in index.sorted() {
        let file_name = index.name(name);
        if !is_verbose && run.dir.entry(&file_name) == Some(Entry::File) {
            continue;
        }
        lines += &format(&file_name, is_terminal);
        if is_verbose {
            let mut peers: Vec<usize> = index.sources(name).map(|source| index.peer_of(source)).collect();
            peers.sort_unstable();
            let urls: Vec<&str> = peers.into_iter().map(|peer| run.peers[peer].as_str()).collect();
            lines.extend(["\t", &urls.join(" ")]);
        }
        lines += "\n";
        if lines.len() >= BUFFER_BYTES {
            print(&lines, is_terminal)?;
            lines.clear();
        }
    }
    print(&lines, is_terminal)
}

/// Whether standard output was closed when the program started. Rust's runtime puts `/dev/null` in its place, open for
/// reading too, which `> /dev/null` is not.
fn is_closed() -> bool {
    let (Ok(output), Ok(null)) = (fstat(io::stdout()), stat("/dev/null")) else { return false };
    let is_null = FileType::from_raw_mode(output.st_mode).is_char_device() && output.st_rdev == null.st_rdev;
    is_null && fcntl_getfl(io::stdout()).is_ok_and(|flags| flags.contains(OFlags::RDWR))
}

fn format(name: &FileName, is_terminal: bool) -> String {
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
