//! `tinyp2p`: the 2004 `TinyP2P` network as one binary.
mod names;
mod peers;
mod proof;
mod xmlrpc;
fn main() {}
