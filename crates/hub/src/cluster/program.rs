//! What the program that has the hub asks of itself on other nodes.
//!
//! The hub carries question and answer, and neither means anything to it; a program knows its own lists best. Who asks waits two
//! seconds, as for every question; who is asked answers so many at a time, each in a task of its own, and says so where there are
//! more. Whether whoever is behind a question may ask it is for the node that was asked first: nodes believe each other.

use std::fmt;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ecow::EcoString;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use outspoke_bus::NodeId;

use super::Cluster;
use super::ask::{Answered, PATIENCE};
use super::envelope::{Question, Reply};
use crate::hub::{Hub, Inner};

/// Longest answer that is asked for, where the bus carries as much: others have to get through, too.
const ANSWER_BYTES_MAX: usize = 128 * 1024;
/// What an envelope needs beside the answer.
const ENVELOPE_BYTES: usize = 64;
/// Questions that a node answers at a time.
const ANSWERING_MAX: usize = 64;

/// An answer of [`NodeAnswers`]; `None`: the question makes no sense.
pub type NodeAnswer<'a> = Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send + 'a>>;

/// Answers what the same program [asks](Hub::ask_nodes) on another node.
///
/// Nodes may be of different versions: a question that is not known is answered with `None`, and what is not known in an answer
/// is to be passed over.
pub trait NodeAnswers: fmt::Debug + Send + Sync + 'static {
    /// Called in a task of its own on the thread that hears the bus, so it must not block; what takes longer than two seconds is
    /// given up. An answer that has more than `bytes_max` bytes is not sent.
    fn answer<'a>(&'a self, hub: &'a Hub, question: &'a [u8], bytes_max: usize) -> NodeAnswer<'a>;
}

/// What another node said to a question of the program's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeSaid {
    /// The answer.
    Answer(Vec<u8>),
    /// It does not answer that, with the reason that it gave.
    Refused(EcoString),
    /// It did not answer within two seconds: it is away, or of a version that is asked nothing by programs.
    Nothing,
}

/// How many questions are being answered.
#[derive(Debug, Default)]
pub(super) struct Answering(Arc<AtomicUsize>);

/// One of them, until dropped.
struct Ticket(Arc<AtomicUsize>);

impl Answering {
    fn begin(&self) -> Option<Ticket> {
        let ticket = Ticket(Arc::clone(&self.0));
        (self.0.fetch_add(1, Ordering::Relaxed) < ANSWERING_MAX).then_some(ticket)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hub {
    /// Asks the program on every other node something, which its [`NodeAnswers`] answers there. `hear` is told what each said, in
    /// the order in which they do, until it breaks off or all have answered, which takes two seconds where one does not. Nobody
    /// is asked by a hub that is on its own. A question should have a few kilobytes at most.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answers that have not come.
    pub async fn ask_nodes(
        &self,
        question: &[u8],
        mut hear: impl FnMut(NodeId, NodeSaid) -> ControlFlow<()>,
    ) {
        let Some(cluster) = &self.inner.cluster else { return };
        let asks = cluster.nodes.ids().into_iter().map(|node| async move {
            let said = match cluster.ask(node, Question::Program(question), PATIENCE).await {
                Some(Answered::Program(answer)) => NodeSaid::Answer(answer),
                Some(Answered::Refused(why)) => NodeSaid::Refused(why.into()),
                _ => NodeSaid::Nothing,
            };
            (node, said)
        });
        let mut asks = asks.collect::<FuturesUnordered<_>>();
        while let Some((node, said)) = asks.next().await {
            if hear(node, said).is_break() {
                return;
            }
        }
    }
}

impl Cluster {
    /// The program of another node asks this one's.
    pub(super) fn hear_program(&self, hub: &Arc<Inner>, asker: NodeId, id: u64, question: &[u8]) {
        let refuse = |why: &str| self.reply(asker, id, Reply::Refused(why));
        let Some(answers) = hub.node_answers.clone() else {
            return refuse("its program answers nothing");
        };
        let Some(ticket) = self.answering.begin() else {
            return refuse("it answers as many questions as it may at a time");
        };
        let (question, hub) = (question.to_vec(), Arc::downgrade(hub));
        let bytes_max = ANSWER_BYTES_MAX.min(self.link.payload_bytes_max() - ENVELOPE_BYTES);
        tokio::spawn(async move {
            let _ticket = ticket;
            let Some(hub) = hub.upgrade().map(Hub::from) else { return };
            let answer = tokio::time::timeout(PATIENCE, answers.answer(&hub, &question, bytes_max));
            // Nobody waits for it any more.
            let Ok(answer) = answer.await else { return };
            let Some(cluster) = &hub.inner.cluster else { return };
            let reply = match &answer {
                Some(answer) if answer.len() <= bytes_max => Reply::Program(answer),
                Some(_) => Reply::Refused("its answer has more bytes than the bus carries"),
                None => Reply::Refused("it does not know the question: it is of another version"),
            };
            cluster.reply(asker, id, reply);
        });
    }
}
