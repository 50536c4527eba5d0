//! One thing to tell many clients, encoded once per dialect however many there are.
//!
//! Made where a message is accepted, shared by every shard that delivers it. The first shard that needs a
//! dialect's form makes it; compression likewise, inside [`SharedFrame`].

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use outspoke_protocol::{Dialect, Event, FrameKind, Message};
use outspoke_websocket::{Opcode, SharedFrame};

/// What is delivered.
#[derive(Debug)]
pub(crate) struct Publication {
    content: Content,
    /// By dialect. `Some(None)`: the dialect has no word for it.
    frames: Box<[OnceLock<Option<SharedFrame>>]>,
    weight: usize,
    /// When the hub had it, where it is a message.
    accepted: Option<Instant>,
}

#[derive(Debug)]
enum Content {
    Event(Event),
    /// A ready payload, the same in every dialect.
    Frame(SharedFrame),
}

impl Publication {
    pub(crate) fn message(message: Message, dialects: usize) -> Self {
        let weight = 256 + 2 * message.body.len();
        let accepted = Some(Instant::now());
        Self { accepted, ..Self::new(Content::Event(Event::Message(message)), weight, dialects) }
    }

    /// Something to tell that is no message.
    pub(crate) fn event(event: Event, dialects: usize) -> Self {
        Self::new(Content::Event(event), 256, dialects)
    }

    pub(crate) fn frame(kind: FrameKind, payload: &Bytes) -> Self {
        Self::new(Content::Frame(SharedFrame::new(opcode(kind), payload)), 64 + payload.len(), 0)
    }

    fn new(content: Content, weight: usize, dialects: usize) -> Self {
        Self { content, frames: (0..dialects).map(|_| OnceLock::new()).collect(), weight, accepted: None }
    }

    /// About how much memory it holds, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// When the hub had the message.
    pub(crate) fn accepted(&self) -> Option<Instant> {
        self.accepted
    }

    pub(crate) fn message_ref(&self) -> Option<&Message> {
        match &self.content {
            Content::Event(Event::Message(message)) => Some(message),
            _ => None,
        }
    }

    /// Equal for messages of which a conflating room keeps only the newest; zero for what must not be conflated.
    pub(crate) fn conflation_key(&self) -> u64 {
        let Some(message) = self.message_ref().filter(|message| message.position.is_some()) else { return 0 };
        let mut hasher = foldhash::fast::FixedState::default().build_hasher();
        message.kind.hash(&mut hasher);
        message.from.as_ref().map(|from| &from.user).hash(&mut hasher);
        hasher.finish().max(1)
    }

    /// The frame for clients of a dialect; `None` when there is nothing to tell them.
    pub(crate) fn frame_for(&self, index: usize, dialects: &[Arc<dyn Dialect>]) -> Option<&SharedFrame> {
        match &self.content {
            Content::Frame(frame) => Some(frame),
            Content::Event(event) => {
                self.frames[index].get_or_init(|| encode(dialects[index].as_ref(), event)).as_ref()
            }
        }
    }
}

fn encode(dialect: &dyn Dialect, event: &Event) -> Option<SharedFrame> {
    let mut payload = Vec::with_capacity(256);
    let kind = dialect.encode(event, &mut payload)?;
    Some(SharedFrame::new(opcode(kind), &payload))
}

/// The frame type that a payload travels in.
pub(crate) fn opcode(kind: FrameKind) -> Opcode {
    match kind {
        FrameKind::Text => Opcode::Text,
        FrameKind::Binary => Opcode::Binary,
    }
}
