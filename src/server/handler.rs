//! Answers a call: no sockets, no HTTP.
//!
//! A handler knows its own URL, the password, the shared directory and the members of its network. Whatever a caller
//! sends gets an answer; what is refused reveals neither a path nor a proof.

use std::{
    io::{self, BufWriter, ErrorKind, Read, Write},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use super::{gossip::log_new_peers, limits::LogLimit, mirror::Mirror, transfer_log::TransferLog};
use crate::{
    auth::Password,
    digest,
    error::reason,
    escape::Escaped,
    file_name::FileName,
    format,
    lock::{Semaphore, lock},
    membership::Membership,
    pack::{self, PackWriter},
    pattern::Pattern,
    peer::PeerUrl,
    protocol::{self, Digest, Op, Part, RAW_MEDIA_TYPE, Rejection},
    rate_limit::RateLimit,
    shared_dir::{SharedDir, SharedFile},
    xmlrpc::Content,
};

/// How much of a file is read and sent at a time, in bytes: less is slower, more is not faster.
const READ_BYTES: usize = 256 << 10;

/// How long the search of a listing may take: a pattern that is slow on each of many names must not keep the server
/// busy for long.
const MAX_SEARCH_TIME: Duration = Duration::from_secs(10);

/// What of a pack is written at a time, in bytes.
const PACK_PIECE_BYTES: usize = 64 << 10;

/// How many digests are computed at once.
pub(super) const DIGESTS_AT_ONCE: usize = 2;

/// How many callers wait for a digest at most: each keeps a backend.
const MAX_WAITING_DIGESTS: usize = 16;

/// The status and the text of an answer that is for later.
pub(super) const BUSY_STATUS: &str = "503 Service Unavailable";
pub(super) const BUSY_TEXT: &str = "the server is busy; try again";

/// What a caller takes beside XML.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accepts {
    /// A file's own bytes.
    pub(super) raw: bool,
    /// A tar archive.
    pub(super) pack: bool,
}

/// Writes a body: exactly the announced number of bytes, or it fails. Pieces of 256 KiB keep it fast.
pub(super) type Body = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// The answer to one call.
pub(super) struct Answer {
    /// Its status, as HTTP calls it.
    pub(super) status: &'static str,
    /// Its kind, as HTTP calls it.
    pub(super) content_type: &'static str,
    /// How many bytes the body writes, where that is known beforehand.
    pub(super) length: Option<u64>,
    /// Which state of a file the body is, if it is one.
    pub(super) file: Option<FileState>,
    /// What limits the rate at which it is sent, if it is content.
    pub(super) limit: Option<RateLimit>,
    pub(super) body: Body,
}

/// What tells one state of a file from another, for callers.
pub(super) struct FileState {
    pub(super) version: String,
    pub(super) modified: SystemTime,
}

impl Answer {
    /// A whole document.
    pub(super) fn document(bytes: Vec<u8>) -> Self {
        let length = Some(bytes.len() as u64);
        let body = Box::new(move |to: &mut dyn Write| to.write_all(&bytes));
        Self { status: "200 OK", content_type: "text/xml", length, file: None, limit: None, body }
    }
}

/// Answers the calls of one server.
pub(super) struct Handler {
    /// How the server calls itself: proofs are made for it.
    pub(super) url: PeerUrl,
    pub(super) password: Password,
    pub(super) shared_dir: Arc<SharedDir>,
    /// Is told which names callers were told of.
    pub(super) mirror: Option<Arc<Mirror>>,
    pub(super) membership: Arc<Mutex<Membership>>,
    /// The zero of the membership's clock.
    pub(super) started: Instant,
    /// Runs whenever a caller has sent its peers.
    pub(super) on_peers_received: Box<dyn Fn() + Send + Sync>,
    pub(super) auth_failure_log: LogLimit,
    pub(super) read_failure_log: LogLimit,
    pub(super) transfer_log: Arc<TransferLog>,
    /// Limits the content that is sent.
    pub(super) limit: Option<RateLimit>,
    /// Who may compute a digest now.
    pub(super) digests: Semaphore,
    /// How long a digest waits for its turn.
    pub(super) digest_wait: Duration,
}

impl Handler {
    /// Answers one call. `caller` is its address.
    pub(super) fn handle(&self, call: &[u8], accepts: Accepts, caller: &str) -> Answer {
        let op = protocol::read_call(call, |proof| self.password.verify(proof, self.url.as_str()));
        let answer = match op {
            Ok(Op::ExchangePeers(urls)) => Ok(self.exchange_peers(&urls, caller)),
            Ok(Op::List(pattern)) => {
                self.search(&pattern, caller, SharedDir::list, |names| protocol::write_listing(names))
            }
            Ok(Op::Index(pattern)) => {
                self.search(&pattern, caller, SharedDir::index, |entries| protocol::write_index(entries))
            }
            Ok(Op::Fetch(name, part)) => self.fetch(&name, part, accepts.raw, caller),
            Ok(Op::Digest(name, part)) => self.digest(&name, part, caller),
            Ok(Op::Pack(names)) if accepts.pack => Ok(self.pack(names, caller)),
            Ok(Op::Pack(_)) => Err(format!("op 4 needs the header Accept: {}", pack::MEDIA_TYPE)),
            Err(Rejection::UnknownForm(text)) => return Answer::document(protocol::write_unknown_form(&text)),
            Err(Rejection::Proof) => {
                self.log_auth_failure(caller);
                return Answer::document(protocol::write_refusal());
            }
            Err(Rejection::Fault(text)) => Err(text),
        };
        answer.unwrap_or_else(|text| {
            log::debug!("{caller} gets a fault: {}", Escaped(&text));
            Answer::document(protocol::write_fault(&text))
        })
    }

    fn exchange_peers(&self, urls: &[String], caller: &str) -> Answer {
        let mut membership = lock(&self.membership);
        let outcome = membership.on_request(urls, self.started.elapsed());
        let answer = protocol::write_peers(membership.live_peers());
        drop(membership);
        log_new_peers(&outcome, &caller);
        (self.on_peers_received)();
        Answer::document(answer)
    }

    /// Answers with the shared files in whose names a pattern is found: with what `list` makes and `write` writes.
    fn search<T>(
        &self,
        pattern: &str,
        caller: &str,
        list: impl FnOnce(&SharedDir, &dyn Fn(&str) -> bool) -> io::Result<Vec<T>>,
        write: impl FnOnce(&[T]) -> Vec<u8>,
    ) -> Result<Answer, String> {
        let escaped = Escaped(pattern);
        let pattern = Pattern::new(pattern).map_err(|error| format!("could not use the pattern: {error}"))?;
        let began = Instant::now();
        let is_wanted = |name: &str| {
            let is_found = began.elapsed() < MAX_SEARCH_TIME && pattern.is_found_in(name);
            if is_found && let Some(mirror) = &self.mirror {
                mirror.note_here(name);
            }
            is_found
        };
        let found = list(&self.shared_dir, &is_wanted).map_err(|error| {
            let text = format!("could not list the directory: {}", reason(&error));
            self.log_read_failure(&text, caller);
            text
        })?;
        if began.elapsed() >= MAX_SEARCH_TIME {
            return Err("the listing took too long; a simpler pattern may be quicker".to_owned());
        }
        log::debug!("listed for {caller} what matches '{escaped}': {}", format::count(found.len(), "file"));
        Ok(Answer::document(write(&found)))
    }

    /// Answers with the content of a file, or with a part of it.
    fn fetch(&self, name: &[u8], part: Option<Part>, accepts_raw: bool, caller: &str) -> Result<Answer, String> {
        let (name, mut file) = self.open(name, part, caller)?;
        let length = file.length();
        let transfer = Transfer {
            name: name.clone(),
            is_part: part.is_some(),
            bytes: length,
            caller: caller.to_owned(),
            began: Instant::now(),
            log: Arc::clone(&self.transfer_log),
        };
        if accepts_raw {
            return Ok(Answer {
                status: "200 OK",
                content_type: RAW_MEDIA_TYPE,
                length: Some(length),
                file: Some(FileState { version: file.version(), modified: file.modified() }),
                limit: self.limit.clone(),
                body: Box::new(move |out| transfer.log(copy(&mut file, out))),
            });
        }
        let content = Content::prepare(&mut file, length);
        let content = content.and_then(|content| file.rewind().map(|()| content));
        let content = content.map_err(|error| self.read_fault(&name.to_string(), &error, caller))?;
        let body = move |out: &mut dyn Write| transfer.log(content.write(&mut file, out));
        Ok(Answer {
            length: Some(content.length()),
            limit: self.limit.clone(),
            body: Box::new(body),
            ..Answer::document(Vec::new())
        })
    }

    /// Answers with the digest of a part, and with what the file is now; with HTTP 503 where too many are asked for.
    fn digest(&self, name: &[u8], part: Part, caller: &str) -> Result<Answer, String> {
        // The question what a file is now costs nothing.
        let acquire = || self.digests.acquire_within(self.digest_wait, MAX_WAITING_DIGESTS);
        let permit = (part.length > 0).then(acquire);
        if matches!(permit, Some(None)) {
            return Ok(Answer { status: BUSY_STATUS, ..Answer::document(BUSY_TEXT.into()) });
        }
        let (name, mut file) = self.open(name, Some(part), caller)?;
        let digest = digest::sha256(&mut file, part.length)
            .and_then(|sha256| Ok(Digest { sha256, version: file.version(), size: file.size(), age: file.age()? }));
        let digest = digest.map_err(|error| self.read_fault(&name.to_string(), &error, caller))?;
        Ok(Answer::document(protocol::write_digest(&digest)))
    }

    /// Opens a shared file, and chooses a part of it.
    fn open(&self, name: &[u8], part: Option<Part>, caller: &str) -> Result<(FileName, SharedFile), String> {
        let escaped = Escaped(&String::from_utf8_lossy(name)).to_string();
        let name = FileName::from_bytes(name).map_err(|error| format!("could not open '{escaped}': {error}"))?;
        let file = self.shared_dir.open_file(&name).and_then(|mut file| {
            part.map_or(Ok(()), |part| file.select(part))?;
            Ok(file)
        });
        Ok((name, file.map_err(|error| self.read_fault(&escaped, &error, caller))?))
    }

    /// The text of the fault for a file that could not be opened or read.
    fn read_fault(&self, escaped: &str, error: &io::Error, caller: &str) -> String {
        let text = format!("could not open '{escaped}': {}", reason(error));
        if !is_callers_mistake(error) {
            self.log_read_failure(&text, caller);
        }
        text
    }

    /// Answers with the files of these names that can be opened and are small enough, each opened when its turn comes.
    fn pack(&self, names: Vec<Vec<u8>>, caller: &str) -> Answer {
        let (shared_dir, log, caller) =
            (Arc::clone(&self.shared_dir), Arc::clone(&self.transfer_log), caller.to_owned());
        let write = move |out: &mut dyn Write| {
            let mut pack = PackWriter::new(BufWriter::with_capacity(PACK_PIECE_BYTES, out));
            for name in names.iter().filter_map(|name| FileName::from_bytes(name).ok()) {
                let began = Instant::now();
                let Ok(mut file) = shared_dir.open_file(&name) else { continue };
                let size = file.size();
                if size > pack::MAX_FILE_BYTES {
                    continue;
                }
                let modified = file.modified();
                pack.append(name.as_str(), size, modified, &mut file).inspect_err(|error| {
                    log::warn!("could not send '{name}' to {caller}: {}", reason(error));
                })?;
                log.add(name, false, size, caller.clone(), began);
            }
            pack.finish()?.flush()
        };
        let (limit, body) = (self.limit.clone(), Box::new(write));
        Answer { content_type: pack::MEDIA_TYPE, length: None, limit, body, ..Answer::document(Vec::new()) }
    }

    /// Logs that something shared cannot be read.
    fn log_read_failure(&self, text: &str, caller: &str) {
        let Some(skipped) = self.read_failure_log.check() else { return };
        log::warn!("{text}; {caller} gets a fault{}", since_last_time(skipped));
    }

    fn log_auth_failure(&self, caller: &str) {
        let Some(skipped) = self.auth_failure_log.check() else { return };
        let others = since_last_time(skipped);
        log::warn!(
            "refused {caller}: its proof is wrong; another password, or it calls this server by another URL than {}{others}",
            self.url
        );
    }
}

/// Tells how many messages of a kind were skipped.
fn since_last_time(skipped: u64) -> String {
    if skipped > 0 { format!(" ({skipped} more since the last time)") } else { String::new() }
}

/// Whether a caller has asked for what was never shared, or is no longer there.
fn is_callers_mistake(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::InvalidInput)
}

/// A file that is being sent, for the log.
struct Transfer {
    name: FileName,
    is_part: bool,
    bytes: u64,
    caller: String,
    began: Instant,
    log: Arc<TransferLog>,
}

impl Transfer {
    /// Logs how it ended.
    fn log(self, result: io::Result<()>) -> io::Result<()> {
        let Self { name, is_part, bytes, caller, began, log } = self;
        match &result {
            Ok(()) => log.add(name, is_part, bytes, caller, began),
            Err(error) => log::warn!("could not send '{name}' to {caller}: {}", reason(error)),
        }
        result
    }
}

/// Copies a file to the caller in large pieces.
fn copy(file: &mut SharedFile, out: &mut dyn Write) -> io::Result<()> {
    let size = usize::try_from(file.length()).unwrap_or(READ_BYTES);
    let mut buffer = vec![0; size.clamp(1, READ_BYTES)];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => out.write_all(&buffer[..count])?,
        }
    }
}
