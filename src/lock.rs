//! Locks a mutex for the whole crate.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex. One whose holder panicked is used on: the hook has reported the panic, and no holder in this crate
/// leaves a value half changed.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
