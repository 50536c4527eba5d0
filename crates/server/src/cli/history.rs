//! `outspoke history`: what was said in a room, page by page.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::ansi::Colors;
use super::api::{Api, ApiError, encoded};
use super::output::{Screen, print, print_json};
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
    pub(super) messages: Vec<Value>,
    more: bool,
}

/// The newest `last` messages, of those before an offset if there is one; as many as there are.
pub(super) fn newest(
    api: &Api,
    room: &str,
    before: Option<u64>,
    last: u64,
    enough: impl Fn(&Value) -> bool,
) -> Result<Vec<Value>, ApiError> {
    let (mut before, mut pages) = (before, Vec::new());
    let mut left = last;
    while left > 0 {
        let bound = before.map(|before| format!("&before={before}")).unwrap_or_default();
        let path = format!("/rooms/{}/history?limit={}{bound}", encoded(room), left.min(PAGE));
        let mut page: Page = api.get(&path)?;
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
    Ok(pages.into_iter().rev().flatten().collect())
}

pub(super) fn run(args: &HistoryArgs) -> anyhow::Result<()> {
    let api = Api::of(&args.reach)?;
    let Some(mut after) = args.after else {
        return show(args, &newest(&api, &args.room, args.before, args.last.unwrap_or(20), |_| false)?);
    };
    loop {
        let bound = args.before.map(|before| format!("&before={before}")).unwrap_or_default();
        let path = format!("/rooms/{}/history?limit={PAGE}&after={after}{bound}", encoded(&args.room));
        let page: Page = api.get(&path)?;
        show(args, &page.messages)?;
        match page.messages.last().and_then(|last| last["offset"].as_u64()) {
            Some(offset) if page.more => after = offset,
            _ => return Ok(()),
        }
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
