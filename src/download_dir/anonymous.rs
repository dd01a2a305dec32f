//! Files that have no name yet.

use std::{fs::File, io, path::Path};

#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;

#[cfg(target_os = "linux")]
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};

/// How an anonymous file gets a name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LinkMethod {
    /// By its descriptor: since Linux 6.10, and before for root alone.
    ByDescriptor,
    /// By the link to it in `/proc`.
    ByProc,
}

/// Makes a file in `dir` of the mode that the umask gives.
#[cfg(target_os = "linux")]
pub(super) fn create(dir: &File) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    Ok(File::from(openat(dir, ".", flags, Mode::from_raw_mode(0o666))?))
}

/// Gives it a name in `dir`, unless something has that.
#[cfg(target_os = "linux")]
pub(super) fn link(file: &File, link_method: LinkMethod, dir: &File, name: &Path) -> io::Result<()> {
    match link_method {
        LinkMethod::ByDescriptor => linkat(file, "", dir, name, AtFlags::EMPTY_PATH)?,
        LinkMethod::ByProc => {
            linkat(CWD, format!("/proc/self/fd/{}", file.as_raw_fd()), dir, name, AtFlags::SYMLINK_FOLLOW)?;
        }
    }
    Ok(())
}

/// There are none on other systems.
#[cfg(not(target_os = "linux"))]
pub(super) fn create(_: &File) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn link(_: &File, _: LinkMethod, _: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
