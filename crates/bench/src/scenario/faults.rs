//! Tests of the whole road, socket to report, against a relay that makes mistakes on purpose.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::args::{Fanout, Load, Rooms, ServerArgs};
use crate::frame;
use crate::peer::PeerKind;
use crate::report::Report;
use crate::scenario::relay;
use crate::sequence::Tally;

/// What the relay does wrong to its last member: given a message's number, the messages it gets instead.
type Fault = fn(number: usize) -> &'static [usize];

/// Messages per round; numbers in a fault are within the round.
const ROUND: usize = 4;

fn faultless(number: usize) -> &'static [usize] {
    &[&[0], &[1], &[2], &[3]][number][..]
}

/// Relays to `members` connections in rounds of [`ROUND`]; the last one suffers `fault`. Frames are written
/// in pieces of `piece` bytes, so that they arrive split.
fn faulty_relay(members: usize, fault: Fault, piece: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut streams: Vec<TcpStream> = (0..members).map(|_| upgraded(&listener)).collect();
        let mut received = Vec::new();
        let mut round = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match streams[0].read(&mut buffer) {
                Ok(count) if count > 0 => received.extend_from_slice(&buffer[..count]),
                _ => return,
            }
            while let Some(frame) = frame::scan_masked(&mut received).unwrap() {
                let mut delivery = Vec::new();
                frame::push(&mut delivery, frame::TEXT, frame.payload);
                let len = frame.len;
                round.push(delivery);
                received.drain(..len);
                if round.len() < ROUND {
                    continue;
                }
                for (member, stream) in streams.iter_mut().enumerate() {
                    let fault = if member + 1 == members { fault } else { faultless };
                    let bytes: Vec<u8> = (0..ROUND).flat_map(fault).flat_map(|&n| round[n].clone()).collect();
                    if bytes.chunks(piece).any(|piece| stream.write_all(piece).is_err()) {
                        return;
                    }
                }
                round.clear();
            }
        }
    });
    addr
}

/// Accepts the connection that comes next and upgrades it.
fn upgraded(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        request.push(byte[0]);
    }
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
    stream
}

fn server(addr: SocketAddr) -> ServerArgs {
    ServerArgs {
        url: format!("ws://{addr}"),
        ca: None,
        insecure: false,
        peer: PeerKind::Raw,
        server_pid: None,
        pin: None,
        timeout: Duration::from_millis(500),
        json: false,
    }
}

fn load(size: usize) -> Load {
    let duration = Duration::from_millis(50);
    Load { size, duration, warm_up: Duration::from_millis(5), rate: None }
}

fn fanout(fault: Fault, piece: usize) -> Report {
    fanout_of(64, fault, piece)
}

fn fanout_of(size: usize, fault: Fault, piece: usize) -> Report {
    let members = 3;
    let server = server(faulty_relay(members, fault, piece));
    relay::fanout(&Fanout { server, load: load(size), members: members as u32, in_flight: ROUND as u32 })
        .unwrap()
}

fn faults(report: &Report) -> Tally {
    report.load.as_ref().unwrap().faults
}

#[test]
fn relay_without_faults_is_clean_however_its_frames_are_cut() {
    for piece in [1, 2, 3, 7, 64, 1000] {
        let report = fanout(faultless, piece);
        assert!(report.is_clean(), "pieces of {piece}: {report}");
    }
}

#[test]
fn relay_of_messages_larger_than_the_read_buffer_is_clean() {
    let report = fanout_of(400_000, faultless, 1 << 20);
    assert!(report.is_clean(), "{report}");
}

#[test]
fn relay_that_loses_a_message_is_found_out_and_the_run_ends() {
    let report = fanout(|number| if number == 2 { &[] } else { faultless(number) }, 1000);
    assert_eq!(faults(&report), Tally { lost: 1, duplicated: 0, reordered: 0 });
    assert!(
        report.problems.iter().any(|problem| problem.contains("1 deliveries in 1 room(s) are missing")),
        "{report}"
    );
}

#[test]
fn relay_that_repeats_a_message_is_found_out() {
    let report = fanout(|number| if number == 1 { &[1, 1] } else { faultless(number) }, 1000);
    let Tally { lost, duplicated, reordered } = faults(&report);
    assert!(duplicated > 0 && lost == 0 && reordered == 0, "{report}");
    assert!(!report.is_clean());
}

#[test]
fn relay_that_swaps_messages_is_found_out() {
    let report = fanout(|number| &[&[1], &[0], &[2], &[3]][number][..], 1000);
    let Tally { lost, duplicated, reordered } = faults(&report);
    assert!(reordered > 0 && lost == 0 && duplicated == 0, "{report}");
}

#[test]
fn relay_that_leaks_into_another_room_is_found_out() {
    // Two rooms of two, but the relay takes all four for one room.
    let server = server(faulty_relay(4, faultless, 1000));
    let rooms = Rooms { server, load: load(64), rooms: 2, members: 2, in_flight: ROUND as u32 };
    let report = relay::rooms(&rooms).unwrap();
    assert!(report.load.as_ref().unwrap().foreign > 0, "{report}");
    assert!(!report.is_clean());
}
