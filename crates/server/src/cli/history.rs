//! `outspoke history`: what was said in a room, page by page.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::ansi::Colors;
use super::api::{Api, ApiError, encoded};
use super::output::{Screen, print, print_json, say};
use super::reach::ReachArgs;
use super::render::{Form, raw};

/// Messages asked for at once.
const PAGE: u64 = 1000;

/// What to read.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// The room
    room: String,

    /// The newest so many messages [default: 20]
    #[arg(long, value_name = "N", conflicts_with = "after")]
    last: Option<u64>,

    /// Only messages before this offset
    #[arg(long, value_name = "OFFSET")]
    before: Option<u64>,

    /// All messages after this offset
    #[arg(long, value_name = "OFFSET")]
    after: Option<u64>,

    /// Print JSON lines
    #[arg(long)]
    json: bool,

    /// Print what was said and nothing else
    #[arg(long, conflicts_with = "json")]
    raw: bool,

    #[command(flatten)]
    reach: ReachArgs,
}

/// A page of the log.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    /// The oldest that is kept.
    first: u64,
    messages: Vec<Value>,
    more: bool,
}

/// Says how many messages are gone that were asked for.
pub(super) fn not_kept(missed: u64) -> String {
    match missed {
        1 => "1 message is not kept any more".to_owned(),
        missed => format!("{missed} messages are not kept any more"),
    }
}

/// The newest `last` messages, of those before an offset if there is one; as many as there are. And the offset of the oldest
/// that is kept.
pub(super) fn newest(
    api: &Api,
    room: &str,
    before: Option<u64>,
    last: u64,
    enough: impl Fn(&Value) -> bool,
) -> Result<(Vec<Value>, u64), ApiError> {
    let (mut before, mut pages, mut first) = (before, Vec::new(), 0);
    let mut left = last;
    while left > 0 {
        let bound = before.map(|before| format!("&before={before}")).unwrap_or_default();
        let path = format!("/rooms/{}/history?limit={}{bound}", encoded(room), left.min(PAGE));
        let mut page: Page = api.get(&path)?;
        first = page.first;
        let unwanted = page.messages.iter().rposition(&enough).map_or(0, |at| at + 1);
        page.messages.drain(..unwanted);
        left = left.saturating_sub(page.messages.len() as u64);
        before = page.messages.first().and_then(|first| first["offset"].as_u64());
        let ended = !page.more || unwanted > 0 || before.is_none();
        pages.push(page.messages);
        if ended {
            break;
        }
    }
    Ok((pages.into_iter().rev().flatten().collect(), first))
}

pub(super) fn run(args: &HistoryArgs) -> anyhow::Result<()> {
    let api = Api::of(&args.reach)?;
    let Some(mut after) = args.after else {
        let (messages, first) = newest(&api, &args.room, args.before, args.last.unwrap_or(20), |_| false)?;
        if let Some(last) = args.last {
            tell_missed(args, last.saturating_sub(messages.len() as u64), first, 0);
        }
        return show(args, &messages);
    };
    loop {
        let bound = args.before.map(|before| format!("&before={before}")).unwrap_or_default();
        let path = format!("/rooms/{}/history?limit={PAGE}&after={after}{bound}", encoded(&args.room));
        let page: Page = api.get(&path)?;
        tell_missed(args, u64::MAX, page.first, after);
        show(args, &page.messages)?;
        match page.messages.last().and_then(|last| last["offset"].as_u64()) {
            Some(offset) if page.more => after = offset,
            _ => return Ok(()),
        }
    }
}

/// Says how many messages behind `after` are asked for and gone, `wanted` at most, where `first` is the oldest that is kept.
fn tell_missed(args: &HistoryArgs, wanted: u64, first: u64, after: u64) {
    let end = args.before.map_or(first, |before| before.min(first));
    let missed = wanted.min(end.saturating_sub(after + 1));
    if missed > 0 {
        say(&format!("outspoke: {:?}: {}", args.room, not_kept(missed)));
    }
}

fn show(args: &HistoryArgs, messages: &[Value]) -> anyhow::Result<()> {
    if args.json {
        return print_json(messages);
    }
    let screen = Screen::detect();
    let colors = if screen.color { Colors::Keep } else { Colors::Strip };
    let form = Form { screen, rooms: false, colors };
    print(
        &messages
            .iter()
            .map(|message| if args.raw { raw(message) } else { form.line(message) })
            .collect::<String>(),
    )
}
