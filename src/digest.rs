//! SHA-256, and what is made of it: the digest of a content, and the version of a file.
//!
//! Invariant: two states of a file have one version only if device, inode, size and modification time are the same.

use std::{
    fmt::Write as _,
    io::{self, Read},
    time::{SystemTime, UNIX_EPOCH},
};

use sha2::{Digest, Sha256};

/// How much is read and digested at a time, in bytes.
const PIECE_BYTES: u64 = 256 << 10;

/// Returns the SHA-256 of all that a reader gives, at most `bytes`, in lower-case hexadecimal digits.
pub(crate) fn sha256(reader: impl Read, bytes: u64) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut reader = reader.take(bytes);
    let mut piece = vec![0; usize::try_from(bytes.clamp(1, PIECE_BYTES)).expect("a piece is small")];
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(hexadecimal(&hasher.finalize())),
            count => hasher.update(&piece[..count]),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// Returns the version of a file's state: 16 hexadecimal digits that callers compare and do not read.
pub(crate) fn version(device: u64, inode: u64, size: u64, modified: SystemTime) -> String {
    let (sign, distance) = match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => ('+', after),
        Err(before) => ('-', before.duration()),
    };
    let nanoseconds = distance.as_nanos();
    hexadecimal(&Sha256::digest(format!("{device} {inode} {size} {sign}{nanoseconds}"))[..8])
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;

    #[test]
    fn a_content_has_the_digest_that_others_compute() {
        let digest = |content: &[u8], bytes| sha256(content, bytes).unwrap();
        assert_eq!(digest(b"abcd", 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!((&*digest(b"", 9), &*digest(b"x", 0)), (nothing, nothing));
        let millions = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(digest(&vec![b'a'; 1_000_001], 1_000_000), millions);
    }

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
