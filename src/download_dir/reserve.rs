//! Room that stays free on the file system, however much all running transfers bring together.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::fs::{StatVfs, fstatvfs};

use crate::lock::lock;

/// The most bytes that are left free, and the part of the file system that is less than that on a small one. The same part
/// of the inodes is left free, but for those of the files that are under way.
const MAX_RESERVE: u64 = 1 << 30;
const PARTS_OF_RESERVE: u64 = 20;

/// After this number of bytes of a file it is looked again whether there is room.
const BYTES_BETWEEN_LOOKS: u64 = 16 << 20;

/// What is left free, and what the running transfers will still take.
pub(super) struct Reserve {
    /// The bytes that are free for this user, if that can be known.
    free: Box<dyn Fn() -> Option<u64> + Send + Sync>,
    bytes: u64,
    claimed: Mutex<u64>,
}

impl Reserve {
    /// A twentieth of the file system of a directory, a gibibyte at most.
    pub(super) fn of(dir: &File) -> io::Result<Arc<Self>> {
        let handle = dir.try_clone()?;
        let found = fstatvfs(dir)?;
        let size = found.f_blocks.saturating_mul(found.f_frsize);
        let free = move || {
            let found = fstatvfs(&handle).ok()?;
            // Where inodes are not counted, both are 0.
            let has_inodes = found.f_favail >= found.f_files / PARTS_OF_RESERVE;
            Some(if has_inodes { bytes_of(&found) } else { 0 })
        };
        Ok(Self::new(Box::new(free), MAX_RESERVE.min(size / PARTS_OF_RESERVE)))
    }

    fn new(free: Box<dyn Fn() -> Option<u64> + Send + Sync>, bytes: u64) -> Arc<Self> {
        Arc::new(Self { free, bytes, claimed: Mutex::new(0) })
    }

    /// Claims room for a file of this size, of which a part may be here, or half of what is left where no size is known.
    pub(super) fn claim(self: &Arc<Self>, size: Option<u64>, here: u64) -> io::Result<Claim> {
        let mut claimed = lock(&self.claimed);
        let room = self.free_for_files().saturating_sub(*claimed);
        let most = size.unwrap_or(room / 2);
        let left = most.saturating_sub(here);
        if left > room || room == 0 {
            return Err(want_of_room());
        }
        *claimed += left;
        let held = Held { reserve: Arc::clone(self), left: left.into(), unlooked: 0.into() };
        Ok(Claim { most, held: Some(held) })
    }

    /// The free bytes beyond the reserve.
    fn free_for_files(&self) -> u64 {
        (self.free)().map_or(u64::MAX / 2, |free| free.saturating_sub(self.bytes))
    }
}

/// The bytes that this user may still write on a file system, where that can be known.
pub(super) fn free_bytes(dir: &File) -> Option<u64> {
    fstatvfs(dir).ok().as_ref().map(bytes_of)
}

fn bytes_of(found: &StatVfs) -> u64 {
    found.f_bavail.saturating_mul(found.f_frsize)
}

fn want_of_room() -> io::Error {
    io::Error::new(ErrorKind::StorageFull, "what is left is kept free")
}

/// The room that one transfer may take. What it did not take is free again when this is dropped.
pub(crate) struct Claim {
    most: u64,
    held: Option<Held>,
}

struct Held {
    reserve: Arc<Reserve>,
    /// What is still to be taken, and what was taken since the last look; changed under the lock of all claims.
    left: AtomicU64,
    unlooked: AtomicU64,
}

impl Claim {
    /// As much as there is.
    pub(super) fn unlimited() -> Self {
        Self { most: u64::MAX, held: None }
    }

    /// The most bytes that the file may have.
    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// Whether room is kept free, so that a file must be what it was listed as.
    pub(crate) fn is_limited(&self) -> bool {
        self.held.is_some()
    }

    /// Counts bytes that were written. Fails when others have taken the room meanwhile.
    pub(crate) fn advance(&self, bytes: u64) -> io::Result<()> {
        let Some(Held { reserve, left, unlooked }) = &self.held else { return Ok(()) };
        let mut claimed = lock(&reserve.claimed);
        let taken = bytes.min(left.load(Ordering::Relaxed));
        left.fetch_sub(taken, Ordering::Relaxed);
        *claimed -= taken;
        if unlooked.fetch_add(bytes, Ordering::Relaxed) + bytes < BYTES_BETWEEN_LOOKS {
            return Ok(());
        }
        unlooked.store(0, Ordering::Relaxed);
        if reserve.free_for_files() < *claimed { Err(want_of_room()) } else { Ok(()) }
    }

    /// Begins anew with the whole. Fails where there is no room for that.
    pub(crate) fn restart(&self) -> io::Result<()> {
        let Some(Held { reserve, left, .. }) = &self.held else { return Ok(()) };
        let mut claimed = lock(&reserve.claimed);
        *claimed += self.most - left.swap(self.most, Ordering::Relaxed);
        if reserve.free_for_files() < *claimed { Err(want_of_room()) } else { Ok(()) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(Held { reserve, left, .. }) = &self.held {
            *lock(&reserve.claimed) -= left.load(Ordering::Relaxed);
        }
    }
}

/// A file that is written within a claim.
pub(crate) struct ClaimedFile {
    file: File,
    claim: Arc<Claim>,
}

impl ClaimedFile {
    pub(crate) fn new(file: File, claim: &Arc<Claim>) -> Self {
        Self { file, claim: Arc::clone(claim) }
    }

    #[cfg(test)]
    pub(crate) fn unlimited(file: File) -> Self {
        Self::new(file, &Arc::new(Claim::unlimited()))
    }

    /// Writes all bytes at this offset.
    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        self.claim.advance(bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A reserve of 100 MiB, and how many MiB are free.
    fn reserve() -> (Arc<Reserve>, Arc<AtomicU64>) {
        let free = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&free);
        let reserve = Reserve::new(Box::new(move || Some(shown.load(Ordering::Relaxed) * MIB)), 100 * MIB);
        (reserve, free)
    }

    #[test]
    fn all_transfers_together_leave_the_reserve_free() {
        let (reserve, free) = reserve();
        free.store(150, Ordering::Relaxed);
        let first = reserve.claim(Some(30 * MIB), 0).unwrap();
        assert!(reserve.claim(Some(21 * MIB), 0).is_err());
        let second = reserve.claim(Some(30 * MIB), 10 * MIB).expect("a part of it is here");
        assert!(reserve.claim(None, 0).is_err(), "nothing is left");
        for taken in [10, 20] {
            free.fetch_sub(10, Ordering::Relaxed);
            first.advance(10 * MIB).unwrap();
            assert_eq!(*lock(&reserve.claimed), (50 - taken) * MIB);
        }
        drop(second);
        assert_eq!(*lock(&reserve.claimed), 10 * MIB);
        drop(first);
        assert_eq!(*lock(&reserve.claimed), 0);
    }

    #[test]
    fn a_transfer_ends_when_others_take_the_room() {
        let (reserve, free) = reserve();
        free.store(200, Ordering::Relaxed);
        let claim = reserve.claim(Some(90 * MIB), 0).unwrap();
        free.store(150, Ordering::Relaxed);
        assert!((0..15).all(|_| claim.advance(MIB).is_ok()), "not before the next look");
        assert_eq!(claim.advance(MIB).unwrap_err().kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn a_file_of_unknown_size_may_take_half_of_what_is_left() {
        let (reserve, free) = reserve();
        free.store(140, Ordering::Relaxed);
        let claim = reserve.claim(None, 0).unwrap();
        assert_eq!(claim.most(), 20 * MIB);
        assert_eq!(reserve.claim(None, 0).unwrap().most(), 10 * MIB);
        claim.advance(5 * MIB).unwrap();
        free.fetch_sub(5, Ordering::Relaxed);
        claim.restart().unwrap();
        assert_eq!(*lock(&reserve.claimed), 20 * MIB);
    }
}
