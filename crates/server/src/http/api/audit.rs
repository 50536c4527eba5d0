//! What operators did: one line in the log for each, and the last of them to be asked for.
//!
//! Beside [`key`](super::key)'s check, so that no route can be forgotten: whatever may change something is noted when it is answered,
//! by whom, from where and with what result. Who has shown nothing that is accepted is nobody, and cannot push out what others
//! did. Nor can users: what they did is kept apart from what operators did, and what they were refused is in the log only. Of a request's body only some [fields](DETAILS) are noted, none of which can be a secret or what somebody said.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::{Extension, Json};
use bytes::Bytes;
use outspoke_hub::bus::NodeId;
use outspoke_hub::{Hub, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};

use super::across::{Order, Part, Question, Row, Silent, with_nodes};
use super::error::{ApiError, Refused};
use super::history::timestamp;
use super::input::Query;
use super::key::Caller;
use super::{Api, BASE, TENANT};

/// Entries of operators, and as many of users, that are kept for [`list`].
const ENTRIES_MAX: usize = 1024;
/// Longest path and longest detail that are noted.
const TEXT_CHARS_MAX: usize = 200;
/// Bodies that are longer are not looked into.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Fields of bodies that are noted.
const DETAILS: [&str; 13] = [
    "room",
    "user",
    "client",
    "device",
    "reason",
    "reconnect",
    "seconds",
    "until",
    "directives",
    "permissions",
    "lasts",
    "by",
    "quotas",
];
/// What only looks and is noted nevertheless: it looks at people.
const LOOKS: [&str; 3] = ["/explain", "/follow", "/users/{user}/data"];
/// What applications do all the time, and is noted only if it is refused.
const DAILY: [&str; 4] =
    ["/publish", "/publish/batch", "/users/{user}/messages", "/clients/{client}/messages"];

/// What was done lately.
#[derive(Debug, Default)]
pub(crate) struct Audit(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    last: u64,
    of_operators: VecDeque<Entry>,
    of_users: VecDeque<Entry>,
}

/// Who makes a request, as it is noted.
#[derive(Debug)]
pub(super) struct Who {
    name: String,
    from: String,
    /// The only tenant that it can be about; `None`: the one that the request names.
    tenant: Option<String>,
    is_user: bool,
}

impl Who {
    pub(super) fn of(caller: &Caller, from: IpAddr) -> Self {
        Self {
            name: caller.name(),
            from: from.to_string(),
            tenant: caller.identity().map(|identity| identity.tenant.to_string()),
            is_user: caller.user().is_some(),
        }
    }
}

/// One thing that was done, or tried.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    number: u64,
    /// When, in milliseconds since 1970.
    #[serde(skip)]
    at_ms: i64,
    at: String,
    who: String,
    from: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tenant: String,
    action: String,
    target: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    details: Map<String, Value>,
    status: u16,
    result: String,
    took_ms: f64,
}

/// Where the reader of a request's body leaves what was in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Spoken(Arc<OnceLock<Bytes>>);

impl Spoken {
    /// Keeps a body to be looked into.
    pub(super) fn keep(&self, body: &Bytes) {
        if body.len() <= BODY_BYTES_MAX {
            let _ = self.0.set(body.clone());
        }
    }

    fn details(&self) -> Map<String, Value> {
        let body = self.0.get().and_then(|body| serde_json::from_slice(body).ok());
        let Some(Value::Object(fields)) = body else { return Map::new() };
        fields
            .into_iter()
            .filter(|(name, value)| DETAILS.contains(&name.as_str()) && !value.is_null())
            .map(|(name, value)| match value {
                Value::String(text) => (name, Value::String(short(&text))),
                value if value.to_string().len() > 2 * TEXT_CHARS_MAX => {
                    (name, Value::String("...".to_owned()))
                }
                value => (name, value),
            })
            .collect()
    }
}

/// A request that will be noted.
#[derive(Debug)]
pub(super) struct Pending {
    method: Method,
    matched: String,
    target: String,
    tenant: String,
    spoken: Spoken,
    began: Instant,
}

impl Pending {
    /// `None`: it need not be.
    pub(super) fn of(request: &mut Request) -> Option<Self> {
        let matched = request.extensions().get::<MatchedPath>()?.as_str();
        let matched = matched.strip_prefix(BASE).unwrap_or(matched).to_owned();
        let looks = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if looks && !LOOKS.contains(&matched.as_str()) {
            return None;
        }
        let tenant = request.headers().get(TENANT).and_then(|tenant| tenant.to_str().ok());
        let path = request.uri().path();
        let pending = Self {
            method: request.method().clone(),
            target: short(path.strip_prefix(BASE).unwrap_or(path)),
            tenant: short(tenant.unwrap_or_default()),
            matched,
            spoken: Spoken::default(),
            began: Instant::now(),
        };
        request.extensions_mut().insert(pending.spoken.clone());
        Some(pending)
    }

    /// It is answered.
    pub(super) fn done(self, audit: &Audit, who: Who, answer: (StatusCode, Option<&Refused>)) {
        let (status, refused) = answer;
        let daily = self.method == Method::POST && DAILY.contains(&self.matched.as_str());
        if daily && status.is_success() {
            return;
        }
        let result = match refused {
            Some(Refused(name)) => name.to_string(),
            None if status.is_success() => "done".to_owned(),
            None => "refused".to_owned(),
        };
        let place = match who.is_user {
            false => Some(Place::Operators),
            // Anybody can have a request refused, as often as anybody likes.
            true => status.is_success().then_some(Place::Users),
        };
        let now = Timestamp::from_system_time(std::time::SystemTime::now());
        let entry = Entry {
            number: 0,
            at_ms: now.as_millis(),
            at: timestamp(now),
            who: who.name,
            from: who.from,
            tenant: who.tenant.unwrap_or(self.tenant),
            action: format!("{} {}", self.method, self.matched),
            target: self.target,
            details: self.spoken.details(),
            status: status.as_u16(),
            result,
            took_ms: millis(self.began.elapsed()),
        };
        audit.note(entry, place);
    }
}

/// Where an entry is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Operators,
    Users,
}

impl Audit {
    /// Logs what was done, and keeps it if it has a place.
    fn note(&self, mut entry: Entry, place: Option<Place>) {
        let details = Value::Object(entry.details.clone());
        tracing::info!(
            target: "audit",
            who = entry.who,
            from = entry.from,
            tenant = entry.tenant,
            action = entry.action,
            path = entry.target,
            %details,
            status = entry.status,
            result = entry.result,
            took_ms = entry.took_ms,
            "an operator's request"
        );
        let Some(place) = place else { return };
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.last += 1;
        entry.number = entries.last;
        let kept = match place {
            Place::Operators => &mut entries.of_operators,
            Place::Users => &mut entries.of_users,
        };
        if kept.len() >= ENTRIES_MAX {
            kept.pop_front();
        }
        kept.push_back(entry);
    }
}

fn millis(took: Duration) -> f64 {
    (took.as_micros() as f64 / 10.0).round() / 100.0
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// A page of what was done.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    /// Each with its node.
    entries: Vec<Value>,
    /// What to give as `before` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Nodes whose entries are not among these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silent: Vec<Silent>,
}

/// On all nodes, the newest first. Who may see one tenant sees what was about it only.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Done>, ApiError> {
    query.only(&["before", "limit"])?;
    let before = query.text("before");
    if before.is_some_and(|before| !is_place(before)) {
        let message = "the parameter `before` must be what another page says as `next`";
        return Err(ApiError::bad_request(message));
    }
    let limit = query.limit()?;
    let only = caller.only_tenant_to_audit();
    let question =
        Question::Audit { tenant: only.map(str::to_owned), before: before.map(str::to_owned), limit };
    let own = std::future::ready(api.audit.page(own_id(&api.hub), only, before, limit));
    let page = api.page_of_all(&question, Order::Falling, limit, own).await;
    Ok(Json(Done { entries: with_nodes(page.rows), next: page.next, silent: page.silent }))
}

/// This life of this node, which its entries are known by among those of others.
pub(super) fn own_id(hub: &Hub) -> NodeId {
    hub.nodes()[0].id
}

impl Entry {
    /// Where it is in the order of time, among the entries of all nodes: fixed widths, so that it is the order of texts, too.
    fn place(&self, node: NodeId) -> String {
        format!("{:012x}.{:012x}.{node}", self.at_ms.max(0), self.number)
    }
}

/// Whether a text looks like an entry's place.
fn is_place(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    matches!(parts[..], [at, number, node] if at.len() == 12 && number.len() == 12 && node.len() == 36)
        && parts.into_iter().all(is_hex)
}

impl Audit {
    /// What this node has noted before a place, the newest first: about one tenant, or everything.
    pub(super) fn page(
        &self,
        node: NodeId,
        tenant: Option<&str>,
        before: Option<&str>,
        limit: usize,
    ) -> Part {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = entries.of_operators.iter().chain(&entries.of_users);
        let seen = all.filter(|entry| tenant.is_none_or(|tenant| entry.tenant == tenant));
        let placed = seen.map(|entry| (entry.place(node), entry));
        let mut older: Vec<(String, &Entry)> =
            placed.filter(|(place, _)| before.is_none_or(|before| place.as_str() < before)).collect();
        // Clocks are set back now and then: numbers alone are not the order of time.
        older.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        let more = older.len() > limit;
        older.truncate(limit);
        let row = |(place, entry)| Some(Row { place, row: serde_json::to_value(entry).ok()? });
        Part { rows: older.into_iter().filter_map(row).collect(), more }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What users say, and what opens doors, is not the log's.
    #[test]
    fn details_are_those_fields_that_are_nobodys_secret() {
        let spoken = Spoken::default();
        assert!(spoken.details().is_empty());
        let body = serde_json::json!({
            "user": "ana", "seconds": 5, "content": "psst", "data": { "user": "x" }, "key": "secret", "reason": "x".repeat(500),
            "device": null
        });
        spoken.keep(&Bytes::from(body.to_string()));
        let details = spoken.details();
        assert_eq!(details.keys().collect::<Vec<_>>(), ["reason", "seconds", "user"]);
        assert_eq!(details["reason"].as_str().unwrap().len(), TEXT_CHARS_MAX);
        let spoken = Spoken::default();
        spoken.keep(&Bytes::from(vec![b' '; BODY_BYTES_MAX + 1]));
        assert!(spoken.details().is_empty());
    }

    #[test]
    fn audit_keeps_the_last_entries_only() {
        let audit = Audit::default();
        for _ in 0..ENTRIES_MAX + 5 {
            let pending = Pending {
                method: Method::POST,
                matched: "/disconnect".into(),
                target: "/disconnect".into(),
                tenant: String::new(),
                spoken: Spoken::default(),
                began: Instant::now(),
            };
            let who = Who { name: "key:1".into(), from: "127.0.0.1".into(), tenant: None, is_user: false };
            pending.done(&audit, who, (StatusCode::OK, None));
        }
        let entries = audit.0.lock().unwrap();
        let kept = &entries.of_operators;
        assert_eq!((kept.len(), kept[0].number), (ENTRIES_MAX, 6));
        assert_eq!((&*kept[0].result, &*kept[0].action), ("done", "POST /disconnect"));
    }
}
