//! Every scenario, small, against the bare server in a thread: what is counted, and what is said when it fails.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use clap::Parser;
use mio::Waker;
use outspoke_bench::{Args, Bare, BareOptions, Report, measure};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// A bare server that ends with the test.
struct Server {
    addr: SocketAddr,
    stopper: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(options: BareOptions) -> Self {
        let mut bare = Bare::bind("127.0.0.1:0".parse().unwrap(), options).unwrap();
        let (addr, stopper) = (bare.local_addr().unwrap(), bare.stopper().unwrap());
        let thread = Some(thread::spawn(move || bare.run().unwrap()));
        Self { addr, stopper, thread }
    }

    fn measure(&self, words: &str) -> Report {
        bench(self.addr, words).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopper.wake().unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Runs `bench WORDS` against a raw peer at `addr`; this process is also the server that is observed.
fn bench(addr: SocketAddr, words: &str) -> anyhow::Result<Report> {
    let url = format!("ws://{addr}");
    let pid = std::process::id().to_string();
    let fixed = ["--peer", "raw", "--url", &url, "--server-pid", &pid];
    let words = ["bench"].into_iter().chain(words.split_whitespace()).chain(fixed);
    measure(&Cli::parse_from(words).args)
}

const SHORT: &str = "--warm-up 20ms --duration 100ms";

#[test]
fn fanout_closed_loop_delivers_everything_once_and_in_order() {
    for (in_flight, batch) in [(1, false), (16, false), (16, true)] {
        let server = Server::start(BareOptions { batch, ..BareOptions::default() });
        let report = server.measure(&format!("fanout --members 20 --in-flight {in_flight} {SHORT}"));
        assert!(report.is_clean(), "{report}");
        let load = report.load.unwrap();
        assert_eq!(load.deliveries, load.messages * 20, "whole rounds are counted");
        assert_eq!(load.latency.count, load.deliveries);
        assert_eq!(load.bytes_per_delivery, 132.0);
        assert!(load.server_cpu_us.is_some() && load.send_lag_p99_us.is_none());
    }
}

#[test]
fn fanout_with_padded_frames_receives_the_size_asked_for() {
    let server = Server::start(BareOptions { frame_bytes: 300, ..BareOptions::default() });
    let report = server.measure(&format!("fanout --members 5 {SHORT}"));
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.load.unwrap().bytes_per_delivery, 300.0);
}

#[test]
fn fanout_at_a_fixed_rate_waits_for_every_message_that_was_due() {
    let server = Server::start(BareOptions::default());
    let report = server.measure("fanout --members 10 --rate 1000 --warm-up 20ms --duration 300ms");
    assert!(report.is_clean(), "{report}");
    let load = report.load.unwrap();
    // However late the driver was: what was due in the window is sent, awaited, and its age counted.
    assert!(load.messages > 0);
    assert_eq!(load.latency.count, load.messages * 10);
    assert!(load.send_lag_p99_us.is_some());
}

#[test]
fn rooms_do_not_mix() {
    let server = Server::start(BareOptions::default());
    for pace in ["", "--rate 2000"] {
        let report = server.measure(&format!("rooms --rooms 30 --members 3 {SHORT} {pace}"));
        assert!(report.is_clean(), "{report}");
        let load = report.load.unwrap();
        assert_eq!((load.foreign, load.faults), (0, Default::default()));
        assert!(load.deliveries > 0);
    }
}

#[test]
fn echo_answers_every_request() {
    let server = Server::start(BareOptions::default());
    for pace in ["", "--rate 2000"] {
        let report = server.measure(&format!("echo --connections 20 {SHORT} {pace}"));
        assert!(report.is_clean(), "{report}");
        let load = report.load.unwrap();
        assert!(load.deliveries > 0);
        assert_eq!(load.latency.count, load.messages);
    }
}

#[test]
fn echo_with_publish_needs_a_peer_that_acknowledges() {
    let server = Server::start(BareOptions::default());
    let error = bench(server.addr, "echo --mode publish").unwrap_err().to_string();
    assert!(error.contains("acknowledgements"), "{error}");
}

#[test]
fn idle_counts_connections_and_memory() {
    let server = Server::start(BareOptions::default());
    let report = server.measure("idle --connections 200 --rooms 3 --settle 50ms");
    assert!(report.is_clean(), "{report}");
    let idle = report.idle.unwrap();
    assert_eq!(idle.connections, 200);
    assert!(idle.connects_per_s > 0.0 && idle.pss_per_connection.is_some());
    assert!(idle.joins_per_s.is_none(), "a raw peer joins by connecting");
}

#[test]
fn churn_ends_every_connection_with_the_servers_close_frame() {
    let server = Server::start(BareOptions::default());
    let report = server.measure("churn --cycles 500 --concurrent 20 --rooms 7 --settle 50ms");
    assert!(report.is_clean(), "{report}");
    let churn = report.churn.unwrap();
    assert_eq!((churn.cycles, churn.cycle.count), (500, 500));
    assert_eq!(churn.endings, [("close code 1000".to_owned(), 500)]);
    assert!(churn.server.is_some());
}

#[test]
fn slow_members_do_not_count_and_their_end_is_told() {
    let server = Server::start(BareOptions::default());
    let report =
        server.measure("slow --members 20 --stalled 0.25 --rate 200 --duration 200ms --warm-up 20ms");
    assert!(report.is_clean(), "{report}");
    let slow = report.slow.unwrap();
    assert_eq!(slow.stalled, 5);
    assert_eq!(slow.endings.iter().map(|(_, count)| count).sum::<u64>(), 5);
    assert!(slow.before.deliveries > slow.during.deliveries, "the stuck members are not counted");
    assert!(slow.memory.is_some() && slow.offered_bytes_each > 0);
}

#[test]
fn slow_members_that_are_dropped_are_seen() {
    let server = Server::start(BareOptions::default());
    // 18 MB overflow any socket buffer; the bare server drops whose is full.
    let report =
        server.measure("slow --members 3 --stalled 0.34 --size 60000 --rate 300 --duration 1s --warm-up 0s");
    let endings = report.slow.unwrap().endings;
    assert!(endings.iter().all(|(how, _)| !how.starts_with("still open")), "{endings:?}");
}

#[test]
fn server_that_is_not_there_is_named_with_a_cure() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = format!("{:#}", bench(addr, "fanout --members 2").unwrap_err());
    assert!(error.contains(&addr.to_string()) && error.contains("is the server running"), "{error}");
}

/// A server that answers every connection with `answer` and then hangs up.
fn server_that_says(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]).and_then(|_| stream.write_all(answer));
        }
    });
    addr
}

#[test]
fn server_that_refuses_the_upgrade_is_quoted() {
    let addr = server_that_says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nnot today\n");
    let error = format!("{:#}", bench(addr, "fanout --members 2").unwrap_err());
    assert!(error.contains("403 Forbidden") && error.contains("not today"), "{error}");
}

#[test]
fn server_that_goes_away_in_the_middle_is_an_error_with_its_code() {
    let addr = server_that_says(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x88\x0c\x0f\xa1shut down ");
    let error = format!("{:#}", bench(addr, "fanout --members 2 --duration 1s").unwrap_err());
    assert!(error.contains("close code 4001 (shut down )"), "{error}");
}

#[test]
fn server_that_never_answers_runs_into_the_time_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = bench(listener.local_addr().unwrap(), "fanout --members 2 --timeout 100ms").unwrap_err();
    assert!(error.to_string().contains("were not upgraded within"), "{error}");
}

#[test]
fn process_that_is_not_there_is_named() {
    let words = ["bench", "idle", "--connections", "1", "--server-pid", "4294967295"];
    let error = measure(&Cli::parse_from(words).args).unwrap_err().to_string();
    assert!(error.contains("--server-pid"), "{error}");
}
