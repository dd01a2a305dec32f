//! `tinyp2p`: the 2004 `TinyP2P` network as one binary.
mod door;
mod endpoint;
mod handover;
mod names;
mod peers;
mod proof;
fn main() {}
