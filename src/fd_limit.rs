//! How many files and connections the process may have open at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as are of any use here.
const WANTED: u64 = 2048;

/// Those of a client that are open anyhow: the standard streams, the signals' pipe, a directory, what the resolver
/// needs.
const RESERVED: usize = 16;

/// Makes the limit as large as is useful and allowed, and says what it is then.
pub(crate) fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    let wanted = WANTED.min(limit.maximum.unwrap_or(u64::MAX));
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    let current = if current < wanted && setrlimit(Resource::Nofile, raised).is_ok() { wanted } else { current };
    usize::try_from(current).unwrap_or(usize::MAX)
}

/// How many connections and files a client may have open under the limit, which is raised first; at least 1.
pub(crate) fn available() -> usize {
    raise_limit().saturating_sub(RESERVED).max(1)
}
