//! Connections of a client that limits its rate: what was not read yet, and so not counted, is little.
//!
//! The kernel takes more than a hundred kilobytes for a reader that does not come; with a low limit those would be
//! seconds of it. ureq's own connections have no setting for that.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use ureq::{
    Error, Timeout,
    unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport},
};

/// The smallest receive buffer that is asked for, in bytes.
const MIN_BYTES: usize = 4 << 10;

/// From this size on, in bytes, the kernel's own choice serves as well.
const MAX_BYTES: usize = 256 << 10;

/// Makes connections with a small receive buffer, or none where that would not be smaller than usual.
#[derive(Debug)]
pub(super) struct SmallWindow(Option<usize>);

impl SmallWindow {
    /// Of this many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self((bytes < MAX_BYTES).then(|| bytes.max(MIN_BYTES)))
    }
}

impl Connector<()> for SmallWindow {
    type Out = SmallWindowTransport;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        let Some(bytes) = self.0 else { return Ok(None) };
        let share = *details.timeout.after / u32::try_from(details.addrs.len()).unwrap_or(u32::MAX).max(1);
        let mut failure = Error::HostNotFound;
        for address in &details.addrs {
            match connect(*address, bytes, share) {
                Ok(stream) => {
                    let buffers =
                        LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
                    return Ok(Some(SmallWindowTransport { stream, bytes, buffers }));
                }
                Err(error) => failure = explain(error, Timeout::Connect),
            }
        }
        Err(failure)
    }
}

fn connect(address: SocketAddr, bytes: usize, timeout: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Before it connects: what the kernel once offered it must take.
    socket.set_recv_buffer_size(bytes)?;
    socket.set_tcp_nodelay(true)?;
    socket.connect_timeout(&address.into(), timeout)?;
    Ok(socket.into())
}

fn explain(error: io::Error, reason: Timeout) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(reason),
        _ => error.into(),
    }
}

/// A connection that takes little before it is read.
#[derive(Debug)]
pub(super) struct SmallWindowTransport {
    stream: TcpStream,
    /// How much is read at a time.
    bytes: usize,
    buffers: LazyBuffers,
}

impl Transport for SmallWindowTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(timeout.not_zero().map(|time| *time))?;
        let sent = self.stream.write_all(&self.buffers.output()[..amount]);
        sent.map_err(|error| explain(error, timeout.reason))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(timeout.not_zero().map(|time| *time))?;
        let buffer = self.buffers.input_append_buf();
        let most = buffer.len().min(self.bytes);
        let count = self.stream.read(&mut buffer[..most]).map_err(|error| explain(error, timeout.reason))?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        let is_silent = |stream: &TcpStream| {
            stream.set_nonblocking(true)?;
            let peeked = stream.peek(&mut [0]);
            stream.set_nonblocking(false)?;
            peeked
        };
        is_silent(&self.stream).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}
