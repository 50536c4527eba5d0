//! `outspoke rooms`, `presence` and `kick`: which rooms there are, who is in them, and away with somebody.

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Api, encoded};
use super::output::{Screen, columns, count, print, print_json};
use super::reach::ReachArgs;

/// Entries asked for at once.
const PAGE: usize = 1000;

/// Which rooms to list.
#[derive(Debug, Args)]
pub(super) struct RoomsArgs {
    /// Only rooms whose names begin so
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,

    /// Print JSON lines
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    reach: ReachArgs,
}

/// Whose members to list.
#[derive(Debug, Args)]
pub(super) struct PresenceArgs {
    /// The room
    room: String,

    /// Print JSON lines
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    reach: ReachArgs,
}

/// Whom to send away.
#[derive(Debug, Args)]
pub(super) struct KickArgs {
    /// The user's id
    user: String,

    /// Only out of this room [default: disconnect the user]
    #[arg(long)]
    room: Option<String>,

    /// How long to keep the user out of the room, at least 5
    #[arg(long, value_name = "N", requires = "room", default_value = "300",
          value_parser = clap::value_parser!(u32).range(5..=31_536_000))]
    seconds: u32,

    /// Disconnect only this of the user's devices
    #[arg(long, conflicts_with = "room")]
    device: Option<String>,

    /// What the close frame says
    #[arg(long, conflicts_with = "room")]
    reason: Option<String>,

    /// Let clients come back at once
    #[arg(long, conflicts_with = "room")]
    reconnect: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    reach: ReachArgs,
}

#[derive(Debug, Deserialize)]
struct Room {
    room: String,
    members: u64,
    class: String,
    durability: String,
    first: u64,
    head: u64,
}

/// Calls back with each page of a list, until the last.
fn pages(
    api: &Api,
    path: &str,
    field: &str,
    mut each: impl FnMut(&Value, Vec<Value>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut after = String::new();
    loop {
        let glue = if path.contains('?') { '&' } else { '?' };
        let mut page: Value = api.get(&format!("{path}{glue}limit={PAGE}{after}"))?;
        let items = match page[field].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        each(&page, items)?;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", encoded(next)),
            None => return Ok(()),
        }
    }
}

pub(super) fn rooms(args: &RoomsArgs) -> anyhow::Result<()> {
    let api = Api::of(&args.reach)?;
    let prefix =
        args.prefix.as_ref().map(|prefix| format!("?prefix={}", encoded(prefix))).unwrap_or_default();
    let mut rows = Vec::new();
    pages(&api, &format!("/rooms{prefix}"), "rooms", |_, rooms| {
        if args.json {
            return print_json(&rooms);
        }
        for room in rooms {
            rows.push(serde_json::from_value::<Room>(room)?.row());
        }
        Ok(())
    })?;
    if args.json { Ok(()) } else { print(&columns(&["ROOM", "MEMBERS", "MESSAGES", "KEPT", "CLASS"], rows)) }
}

impl Room {
    fn row(self) -> Vec<String> {
        let kept = (self.head + 1).saturating_sub(self.first);
        let messages = if self.durability == "none" { "-".to_owned() } else { kept.to_string() };
        vec![self.room, self.members.to_string(), messages, self.durability, self.class]
    }
}

pub(super) fn presence(args: &PresenceArgs) -> anyhow::Result<()> {
    let api = Api::of(&args.reach)?;
    let screen = Screen::detect();
    let (mut rows, mut users, mut members) = (Vec::new(), 0, 0);
    pages(&api, &format!("/rooms/{}/presence", encoded(&args.room)), "users", |page, items| {
        (users, members) = (page["userCount"].as_u64().unwrap_or(0), page["members"].as_u64().unwrap_or(0));
        if args.json {
            return print_json(&items);
        }
        rows.extend(items.iter().map(|user| member(screen, user)));
        Ok(())
    })?;
    if args.json {
        return Ok(());
    }
    let table = columns(&["USER", "NAME", "STATE", "SINCE", "DEVICES"], rows);
    print(&format!("{table}{}, {}\n", count(users, "user"), count(members, "connection")))
}

fn member(screen: Screen, user: &Value) -> Vec<String> {
    let text = |field: &str| user[field].as_str().unwrap_or_default().to_owned();
    let devices = user["devices"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named: Vec<_> = devices.iter().filter_map(|device| device["device"].as_str()).collect();
    let unnamed = devices.len() - named.len();
    let mut all: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
    if unnamed > 0 {
        all.push(format!("{unnamed} unnamed"));
    }
    vec![
        text("userId"),
        text("username"),
        if user["online"] == false { "away".to_owned() } else { "online".to_owned() },
        screen.time(&text("since")),
        all.join(", "),
    ]
}

pub(super) fn kick(args: &KickArgs) -> anyhow::Result<()> {
    let api = Api::of(&args.reach)?;
    let (answer, text): (Value, _) = match &args.room {
        Some(room) => {
            let path = format!("/rooms/{}/members/{}/remove", encoded(room), encoded(&args.user));
            let answer: Value = api.post(&path, &json!({ "seconds": args.seconds }))?;
            let (user, seconds) = (&args.user, args.seconds);
            (answer, format!("ok: {user:?} is out of {room:?} and kept out for {seconds} s\n"))
        }
        None => {
            let mut order = json!({ "user": args.user, "reconnect": args.reconnect });
            for (field, value) in [("device", &args.device), ("reason", &args.reason)] {
                if let Some(value) = value {
                    order[field] = value.as_str().into();
                }
            }
            let answer: Value = api.post("/disconnect", &order)?;
            let ended = count(answer["disconnected"].as_u64().unwrap_or(0), "connection");
            (answer, format!("ok: {ended} of {:?} ended\n", args.user))
        }
    };
    if args.json { print_json([&answer]) } else { print(&text) }
}
