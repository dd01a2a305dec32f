//! Strangers at a server: whatever they do without the password, and friends do to excess, an honest call is answered
//! meanwhile, memory stays small, nothing panics, and nothing of it is left when they have gone.
//!
//! - `siege`: a server under attack, the honest caller beside it, and what the server may hold
//! - `floods`: many connections that say nothing, too little, too much, or never listen
//! - `heads`: HTTP that is too long, wrong, or announces what does not come
//! - `bodies`: XML and calls that no friend would send, and how much of it
//! - `guesses`: wrong proofs without end, and patterns built to be expensive
//! - `cleaners`: private sockets that are taken away, and what a killed server leaves
//!
//! Most servers' silence limit is one second. What a test measured is printed; `--nocapture` shows it.

mod bodies;
mod cleaners;
mod floods;
mod guesses;
mod heads;
mod siege;
