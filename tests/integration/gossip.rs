//! How a network finds itself and stays whole: start order, restarts, many servers, many dead peers.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::harness::{
    Dir, FakePeer, PATIENCE, Reply, Server, SilentPort, array, call, download, eventually, full, serve, serve_python,
};

/// Ten times the 15 seconds in which many servers know each other, and ten times what else is promised here.
const LONG: Duration = Duration::from_secs(150);

/// The most memory in KiB that a server of a large network takes.
#[cfg(target_os = "linux")]
const MAX_MEMORY: u64 = 24 << 10;

/// Waits until each of them answers with so many peers, and says how long that took.
fn until_all_know(servers: &[Server], count: usize) -> Duration {
    let begin = Instant::now();
    for server in servers {
        eventually(&format!("{} knows {count}", server.url()), LONG, || {
            (call(server.url(), 0, &array([""; 0])).peers().len() == count).then_some(())
        });
    }
    begin.elapsed()
}

#[test]
fn a_restarted_first_node_is_told_of_everyone() {
    let dir = Dir::new();
    let options = ["--announce", "1", "--timeout", "1"];
    let mut first = serve(&dir).options(options).start();
    let (url, port) = (first.url().to_owned(), first.port());
    let others: Vec<Server> = (0..3).map(|_| serve(&dir).options(options).peers([&*url]).start()).collect();
    until_all_know(&others, 4);
    first.stop(Signal::KILL, PATIENCE);
    let again = serve(&dir).options(options).port(port).start();
    assert_eq!(again.url(), url);
    let took = until_all_know(&[again], 4);
    assert!(took < LONG, "{took:?}");
}

#[test]
fn a_peer_that_is_named_before_it_is_up_is_joined_when_it_comes() {
    let dir = Dir::new();
    let reserved = SilentPort::reserve();
    let (url, port) = (reserved.url(), reserved.port);
    let early = serve(&dir).options(["--announce", "0"]).peers([&*url]).start();
    early.wait_for_log(&[&url, "warning"]);
    drop(reserved);
    let late = serve(&dir).options(["--announce", "0"]).port(port).start();
    until_all_know(&[early, late], 2);
}

#[test]
fn many_servers_that_start_at_once_make_one_network() {
    let ours = if full() { 120 } else { 12 };
    let count = if full() { ours } else { ours + 3 };
    let files = 10;
    let dirs: Vec<Dir> = (0..count)
        .map(|server| {
            let dir = Dir::new();
            for file in 0..files {
                dir.write(&format!("{server}-{file}"), format!("{server}/{file}"));
            }
            dir
        })
        .collect();
    let begin = Instant::now();
    let first = serve(&dirs[0]).start();
    let start = |server: usize| serve(&dirs[server]).peers([first.url()]).start();
    let start = &start;
    let mut servers: Vec<Server> = thread::scope(|scope| {
        let started: Vec<_> = (1..ours).map(|server| scope.spawn(move || start(server))).collect();
        started.into_iter().map(|server| server.join().unwrap()).collect()
    });
    // Those in Python ask before they answer, as the original does, and so must come one after the other.
    servers.extend((ours..count).map(|server| serve_python(&dirs[server]).peers([first.url()]).start()));
    servers.insert(0, first);
    until_all_know(&servers, count);
    println!("{count} servers know each other {:.1} s after the first was started", begin.elapsed().as_secs_f64());
    let here = Dir::new();
    let begin = Instant::now();
    let run = download(&here, servers[count / 2].url()).run();
    assert_eq!((run.code(), run.stdout.lines().count()), (Some(0), count * files), "{run}");
    println!("{} files came in {:.1} s", count * files, begin.elapsed().as_secs_f64());
    for (server, dir) in dirs.iter().enumerate() {
        let name = format!("{server}-0");
        assert_eq!(here.read(&name), dir.read(&name));
    }
    #[cfg(target_os = "linux")]
    for server in &servers[..ours] {
        let peak = crate::harness::peak_memory(server.pid());
        assert!(peak < MAX_MEMORY, "{peak} KiB\n{server}");
    }
}

#[test]
fn hundreds_of_dead_peers_cost_a_client_little_and_are_each_named_once() {
    // Connections to any loopback address of this port are taken up by the kernel, and nobody ever answers.
    let silent = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
    let port = silent.local_addr().unwrap().port();
    let dead: Vec<String> =
        (1..=300).map(|host| format!("http://127.1.{}.{}:{port}", host / 250, host % 250 + 1)).collect();
    let living = FakePeer::new().file("file", Reply::content(b"content")).on_peers(Reply::peers(&dead)).start();
    let here = Dir::new();
    let begin = Instant::now();
    let run = download(&here, living.url()).options(["--timeout", "1"]).run();
    let took = begin.elapsed();
    assert_eq!((run.code(), &*run.stdout), (Some(0), "file\n"), "{run}");
    for peer in &dead {
        let mentions = run.stderr.lines().filter(|line| line.contains(&format!("{peer}:"))).count();
        assert_eq!(mentions, 1, "{peer}\n{run}");
    }
    assert!(took < Duration::from_secs(30), "{took:?}");
    drop(silent);
}
