//! The hot path allocates nothing, and an attacker cannot make it allocate much.
//!
//! One test function, since the counters are of the whole process.

#![allow(unsafe_code, clippy::unwrap_used)]

mod corpus;
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use outspoke_websocket::{
    Decoder, Deflater, Inflater, Item, Limits, Opcode, ProtocolError, Role, SharedFrame, Window,
    encode_frame, encode_masked_frame,
};
use support::frame;

/// Counts allocations, the bytes in use and their peak.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn count(size: usize) {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    let in_use = IN_USE.fetch_add(size, Ordering::Relaxed) + size;
    PEAK.fetch_max(in_use, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; only counters are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        count(size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations made by `work`.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// The most bytes that `work` had in use beyond those before it.
fn peak(work: impl FnOnce()) -> usize {
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    work();
    PEAK.load(Ordering::Relaxed) - before
}

fn drain(decoder: &mut Decoder, input: &mut [u8], limits: &Limits, inflater: &mut Inflater) -> usize {
    let mut frames = decoder.feed(input, limits, inflater);
    let mut messages = 0;
    while let Some(item) = frames.next() {
        messages += usize::from(matches!(item, Ok(Item::Text(_) | Item::Binary(_))));
    }
    messages
}

#[test]
fn hot_path_allocates_nothing_and_attacks_allocate_little() {
    decoding_whole_frames_allocates_nothing();
    decoding_compressed_messages_allocates_nothing_once_warm();
    encoding_into_a_reused_buffer_allocates_nothing();
    a_shared_frame_is_encoded_and_compressed_once();
    a_declared_length_allocates_nothing_of_its_size();
    a_bomb_is_stopped_at_the_limit();
    hundreds_of_thousands_of_fragments_cost_their_bytes();
}

fn decoding_whole_frames_allocates_nothing() {
    let key = Some([1, 2, 3, 4]);
    let mut input = [
        frame(true, false, Opcode::Text, "Grüße an alle".as_bytes(), key),
        frame(true, false, Opcode::Ping, b"", key),
        frame(true, false, Opcode::Binary, &[9; 1000], key),
    ]
    .concat()
    .repeat(50);
    input.extend(frame(true, false, Opcode::Close, b"\x03\xe8bye", key));
    let (mut decoder, mut inflater) = (Decoder::new(Role::Server, true), Inflater::new());
    let limits = Limits::default();
    let mut messages = 0;
    let made = allocations(|| messages = drain(&mut decoder, &mut input, &limits, &mut inflater));
    assert_eq!((messages, made), (100, 0));
}

fn decoding_compressed_messages_allocates_nothing_once_warm() {
    let mut deflater = Deflater::with_level(1, 0);
    let payload = "a message of usual length, ".repeat(20);
    let compressed = deflater.compress(payload.as_bytes(), Window::Full).unwrap();
    let input = frame(true, true, Opcode::Text, compressed, Some([1, 2, 3, 4]));
    let (mut decoder, mut inflater) = (Decoder::new(Role::Server, true), Inflater::new());
    drain(&mut decoder, &mut input.clone(), &Limits::default(), &mut inflater);
    let mut input = input.repeat(50);
    let mut messages = 0;
    let made = allocations(|| messages = drain(&mut decoder, &mut input, &Limits::default(), &mut inflater));
    assert_eq!((messages, made), (50, 0));
}

fn encoding_into_a_reused_buffer_allocates_nothing() {
    let mut output = Vec::with_capacity(4096);
    let made = allocations(|| {
        for _ in 0..100 {
            output.clear();
            encode_frame(Opcode::Text, b"to one member", &mut output);
            encode_masked_frame(Opcode::Binary, &[7; 1000], [1, 2, 3, 4], &mut output);
        }
    });
    assert_eq!(made, 0);
}

fn a_shared_frame_is_encoded_and_compressed_once() {
    let mut deflater = Deflater::new();
    let payload = "to everybody in the room, ".repeat(50);
    SharedFrame::text(&payload).deflated(&mut deflater, Window::Full);
    let frame = SharedFrame::text(&payload);
    frame.deflated(&mut deflater, Window::Full);
    let made = allocations(|| {
        for _ in 0..1000 {
            let clone = frame.clone();
            assert!(clone.plain().len() > clone.deflated(&mut deflater, Window::Full).len());
        }
    });
    assert_eq!(made, 0);
}

fn a_declared_length_allocates_nothing_of_its_size() {
    let limits = Limits::new(usize::MAX);
    let mut input = corpus::declared(0x82, (1 << 63) - 1);
    input.extend([0; 100]);
    let (mut decoder, mut inflater) = (Decoder::new(Role::Server, true), Inflater::new());
    let bytes = peak(|| {
        drain(&mut decoder, &mut input, &limits, &mut inflater);
    });
    assert!(bytes < 1024, "{bytes} bytes for 114 received");
}

fn a_bomb_is_stopped_at_the_limit() {
    let bomb = frame(true, true, Opcode::Binary, &corpus::bomb(256 << 20), Some([1, 2, 3, 4]));
    let limits = Limits::new(2 << 20);
    let (mut decoder, mut inflater) = (Decoder::new(Role::Server, true), Inflater::new());
    let mut input = bomb;
    let before = IN_USE.load(Ordering::Relaxed);
    let bytes = peak(|| {
        let mut frames = decoder.feed(&mut input, &limits, &mut inflater);
        assert_eq!(frames.next(), Some(Err(ProtocolError::MessageTooBig { limit: 2 << 20 })));
    });
    assert!(bytes < 6 << 20, "{bytes} bytes for a limit of 2 MiB");
    let kept = IN_USE.load(Ordering::Relaxed) - before;
    assert!(kept < 128 << 10, "{kept} bytes kept after the bomb");
}

fn hundreds_of_thousands_of_fragments_cost_their_bytes() {
    let mut first = frame(false, false, Opcode::Text, b"", Some([0; 4]));
    let mut rest = frame(false, false, Opcode::Continuation, b"", Some([0; 4])).repeat(200_000);
    let (mut decoder, mut inflater) = (Decoder::new(Role::Server, false), Inflater::new());
    drain(&mut decoder, &mut first, &Limits::default(), &mut inflater);
    let made = allocations(|| {
        drain(&mut decoder, &mut rest, &Limits::default(), &mut inflater);
    });
    assert_eq!(made, 0);
}
