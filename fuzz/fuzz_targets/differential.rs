//! The same bytes to our decoder, to tungstenite and to tokio-websockets: the same messages, and refused by all or none.
//!
//! Known differences are in `assert_agreement`; those of tokio-websockets alone are below.
#![no_main]

#[path = "../../crates/websocket/tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use support::{Event, Receiver, assert_agreement, tungstenite_peer};

/// Small, so that inputs reach it.
const LIMIT: usize = 1024;

fuzz_target!(|data: &[u8]| {
    let mut ours = Receiver::server(LIMIT);
    ours.feed(data);
    assert_agreement(&mut ours, &tungstenite_peer::decode(data, LIMIT), "tungstenite");
    // It answers pings and pongs itself and does not report both in the same way; so control frames are left out.
    ours.events.retain(|event| !matches!(event, Event::Ping(_) | Event::Pong(_)));
    let (mut events, end) = tokio_websockets_peer::decode(data, LIMIT);
    events.retain(|event| !matches!(event, Event::Ping(_) | Event::Pong(_)));
    assert_agreement(&mut ours, &(events, end), "tokio-websockets");
});

/// What tokio-websockets makes of the bytes that a client sent.
mod tokio_websockets_peer {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use futures_util::Stream;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tokio_websockets::{Config, Error, Limits, ServerBuilder};

    use super::support::{End, Event};

    /// Gives the bytes, then waits for ever; swallows what is written.
    struct Wire<'a>(&'a [u8]);

    impl AsyncRead for Wire<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.0.is_empty() {
                return Poll::Pending;
            }
            let (head, rest) = self.0.split_at(self.0.len().min(buffer.remaining()));
            buffer.put_slice(head);
            self.0 = rest;
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Wire<'_> {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    pub fn decode(bytes: &[u8], message_bytes_max: usize) -> (Vec<Event>, End<()>) {
        let limits = Limits::default().max_payload_len(Some(message_bytes_max));
        let builder = ServerBuilder::new().config(Config::default()).limits(limits);
        let mut socket = builder.serve(Wire(bytes));
        let mut context = Context::from_waker(Waker::noop());
        let mut events = Vec::new();
        loop {
            let message = match Pin::new(&mut socket).poll_next(&mut context) {
                Poll::Pending => return (events, End::Open),
                Poll::Ready(None | Some(Err(Error::AlreadyClosed))) => return (events, End::Closed),
                Poll::Ready(Some(Err(_))) => return (events, End::Refused(())),
                Poll::Ready(Some(Ok(message))) => message,
            };
            let payload = message.as_payload().to_vec();
            if message.is_text() {
                // Version 0.13.3 forgets to check a text that an empty fragment ends: `as_text` would be unsound then.
                match String::from_utf8(payload) {
                    Ok(text) => events.push(Event::Text(text)),
                    Err(_) => return (events, End::Refused(())),
                }
            } else if message.is_binary() {
                events.push(Event::Binary(payload));
            } else if message.is_close() {
                let reason = message.as_close().map(|(code, reason)| (code.into(), reason.to_owned()));
                events.push(Event::Close(reason.filter(|_| !payload.is_empty())));
                return (events, End::Closed);
            } else if message.is_ping() {
                events.push(Event::Ping(payload));
            } else {
                events.push(Event::Pong(payload));
            }
        }
    }
}
