//! Both ends of private connections, over sockets of this machine.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    thread,
};

use rustls::{ClientConnection, ServerConnection, Stream};

use super::*;
use crate::{error::PrivateError, support::PATIENCE};

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((ADDRESS, 0)).unwrap();
    let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    for stream in [&caller, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    (caller, server)
}

fn connect(client: &SecureClient, stream: &mut TcpStream) -> Result<CallerSession, Option<PrivateError>> {
    let session = client.handshake(stream).and_then(|handshaken| client.exchange(handshaken, stream));
    session.map_err(|error| error.get_ref().and_then(|inner| inner.downcast_ref().copied()))
}

#[test]
fn who_knows_the_password_is_understood_and_who_does_not_is_not() {
    let server = SecureServer::new(Password::new("secret")).unwrap();
    for password in ["secret", "Secret", ""] {
        let (mut ours, mut theirs) = connected();
        thread::scope(|scope| {
            let accepted = scope.spawn(|| {
                let mut session = server.accept(&mut theirs, ADDRESS)?;
                let mut request = [0; 7];
                let mut read = 0;
                while read < 7 {
                    read += session.read(&mut theirs, &mut request[read..])?;
                }
                assert_eq!(&request, b"request");
                session.write(&mut theirs, b"answer")?;
                session.close(&mut theirs)?;
                Ok::<_, ServerFailure>(())
            });
            match connect(&SecureClient::new(Password::new(password)), &mut ours) {
                Ok(mut session) if password == "secret" => {
                    session.write_all(&mut ours, b"request").unwrap();
                    let mut answer = [0; 10];
                    let mut read = || loop {
                        if let Some(count) = session.read(&mut ours, &mut answer).unwrap() {
                            return count;
                        }
                    };
                    assert_eq!((read(), read()), (6, 0));
                    assert!(accepted.join().unwrap().is_ok());
                }
                Err(Some(PrivateError::NotConfirmed)) if password != "secret" => {
                    drop(ours);
                    assert!(matches!(accepted.join().unwrap(), Err(ServerFailure::WrongPassword)));
                }
                other => panic!("{password}: {other:?}"),
            }
        });
    }
}

#[test]
fn one_in_between_who_does_not_know_the_password_is_noticed_on_both_sides() {
    let (server, client) =
        (SecureServer::new(Password::new("secret")).unwrap(), SecureClient::new(Password::new("secret")));
    let between = SecureServer::new(Password::new("guess")).unwrap();
    let ((mut ours, mut relayed), (mut relaying, mut theirs)) = (connected(), connected());
    thread::scope(|scope| {
        let accepted = scope.spawn(|| server.accept(&mut theirs, ADDRESS).is_ok());
        // It speaks TLS with both, and passes on what they say inside.
        let (between, caller) = (&between, &client);
        let relay = scope.spawn(move || {
            let mut inner = ServerConnection::new(Arc::clone(&between.config)).unwrap();
            let mut outer = ClientConnection::new(Arc::clone(&caller.config), "tinyp2p".try_into().unwrap()).unwrap();
            let mut inner = Stream::new(&mut inner, &mut relayed);
            let mut outer = Stream::new(&mut outer, &mut relaying);
            let mut message = [0; MESSAGE_BYTES];
            inner.read_exact(&mut message).unwrap();
            outer.write_all(&message).unwrap();
            let mut answer = [0; MESSAGE_BYTES + CONFIRMATION_BYTES];
            outer.read_exact(&mut answer).unwrap();
            inner.write_all(&answer).unwrap();
        });
        assert_eq!(connect(&client, &mut ours).unwrap_err(), Some(PrivateError::NotConfirmed));
        relay.join().unwrap();
        drop(ours);
        assert!(!accepted.join().unwrap());
    });
}

#[test]
fn who_hangs_up_after_the_servers_confirmation_has_guessed() {
    let (server, client) =
        (SecureServer::new(Password::new("secret")).unwrap(), SecureClient::new(Password::new("secret")));
    let mut answered = 0;
    for _ in 0..20 {
        let (mut ours, mut theirs) = connected();
        thread::scope(|scope| {
            let server = &server;
            let accepted = scope.spawn(move || server.accept(&mut theirs, ADDRESS).is_err());
            answered += u32::from(connect(&client, &mut ours).is_ok());
            drop(ours);
            assert!(accepted.join().unwrap());
        });
    }
    assert!((10..13).contains(&answered), "{answered} of 20");
}

#[test]
fn a_servers_own_messages_are_no_answer_to_it() {
    let (server, client) =
        (SecureServer::new(Password::new("secret")).unwrap(), SecureClient::new(Password::new("secret")));
    let mut message = Exchange::begin(Role::Caller, &Password::new("guess")).message;
    for _ in 0..3 {
        let (mut ours, mut theirs) = connected();
        thread::scope(|scope| {
            let server = &server;
            let accepted = scope.spawn(move || server.accept(&mut theirs, ADDRESS).is_ok());
            let mut tls = ClientConnection::new(Arc::clone(&client.config), "tinyp2p".try_into().unwrap()).unwrap();
            let mut stream = Stream::new(&mut tls, &mut ours);
            stream.write_all(&message).unwrap();
            let mut answer = [0; MESSAGE_BYTES + CONFIRMATION_BYTES];
            if stream.read_exact(&mut answer).is_ok() {
                message = answer[..MESSAGE_BYTES].to_vec();
                stream.write_all(&answer[MESSAGE_BYTES..]).unwrap();
            }
            drop(ours);
            assert!(!accepted.join().unwrap());
        });
    }
}
