//! Upgrades by a server that has the socket of a request in its own hands.
//!
//! Where an HTTP library drives the connection, the socket comes out of it some time after the 101 was written
//! ([`crate::upgrade`]). A server that has read a request itself says so with it ([`SocketInHand`]) and finds in the answer
//! who was let in ([`Admitted`]). The answer then goes to the shard with the socket and leaves in one write with the
//! client's welcome; what is judged, counted and refused is the same on both roads.

use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::Response;
use outspoke_websocket::handshake::head::encode_response;

use crate::antechamber::{self, Seat};
use crate::client::registry::Place;
use crate::conn::TcpConn;
use crate::error::AttachError;
use crate::hub::{Attach, Hub};
use crate::upgrade::{UpgradeService, Visit};

/// The request was read from a plain socket by a server that can give this socket away.
///
/// A request extension for [`UpgradeService`]: instead of waiting for an HTTP library to let go of the stream, it puts an
/// [`Admitted`] into the answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketInHand;

/// Somebody who was let in, and whose socket and answer the server still has.
///
/// In the extensions of the 101 to a request with a [`SocketInHand`]. Its place in the hub is taken; dropping all clones gives it
/// back, and so does whoever drops the answer.
#[derive(Clone, Debug)]
pub struct Admitted(Arc<Mutex<Option<Guest>>>);

/// Who was let in.
#[derive(Debug)]
pub(crate) enum Guest {
    /// A client of the hub.
    Client { hub: Hub, place: Place, attach: Attach },
    /// Somebody who shows a credential in the first message.
    Unknown { service: UpgradeService, seat: Seat, visit: Visit },
}

impl Admitted {
    pub(crate) fn new(guest: Guest) -> Self {
        Self(Arc::new(Mutex::new(Some(guest))))
    }

    /// Takes it out of an answer; `None`: nobody was let in, and the answer says why.
    pub fn of<B>(answer: &mut Response<B>) -> Option<Self> {
        answer.extensions_mut().remove()
    }

    /// Gives the hub the socket, which must not block and has its options already. The hub writes the answer's status and
    /// headers before anything else. The request has been read from the socket, and nothing behind it. Of several clones only the
    /// first is attached. Must be awaited in a tokio runtime with time and I/O enabled: the socket of somebody who has shown no
    /// credential yet stays there.
    ///
    /// # Errors
    /// The hub has ended meanwhile; the socket is closed.
    ///
    /// # Cancel safety
    /// Dropping the future once it was polled has no effect: the socket is the hub's.
    pub async fn attach(self, socket: TcpStream, answer: Response<()>) -> Result<(), AttachError> {
        let guest = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut greeting = Vec::with_capacity(256);
        encode_response(&answer, None, &mut greeting);
        match guest {
            Some(Guest::Client { hub, place, attach }) => {
                let conn = Box::new(TcpConn::prepared(socket));
                let attach = Attach { greeting: Bytes::from(greeting), ..attach };
                let unwoken = hub.attach_quietly(place, conn, attach)?;
                if unwoken.is_some() {
                    // Those accepted together are attached together: what is ready to run now comes first.
                    tokio::task::yield_now().await;
                }
            }
            Some(Guest::Unknown { service, seat, visit }) => {
                tokio::spawn(antechamber::seat(service, seat, visit, socket, greeting));
            }
            None => {}
        }
        Ok(())
    }
}
