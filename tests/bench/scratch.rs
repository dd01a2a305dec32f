//! The directory in which everything lies, in memory if there is room, and the files in it.

use std::{
    env,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::support::status_field;

/// The bytes that all files together need at the worst moment.
const SPACE_BYTES: u64 = 3 << 30;

/// The directory's name without the id of its process.
const PREFIX: &str = "tinyp2p-bench-";

/// A fresh directory that is removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let has_room = free_bytes(memory).is_some_and(|free| free > SPACE_BYTES);
        let place = if has_room { memory.to_owned() } else { env::temp_dir() };
        remove_leftovers(&place);
        let dir = place.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&dir).expect("the temporary directory can be written");
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// An empty directory within; what was there is removed.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let dir = self.0.join(name);
        // There may be none.
        _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("the scratch directory can be written");
        dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what a run left that a signal ended: it may be gigabytes of memory.
fn remove_leftovers(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok())
            && status_field(std::process::id(), "Pid:").is_some()
            && status_field(id, "Pid:").is_none()
        {
            _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn free_bytes(dir: &Path) -> Option<u64> {
    let output = Command::new("df").args(["-Pk".as_ref(), dir.as_os_str()]).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok()? << 10)
}

/// Makes a file that no compression makes smaller and no parser takes for text.
pub(crate) fn write_noise(file: &Path, bytes: u64) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ bytes;
    let mut piece = vec![0; 1 << 20];
    let mut file = File::create(file).expect("the scratch directory can be written");
    let mut left = bytes;
    while left > 0 {
        for word in piece.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_ne_bytes());
        }
        let count = usize::try_from(left).unwrap_or(piece.len()).min(piece.len());
        file.write_all(&piece[..count]).expect("there is space for the data");
        left -= count as u64;
    }
}

/// Makes so many files of the same content; returns their names.
pub(crate) fn write_many(dir: &Path, count: usize, bytes: u64) -> Vec<String> {
    let names: Vec<_> = (0..count).map(|index| format!("file-{index:06}.dat")).collect();
    let content = dir.join(&names[0]);
    write_noise(&content, bytes);
    for name in &names[1..] {
        fs::copy(&content, dir.join(name)).expect("there is space for the data");
    }
    names
}

/// The load of the machine, which explains strange figures.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load {}", load.split_whitespace().next().unwrap_or("unknown"))
}
