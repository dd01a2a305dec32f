//! SHA-256, and what is made of it: the version of a file.
//!
//! Invariant: two states of a file have one version only if device, inode, size and modification time are the same.

use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

/// Returns the version of a file's state: 16 hexadecimal digits that callers compare and do not read.
pub(crate) fn version(device: u64, inode: u64, size: u64, modified: SystemTime) -> String {
    let (sign, distance) = match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => ('+', after),
        Err(before) => ('-', before.duration()),
    };
    let nanoseconds = distance.as_nanos();
    let digest = Sha256::digest(format!("{device} {inode} {size} {sign}{nanoseconds}"));
    let first = digest[..8].iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    format!("{first:016x}")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;

    #[test]
    fn each_of_the_four_makes_another_version() {
        let moment = Duration::new(1_000_000_000, 1);
        let later = UNIX_EPOCH + moment;
        let versions = [
            version(1, 2, 3, later),
            version(2, 2, 3, later),
            version(1, 3, 3, later),
            version(1, 2, 4, later),
            version(1, 2, 3, later + Duration::from_nanos(1)),
            version(1, 2, 3, UNIX_EPOCH),
            version(1, 2, 3, UNIX_EPOCH - moment),
        ];
        for version in &versions {
            assert!(version.len() == 16 && version.bytes().all(|byte| byte.is_ascii_hexdigit()), "{version}");
        }
        assert_eq!(BTreeSet::from(versions.clone()).len(), versions.len(), "{versions:?}");
        assert_eq!(version(1, 2, 3, later), versions[0]);
    }
}
