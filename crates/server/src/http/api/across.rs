//! Lists that every node has a part of: each says what it has, and who was asked puts that together.
//!
//! Rows are JSON from the beginning, so that nodes of different versions tell what they know. Each has a place in the order of
//! its list, and lists go on behind a place, whichever node is asked next. A node sends no more than fits into one answer; where
//! that was not all, the page ends with what it sent, so nothing is left out in between. A node that does not answer within two
//! seconds is named. Who may ask what is judged before ([`key`](super::key)): other nodes believe the one that was asked.

use std::ops::ControlFlow;
use std::sync::Arc;

use outspoke_hub::bus::NodeId;
use outspoke_hub::{Hub, NodeAnswer, NodeAnswers, NodeSaid};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::audit::{self, Audit};
use super::{Api, clients, users};

/// What a row takes beside what is in it.
const ROW_BYTES: usize = 32;

/// What one node asks another.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "about", rename_all = "camelCase")]
pub(super) enum Question {
    /// A part of its connections: those of a tenant, perhaps of one user, behind a place.
    Clients { tenant: String, user: Option<String>, after: Option<String>, limit: usize },
    /// A part of its users: those of a tenant, behind one of them.
    Users { tenant: String, after: Option<String>, limit: usize },
    /// One connection, closely.
    Client { tenant: String, client: String },
    /// What operators did there: to a tenant or anything, before a place.
    Audit { tenant: Option<String>, before: Option<String>, limit: usize },
}

/// A row of a list.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Row {
    /// Its place, which is compared as text. Several nodes may have a row at the same place.
    pub(super) place: String,
    pub(super) row: Value,
}

/// What one node has of a list, in its order.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Part {
    pub(super) rows: Vec<Row>,
    /// There are more behind the last.
    pub(super) more: bool,
}

/// Where a list begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// With the smallest place.
    Rising,
    /// With the greatest.
    Falling,
}

/// A node that has no part in an answer, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Silent {
    pub(super) node: String,
    pub(super) why: String,
}

/// A page of a list of all nodes.
#[derive(Debug)]
pub(super) struct Page {
    /// Each with the name of its node.
    pub(super) rows: Vec<(String, Row)>,
    /// The place behind which the next page begins.
    pub(super) next: Option<String>,
    pub(super) silent: Vec<Silent>,
}

/// The rows, each of which says itself which node has it.
pub(super) fn with_nodes(rows: Vec<(String, Row)>) -> Vec<Value> {
    let with_node = |(node, mut row): (String, Row)| {
        row.row["node"] = node.into();
        row.row
    };
    rows.into_iter().map(with_node).collect()
}

/// Answers the other nodes.
#[derive(Debug)]
pub(crate) struct Answers {
    audit: Arc<Audit>,
}

impl Answers {
    pub(crate) fn new(kept: &super::Kept) -> Self {
        Self { audit: Arc::clone(&kept.audit) }
    }

    async fn answered(&self, hub: &Hub, question: Question, bytes_max: usize) -> Option<Vec<u8>> {
        match question {
            Question::Clients { tenant, user, after, limit } => {
                let Some(hub) = of_tenant(hub, &tenant) else { return encoded(&Part::default()) };
                let part =
                    clients::page_aside(hub, user, after.and_then(|id| id.parse().ok()), limit).await?;
                encoded(&part.cut(bytes_max))
            }
            Question::Users { tenant, after, limit } => {
                let Some(hub) = of_tenant(hub, &tenant) else { return encoded(&Part::default()) };
                encoded(&users::page_aside(hub, after, limit).await?.cut(bytes_max))
            }
            Question::Client { tenant, client } => {
                let close = match (of_tenant(hub, &tenant), client.parse()) {
                    (Some(hub), Ok(client)) => clients::close_here(&hub, client).await,
                    _ => None,
                };
                encoded(&close.map(|close| close.cut(bytes_max)))
            }
            Question::Audit { tenant, before, limit } => {
                let part = self.audit.page(audit::own_id(hub), tenant.as_deref(), before.as_deref(), limit);
                encoded(&part.cut(bytes_max))
            }
        }
    }
}

impl NodeAnswers for Answers {
    fn answer<'a>(&'a self, hub: &'a Hub, question: &'a [u8], bytes_max: usize) -> NodeAnswer<'a> {
        Box::pin(async move {
            let question = serde_json::from_slice(question).ok()?;
            self.answered(hub, question, bytes_max).await
        })
    }
}

/// The hub of a tenant that this node knows.
fn of_tenant(hub: &Hub, tenant: &str) -> Option<Hub> {
    if tenant.is_empty() { Some(hub.clone()) } else { hub.known_tenant(tenant).ok() }
}

fn encoded(answer: &impl Serialize) -> Option<Vec<u8>> {
    serde_json::to_vec(answer).ok()
}

impl Part {
    /// As many of the first rows as fit into so many bytes.
    fn cut(mut self, bytes_max: usize) -> Self {
        let mut bytes = ROW_BYTES;
        let fits = |row: &Row| {
            bytes += row.place.len() + row.row.to_string().len() + ROW_BYTES;
            bytes <= bytes_max
        };
        let count = self.rows.iter().map(fits).take_while(|fits| *fits).count();
        if count < self.rows.len() {
            self.rows.truncate(count);
            self.more = true;
        }
        self
    }
}

impl Api {
    /// One page of a list: this node's part with those of the others. The rows of one place are all in the same page, and count as
    /// one of `limit`.
    pub(super) async fn page_of_all(
        &self,
        question: &Question,
        order: Order,
        limit: usize,
        own: impl Future<Output = Part>,
    ) -> Page {
        let asked = serde_json::to_vec(question).unwrap_or_default();
        let names = self.node_names();
        let (mut parts, mut silent) = (Vec::new(), Vec::new());
        let others = self.hub.ask_nodes(&asked, |node, said| {
            match said_part(&said) {
                Ok(part) => parts.push((node, part)),
                Err(why) => silent.push(Silent { node: names.of(node), why }),
            }
            ControlFlow::Continue(())
        });
        let ((), own) = tokio::join!(others, own);
        parts.push((audit::own_id(&self.hub), own));
        silent.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        let (rows, next) = merged(parts, order, limit);
        let rows = rows.into_iter().map(|(node, row)| (names.of(node), row)).collect();
        Page { rows, next, silent }
    }

    /// What the first node that knows it says of something, and which one that is; or which did not answer.
    pub(super) async fn first_of_all(&self, question: &Question) -> Result<(String, Value), Vec<Silent>> {
        let asked = serde_json::to_vec(question).unwrap_or_default();
        let names = self.node_names();
        let (mut found, mut silent) = (None, Vec::new());
        let asking = self.hub.ask_nodes(&asked, |node, said| match said_json::<Option<Value>>(&said) {
            Ok(Some(known)) => {
                found = Some((names.of(node), known));
                ControlFlow::Break(())
            }
            Ok(None) => ControlFlow::Continue(()),
            Err(why) => {
                silent.push(Silent { node: names.of(node), why });
                ControlFlow::Continue(())
            }
        });
        asking.await;
        found.ok_or(silent)
    }
}

fn said_json<T: for<'de> Deserialize<'de>>(said: &NodeSaid) -> Result<T, String> {
    match said {
        NodeSaid::Answer(answer) => {
            serde_json::from_slice(answer).map_err(|_| "its answer is of another version".to_owned())
        }
        NodeSaid::Refused(why) => Err(why.to_string()),
        _ => Err("it did not answer within two seconds".to_owned()),
    }
}

fn said_part(said: &NodeSaid) -> Result<Part, String> {
    let part: Part = said_json(said)?;
    // The list would never come to an end behind it.
    if part.more && part.rows.is_empty() {
        return Err("a single row of it is longer than the bus carries".to_owned());
    }
    Ok(part)
}

/// The first rows of all parts, and the place behind which there are more. Behind the last row of a part that was not all, others
/// may be missing, so the page ends there.
fn merged(parts: Vec<(NodeId, Part)>, order: Order, limit: usize) -> (Vec<(NodeId, Row)>, Option<String>) {
    let before = |a: &str, b: &str| if order == Order::Rising { a < b } else { a > b };
    let last = |part: &Part| part.rows.last().filter(|_| part.more).map(|row| row.place.clone());
    let mut end: Option<String> = None;
    for place in parts.iter().filter_map(|(_, part)| last(part)) {
        if end.as_ref().is_none_or(|end| before(&place, end)) {
            end = Some(place);
        }
    }
    let rows = parts.into_iter().flat_map(|(node, part)| part.rows.into_iter().map(move |row| (node, row)));
    let mut rows: Vec<(NodeId, Row)> = rows.collect();
    let all = rows.len();
    rows.retain(|(_, row)| end.as_ref().is_none_or(|end| !before(end, &row.place)));
    rows.sort_unstable_by(|(_, a), (_, b)| match order {
        Order::Rising => a.place.cmp(&b.place),
        Order::Falling => b.place.cmp(&a.place),
    });
    rows.truncate(end_of_places(&rows, limit));
    let more = end.is_some() || rows.len() < all;
    let next = rows.last().filter(|_| more).map(|(_, row)| row.place.clone());
    (rows, next)
}

/// How many of the rows, which are in order, are at their first `limit` places.
fn end_of_places(rows: &[(NodeId, Row)], limit: usize) -> usize {
    rows.chunk_by(|(_, a), (_, b)| a.place == b.place).take(limit).map(<[_]>::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(places: &[&str], more: bool) -> (NodeId, Part) {
        let row = |place: &&str| Row { place: (*place).to_owned(), row: Value::from(*place) };
        (NodeId::new(), Part { rows: places.iter().map(row).collect(), more })
    }

    fn places(parts: Vec<(NodeId, Part)>, order: Order, limit: usize) -> (String, Option<String>) {
        let (rows, next) = merged(parts, order, limit);
        (rows.into_iter().map(|(_, row)| row.place).collect(), next)
    }

    #[test]
    fn page_ends_where_a_part_was_cut_and_nothing_is_left_out() {
        let next = |place: &str| Some(place.to_owned());
        let all = || vec![part(&["a", "d"], false), part(&["b", "c", "e"], false)];
        assert_eq!(places(all(), Order::Rising, 5), ("abcde".into(), None));
        assert_eq!(places(all(), Order::Rising, 3), ("abc".into(), next("c")));
        // What comes behind c on the second node may come before d.
        let cut = vec![part(&["a", "d"], false), part(&["b", "c"], true)];
        assert_eq!(places(cut, Order::Rising, 5), ("abc".into(), next("c")));
        let falling = vec![part(&["d", "a"], false), part(&["e", "c"], true)];
        assert_eq!(places(falling, Order::Falling, 5), ("edc".into(), next("c")));
        assert_eq!(places(vec![part(&[], false)], Order::Rising, 5), (String::new(), None));
    }

    #[test]
    fn rows_of_one_place_are_in_one_page() {
        let next = |place: &str| Some(place.to_owned());
        let all = || vec![part(&["a", "b"], false), part(&["a", "b", "c"], false), part(&["b"], false)];
        assert_eq!(places(all(), Order::Rising, 1), ("aa".into(), next("a")));
        assert_eq!(places(all(), Order::Rising, 2), ("aabbb".into(), next("b")));
        assert_eq!(places(all(), Order::Rising, 3), ("aabbbc".into(), None));
        let cut = vec![part(&["a", "b"], true), part(&["a", "b", "c"], false)];
        assert_eq!(places(cut, Order::Rising, 9), ("aabb".into(), next("b")));
    }

    #[test]
    fn part_is_cut_to_what_fits_and_says_so() {
        let (_, rows) = part(&["a", "b", "c"], false);
        let whole = rows.clone().cut(10_000);
        assert_eq!((whole.rows.len(), whole.more), (3, false));
        let cut = rows.clone().cut(120);
        assert_eq!((cut.rows.len(), cut.more), (2, true));
        assert!(serde_json::to_vec(&cut).is_ok_and(|json| json.len() <= 120));
        let nothing = NodeSaid::Answer(serde_json::to_vec(&rows.cut(10)).unwrap_or_default());
        assert!(said_part(&nothing).is_err(), "it would be asked for ever");
    }
}
