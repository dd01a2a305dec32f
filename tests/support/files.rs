//! Files and directories of a test's own.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A fresh directory that is gone when the test is over.
pub(crate) struct Dir(TempDir);

impl Dir {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("tinyp2p-test-").tempdir().unwrap())
    }

    /// A directory with these files in it.
    pub(crate) fn with<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let dir = Self::new();
        for (name, content) in files {
            dir.write(name, content);
        }
        dir
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.join(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.join(name)).unwrap_or_else(|error| panic!("{name:?}: {error}; here are {:?}", self.names()))
    }

    /// The names of everything in it, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        names_in(self.path())
    }

    /// All regular files with their contents.
    pub(crate) fn files(&self) -> BTreeMap<OsString, Vec<u8>> {
        fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
            .collect()
    }

    /// Fails unless both hold the same files, byte for byte; says which differ, without printing megabytes.
    #[track_caller]
    pub(crate) fn assert_same_files(&self, other: &Self) {
        let (ours, theirs) = (self.files(), other.files());
        let names: Vec<_> = ours.keys().chain(theirs.keys()).collect();
        let wrong: Vec<String> = names
            .into_iter()
            .filter(|name| ours.get(*name) != theirs.get(*name))
            .map(|name| {
                let length = |files: &BTreeMap<OsString, Vec<u8>>| files.get(name).map(Vec::len);
                format!("{}: {:?} bytes here, {:?} there", name.display(), length(&ours), length(&theirs))
            })
            .collect();
        assert!(wrong.is_empty(), "files differ: {wrong:#?}");
    }
}

/// The names of everything in a directory, in order.
pub(crate) fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Makes a named pipe. By the command, for rustix has no such call on macOS.
pub(crate) fn make_fifo(path: impl AsRef<Path>) {
    assert!(Command::new("mkfifo").arg(path.as_ref()).status().unwrap().success());
}
