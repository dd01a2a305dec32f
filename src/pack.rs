//! Writes and reads packs: many small files in one answer, as a tar archive.
//!
//! A pack holds regular files alone, each with its name, size and time; a name of over 100 bytes stands in a GNU long
//! name entry directly before its file. Invariant: the writer never completes a file that it could not read whole, and
//! the reader takes nothing but such files, of bounded size, in constant memory.

use std::{
    io::{self, Read, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tar::{Archive, EntryType, Header};
use thiserror::Error;

/// The media type of a pack.
pub(crate) const MEDIA_TYPE: &str = "application/x-tar";

/// The largest file in a pack, in bytes; a larger one is worth a call of its own.
pub(crate) const MAX_FILE_BYTES: u64 = 1 << 20;

/// The longest name in bytes that a header holds itself.
const HEADER_NAME_BYTES: usize = 100;

/// The longest content of a long name entry in bytes: a file name and the NUL that ends it.
const MAX_LONG_NAME_BYTES: u64 = 256;

/// What a long name entry is called by itself, as GNU tar calls it.
const LONG_NAME_TITLE: &[u8] = b"././@LongLink";

/// Headers and contents begin at multiples of this, in bytes.
const BLOCK_BYTES: usize = 512;

/// What is written in place of missing bytes at the end of a block, and twice at the end of a pack.
const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// How much of a file is copied at a time, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Writes a pack, file by file. Small pieces go to `W` as they are, so it should have a buffer.
pub(crate) struct PackWriter<W> {
    out: W,
    piece: Vec<u8>,
}

impl<W: Write> PackWriter<W> {
    /// Begins a pack.
    pub(crate) fn new(out: W) -> Self {
        Self { out, piece: vec![0; PIECE_BYTES] }
    }

    /// Writes one file of `size` bytes. A time before 1970 is written as 1970, and fractions of a second are left out.
    ///
    /// After an error, such as content that ends early, the pack must be abandoned: it ends within this file.
    pub(crate) fn append(
        &mut self,
        name: &str,
        size: u64,
        modified: SystemTime,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let name = name.as_bytes();
        if name.len() > HEADER_NAME_BYTES {
            let long_name = [name, b"\0"].concat();
            let length = long_name.len() as u64;
            self.write_entry(LONG_NAME_TITLE, EntryType::GNULongName, length, 0, &mut &long_name[..])?;
        }
        let seconds = modified.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        self.write_entry(name, EntryType::Regular, size, seconds, content)
    }

    /// Ends the pack, which makes it whole.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&ZEROS)?;
        self.out.write_all(&ZEROS)?;
        Ok(self.out)
    }

    fn write_entry(
        &mut self,
        name: &[u8],
        kind: EntryType,
        size: u64,
        seconds: u64,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let mut header = Header::new_gnu();
        let stored = name.len().min(HEADER_NAME_BYTES);
        header.as_old_mut().name[..stored].copy_from_slice(&name[..stored]);
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mtime(seconds);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.copy(content, size)?;
        let beyond_block = usize::try_from(size % BLOCK_BYTES as u64).expect("a block is shorter than 2^16");
        let padding = (BLOCK_BYTES - beyond_block) % BLOCK_BYTES;
        self.out.write_all(&ZEROS[..padding])
    }

    /// Copies exactly `size` bytes, and reads on to the end, which must be there.
    fn copy(&mut self, content: &mut dyn Read, size: u64) -> io::Result<()> {
        let mut copied = 0;
        loop {
            let count = content.read(&mut self.piece)?;
            copied += count as u64;
            if copied > size || count == 0 && copied < size {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is not as long as it was"));
            }
            if count == 0 {
                return Ok(());
            }
            self.out.write_all(&self.piece[..count])?;
        }
    }
}

/// The most bytes of zeros that may follow the first end block: some programs fill 20 blocks.
const MAX_END_BYTES: u64 = 19 * BLOCK_BYTES as u64;

/// Why a pack could not be read to its end. What was handed over before is good.
#[derive(Debug, Error)]
pub(crate) enum PackError {
    /// The answer itself could not be read on.
    #[error(transparent)]
    Read(io::Error),
    /// It is no pack as this module writes them.
    #[error("{0}")]
    Malformed(&'static str),
}

impl From<io::Error> for PackError {
    /// `tar` has no kind of its own for what it cannot parse.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::Other | io::ErrorKind::InvalidData => Self::Malformed("not a tar archive"),
            _ => Self::Read(error),
        }
    }
}

/// A file in a pack, before its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackedFile {
    /// The name as it came: neither UTF-8 nor safe.
    pub(crate) name: Vec<u8>,
    /// The size in bytes, at most [`MAX_FILE_BYTES`].
    pub(crate) size: u64,
    /// When the content was last changed; nothing for a time that the system cannot express.
    pub(crate) modified: Option<SystemTime>,
}

/// Reads a pack to its end and hands over each file with a reader of its content, which ends early when the pack does:
/// a file is whole once `size` bytes were read. What `each` leaves unread is skipped, and its error ends the reading.
///
/// A pack that ends between two files without its end blocks looks like a whole one; whoever must know compares the
/// names. Only regular files are taken: links, devices, sparse files and pax records are malformed.
pub(crate) fn read_pack<E: From<PackError>>(
    pack: &mut dyn Read,
    mut each: impl FnMut(PackedFile, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut archive = Archive::new(&mut *pack);
    let entries = archive.entries().map_err(PackError::from)?.raw(true);
    let mut long_name = None;
    for entry in entries {
        let mut entry = entry.map_err(PackError::from)?;
        match entry.header().entry_type() {
            EntryType::GNULongName if long_name.is_none() => {
                let length = entry.size();
                if length > MAX_LONG_NAME_BYTES {
                    return Err(PackError::Malformed("a name is too long").into());
                }
                long_name = Some(read_long_name(&mut entry, length)?);
            }
            EntryType::Regular => {
                let size = entry.size();
                if size > MAX_FILE_BYTES {
                    return Err(PackError::Malformed("a file is too large for a pack").into());
                }
                let name = long_name.take().unwrap_or_else(|| entry.header().path_bytes().into_owned());
                let modified = entry.header().mtime().ok().map(Duration::from_secs);
                let modified = modified.and_then(|since| UNIX_EPOCH.checked_add(since));
                each(PackedFile { name, size, modified }, &mut entry)?;
            }
            _ => return Err(PackError::Malformed("it holds more than regular files").into()),
        }
    }
    // `tar` reads the first of the end blocks alone.
    let mut rest = Vec::new();
    pack.take(MAX_END_BYTES + 1).read_to_end(&mut rest).map_err(PackError::from)?;
    if rest.len() as u64 > MAX_END_BYTES || rest.iter().any(|byte| *byte != 0) {
        return Err(PackError::Malformed("a pack goes on after its end").into());
    }
    Ok(())
}

fn read_long_name(entry: &mut dyn Read, length: u64) -> Result<Vec<u8>, PackError> {
    let mut name = Vec::new();
    entry.read_to_end(&mut name)?;
    if name.len() as u64 != length {
        return Err(PackError::Read(io::ErrorKind::UnexpectedEof.into()));
    }
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn write(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut pack = PackWriter::new(Vec::new());
        for (name, content) in files {
            pack.append(name, content.len() as u64, at(1_000_000_000), &mut &content[..]).unwrap();
        }
        pack.finish().unwrap()
    }

    type Files = Vec<(PackedFile, Vec<u8>)>;

    /// The whole files of a pack, and how it ended.
    fn read(mut pack: &[u8]) -> (Files, Result<(), PackError>) {
        let mut files = Vec::new();
        let end = read_pack(&mut pack, |file, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            if bytes.len() as u64 == file.size {
                files.push((file, bytes));
            }
            Ok::<_, PackError>(())
        });
        (files, end)
    }

    fn refusal(pack: &[u8]) -> &'static str {
        match read(pack).1 {
            Err(PackError::Malformed(why)) => why,
            other => panic!("{other:?} in place of a refusal"),
        }
    }

    /// One entry, whole, of any kind.
    fn entry(kind: EntryType, size: u64, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        bytes
    }

    #[test]
    fn names_sizes_times_and_contents_come_back() {
        let long = "é".repeat(127);
        let exact = "x".repeat(HEADER_NAME_BYTES);
        let block = [7; BLOCK_BYTES];
        let pack = write(&[("a", b"one"), ("", b""), (&long, &block), (&exact, b"\0\0")]);
        assert_eq!(pack.len() % BLOCK_BYTES, 0);
        let (files, end) = read(&pack);
        end.unwrap();
        let names: Vec<_> = files.iter().map(|(file, _)| file.name.as_slice()).collect();
        assert_eq!(names, [&b"a"[..], b"", long.as_bytes(), exact.as_bytes()]);
        let contents: Vec<_> = files.iter().map(|(_, content)| content.as_slice()).collect();
        assert_eq!(contents, [&b"one"[..], b"", &block, b"\0\0"]);
        assert!(files.iter().all(|(file, _)| file.modified == Some(at(1_000_000_000))));
    }

    #[test]
    fn a_time_before_1970_is_written_as_1970() {
        let mut pack = PackWriter::new(Vec::new());
        pack.append("old", 0, UNIX_EPOCH - Duration::from_secs(5), &mut io::empty()).unwrap();
        let (files, end) = read(&pack.finish().unwrap());
        end.unwrap();
        assert_eq!(files[0].0.modified, Some(UNIX_EPOCH));
    }

    #[test]
    fn content_that_is_shorter_or_longer_than_announced_ends_the_pack() {
        for content in [&b"12"[..], b"1234"] {
            let mut pack = PackWriter::new(Vec::new());
            pack.append("changing", 3, at(0), &mut &content[..]).unwrap_err();
            let (files, _) = read(&pack.out);
            assert!(files.is_empty(), "{content:?}");
        }
    }

    #[test]
    fn a_cut_pack_gives_the_files_before_the_cut() {
        let pack = write(&[("first", &[1; 700]), ("second", b"2")]);
        for cut in 0..pack.len() {
            let (files, _) = read(&pack[..cut]);
            let whole = usize::from(cut >= BLOCK_BYTES + 700) + usize::from(cut > 4 * BLOCK_BYTES);
            assert_eq!(files.len(), whole, "cut after {cut} bytes");
        }
    }

    #[test]
    fn whatever_is_no_regular_file_is_refused() {
        for kind in [
            EntryType::Link,
            EntryType::Symlink,
            EntryType::Char,
            EntryType::Block,
            EntryType::Directory,
            EntryType::Fifo,
            EntryType::Continuous,
            EntryType::GNUSparse,
            EntryType::GNULongLink,
            EntryType::XGlobalHeader,
            EntryType::XHeader,
            EntryType::new(b'?'),
        ] {
            assert_eq!(refusal(&entry(kind, 0, b"")), "it holds more than regular files", "{kind:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_read() {
        let long_name = entry(EntryType::GNULongName, MAX_LONG_NAME_BYTES + 1, b"");
        assert_eq!(refusal(&long_name), "a name is too long");
        for size in [MAX_FILE_BYTES + 1, 1 << 60] {
            assert_eq!(refusal(&entry(EntryType::Regular, size, b"")), "a file is too large for a pack");
        }
    }

    #[test]
    fn a_long_name_stands_directly_before_its_file() {
        let long_name = entry(EntryType::GNULongName, 3, b"abc");
        assert_eq!(refusal(&[long_name.clone(), long_name.clone()].concat()), "it holds more than regular files");
        let (files, end) = read(&[long_name, entry(EntryType::Regular, 1, b"1"), write(&[])].concat());
        end.unwrap();
        assert_eq!(files[0].0.name, b"abc");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_pack_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let (files, _) = read(&bytes);
            prop_assert!(files.iter().all(|(file, _)| file.size <= MAX_FILE_BYTES));
        }

        #[test]
        fn a_pack_with_a_wrong_byte_does_no_harm(at in 0_usize..2048, byte in any::<u8>()) {
            let mut pack = write(&[(&"n".repeat(150), b"content")]);
            pack[at] = byte;
            let (files, _) = read(&pack);
            prop_assert!(files.len() <= 1);
        }
    }
}
