//! `outspoke top`: the nodes, the busiest rooms and the slowest clients, anew every few seconds.
//!
//! Figures are the API's; rates are how far rooms have come between two looks. Looking happens in a thread of its own, so that
//! keys work also while the server is slow to answer, and what was seen last stays on the screen while it is away. What others
//! named is cleaned before it is drawn.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Row, Table};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Api, ApiError, encoded};
use super::healthcheck::timeout;
use super::output::{clean, columns, print, print_json, span};
use super::reach::ReachArgs;

/// Rooms and clients that are looked at: the first of so many.
const SEEN_MAX: usize = 5000;
/// Asked for at once.
const PAGE: usize = 1000;
/// How long keys are waited for between two drawings.
const TICK: Duration = Duration::from_millis(100);

/// How to look.
#[derive(Debug, Args)]
pub(super) struct TopArgs {
    /// Look so often
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = timeout)]
    interval: Duration,

    /// Look twice, print what there is to see, and end
    #[arg(long)]
    once: bool,

    /// Print JSON
    #[arg(long, requires = "once")]
    json: bool,

    /// What comes first
    #[arg(long, value_name = "ORDER", default_value = "rate")]
    sort: Sort,

    #[command(flatten)]
    reach: ReachArgs,
}

/// Which rooms come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    /// Those with the most messages a second.
    Rate,
    /// Those with the most members.
    Members,
    /// Those with the most messages.
    Messages,
    /// By name.
    Name,
}

impl Sort {
    const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Members => "members",
            Self::Messages => "messages",
            Self::Name => "name",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Rate => Self::Members,
            Self::Members => Self::Messages,
            Self::Messages => Self::Name,
            Self::Name => Self::Rate,
        }
    }
}

/// There is no terminal to draw on.
#[derive(Debug, thiserror::Error)]
#[error("standard output is no terminal")]
pub struct NoTerminal;

impl NoTerminal {
    /// What to do about it.
    pub const HINT: &'static str = "use --once, with --json for programs";
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    name: String,
    draining: bool,
    silent: bool,
    connections: u64,
    rooms: u64,
    uptime_seconds: u64,
    version: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Room {
    room: String,
    members: u64,
    durability: String,
    epoch: String,
    head: u64,
    /// Messages per second since the look before.
    #[serde(skip)]
    rate: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    client_id: String,
    user_id: String,
    connected_seconds: u64,
    queued_bytes: u64,
}

/// What there was to see.
#[derive(Clone, Debug)]
struct Figures {
    at: Instant,
    nodes: Vec<Node>,
    rooms: Vec<Room>,
    /// Those for whom something waits, the most first; of the node that answers.
    slow: Vec<Client>,
}

#[derive(Debug, Deserialize)]
struct Nodes {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct List<T> {
    #[serde(alias = "rooms", alias = "clients")]
    items: Vec<T>,
    next: Option<String>,
}

/// The first pages of a list.
fn list<T: serde::de::DeserializeOwned>(api: &Api, path: &str) -> Result<Vec<T>, ApiError> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page: List<T> = api.get(&format!("{path}?limit={PAGE}{after}"))?;
        all.extend(page.items);
        match page.next {
            Some(next) if all.len() < SEEN_MAX => after = format!("&after={}", encoded(&next)),
            _ => return Ok(all),
        }
    }
}

impl Figures {
    fn look(api: &Api, before: Option<&Self>) -> Result<Self, ApiError> {
        let Nodes { nodes } = api.get("/nodes")?;
        let mut rooms: Vec<Room> = list(api, "/rooms")?;
        let mut slow: Vec<Client> = list(api, "/clients")?;
        slow.retain(|client| client.queued_bytes > 0);
        slow.sort_by_key(|client| std::cmp::Reverse(client.queued_bytes));
        let at = Instant::now();
        if let Some(before) = before {
            let elapsed = at.duration_since(before.at).as_secs_f64().max(0.001);
            let known: HashMap<_, _> = before.rooms.iter().map(|room| (room.room.as_str(), room)).collect();
            for room in &mut rooms {
                // A room that was not there has said all it has since.
                let from = known.get(room.room.as_str()).filter(|known| known.epoch == room.epoch);
                let said = room.head.saturating_sub(from.map_or(0, |known| known.head));
                #[allow(clippy::cast_precision_loss)] // Nobody reads the fifteenth digit of a rate.
                let said = said as f64;
                room.rate = said / elapsed;
            }
        }
        Ok(Self { at, nodes, rooms, slow })
    }

    fn sort(&mut self, by: Sort) {
        self.rooms.sort_by(|a, b| {
            let order = match by {
                Sort::Rate => b.rate.total_cmp(&a.rate),
                Sort::Members => b.members.cmp(&a.members),
                Sort::Messages => b.head.cmp(&a.head),
                Sort::Name => std::cmp::Ordering::Equal,
            };
            order.then_with(|| a.room.cmp(&b.room))
        });
    }

    fn rate(&self) -> f64 {
        self.rooms.iter().map(|room| room.rate).sum()
    }

    fn node_rows(&self) -> Vec<Vec<String>> {
        let row = |node: &Node| {
            let state = if node.silent {
                "silent"
            } else if node.draining {
                "draining"
            } else {
                "serving"
            };
            let (connections, rooms) = (node.connections.to_string(), node.rooms.to_string());
            vec![
                node.name.clone(),
                state.to_owned(),
                connections,
                rooms,
                span(node.uptime_seconds),
                node.version.clone(),
            ]
        };
        self.nodes.iter().map(row).collect()
    }

    fn room_rows(&self) -> Vec<Vec<String>> {
        let row = |room: &Room| {
            let rate = format!("{:.1}", room.rate);
            vec![
                room.room.clone(),
                rate,
                room.members.to_string(),
                room.head.to_string(),
                room.durability.clone(),
            ]
        };
        self.rooms.iter().map(row).collect()
    }

    fn slow_rows(&self) -> Vec<Vec<String>> {
        let row = |client: &Client| {
            let waits = client.queued_bytes.to_string();
            vec![client.user_id.clone(), waits, span(client.connected_seconds), client.client_id.clone()]
        };
        self.slow.iter().map(row).collect()
    }

    fn json(&self) -> Value {
        let node = |node: &Node| {
            json!({ "name": node.name, "draining": node.draining, "silent": node.silent, "connections": node.connections,
                    "rooms": node.rooms, "uptimeSeconds": node.uptime_seconds, "version": node.version })
        };
        let room = |room: &Room| {
            json!({ "room": room.room, "messagesPerSecond": room.rate, "members": room.members, "head": room.head,
                    "durability": room.durability })
        };
        let client = |client: &Client| {
            json!({ "clientId": client.client_id, "userId": client.user_id, "queuedBytes": client.queued_bytes,
                    "connectedSeconds": client.connected_seconds })
        };
        json!({
            "messagesPerSecond": self.rate(),
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
            "rooms": self.rooms.iter().map(room).collect::<Vec<_>>(),
            "slowClients": self.slow.iter().map(client).collect::<Vec<_>>(),
        })
    }
}

const NODES: [&str; 6] = ["NODE", "STATE", "CONNECTIONS", "ROOMS", "UP", "VERSION"];
const ROOMS: [&str; 5] = ["ROOM", "MESSAGES/S", "MEMBERS", "MESSAGES", "KEPT"];
const SLOW: [&str; 4] = ["SLOW CLIENT OF", "BYTES WAIT", "CONNECTED", "ID"];

pub(super) fn run(args: &TopArgs) -> anyhow::Result<()> {
    let api = Api::of(&args.reach)?;
    let first = Figures::look(&api, None)?;
    if args.once {
        return once(args, &api, &first);
    }
    if !io::stdout().is_terminal() {
        return Err(NoTerminal.into());
    }
    let mut view = View { origin: api.origin(), sort: args.sort, figures: first.clone(), trouble: None };
    let (seen, news) = mpsc::sync_channel(1);
    let interval = args.interval;
    // Ends with the process, or when nobody looks any more.
    thread::spawn(move || {
        let mut last = first;
        loop {
            thread::sleep(interval);
            let figures = Figures::look(&api, Some(&last));
            if let Ok(figures) = &figures {
                last.clone_from(figures);
            }
            if seen.send(figures).is_err() {
                return;
            }
        }
    });
    let mut terminal = ratatui::try_init()?;
    let ended = watch(&mut view, &news, |view| terminal.draw(|frame| view.draw(frame)).map(drop));
    ratatui::restore();
    ended
}

fn once(args: &TopArgs, api: &Api, first: &Figures) -> anyhow::Result<()> {
    thread::sleep(args.interval);
    let mut figures = Figures::look(api, Some(first))?;
    figures.sort(args.sort);
    if args.json {
        return print_json([&figures.json()]);
    }
    let mut text = columns(&NODES, figures.node_rows());
    text.push('\n');
    text.push_str(&columns(&ROOMS, figures.room_rows()));
    if !figures.slow.is_empty() {
        text.push('\n');
        text.push_str(&columns(&SLOW, figures.slow_rows()));
    }
    print(&text)
}

/// Draws and obeys keys, until one says that it is enough.
fn watch(
    view: &mut View,
    news: &mpsc::Receiver<Result<Figures, ApiError>>,
    mut draw: impl FnMut(&mut View) -> io::Result<()>,
) -> anyhow::Result<()> {
    loop {
        draw(view)?;
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) if view.obeys(key) => return Ok(()),
                _ => {}
            }
        }
        match news.recv_timeout(TICK) {
            Ok(Ok(figures)) => (view.figures, view.trouble) = (figures, None),
            Ok(Err(error)) => view.trouble = Some(error.to_string()),
            Err(RecvTimeoutError::Timeout) => {}
            // The thread ends only with the process.
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// What is on the screen.
#[derive(Debug)]
struct View {
    origin: String,
    sort: Sort,
    figures: Figures,
    /// Why there is nothing newer.
    trouble: Option<String>,
}

impl View {
    /// Does what a key says; whether that is to end.
    fn obeys(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return false;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        self.sort = match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') if control => return true,
            KeyCode::Char('s') => self.sort.next(),
            KeyCode::Char('r') => Sort::Rate,
            KeyCode::Char('m') => Sort::Members,
            KeyCode::Char('t') => Sort::Messages,
            KeyCode::Char('n') => Sort::Name,
            _ => self.sort,
        };
        false
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        self.figures.sort(self.sort);
        let figures = &self.figures;
        let tall = |rows: usize, max: u16| u16::try_from(rows + 2).unwrap_or(max).min(max);
        let parts = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(tall(figures.nodes.len(), 10)),
            Constraint::Min(3),
            Constraint::Length(if figures.slow.is_empty() { 0 } else { tall(figures.slow.len(), 8) }),
            Constraint::Length(1),
        ])
        .split(frame.area());
        frame.render_widget(Line::from(self.title()), parts[0]);
        let widths = [
            Constraint::Fill(2),
            Constraint::Fill(1),
            Constraint::Fill(1),
            Constraint::Fill(1),
            Constraint::Fill(1),
            Constraint::Fill(1),
        ];
        frame.render_widget(table(&NODES, figures.node_rows(), &widths), parts[1]);
        frame.render_widget(table(&ROOMS, figures.room_rows(), &widths[..5]), parts[2]);
        frame.render_widget(table(&SLOW, figures.slow_rows(), &widths[..4]), parts[3]);
        let keys = "q quit   s sort: r rate, m members, t messages, n name";
        frame.render_widget(Line::from(keys).style(Style::new().add_modifier(Modifier::DIM)), parts[4]);
    }

    fn title(&self) -> String {
        let figures = &self.figures;
        let connections: u64 = figures.nodes.iter().map(|node| node.connections).sum();
        let state = match &self.trouble {
            Some(trouble) => format!("{}; seen {} s ago", clean(trouble), figures.at.elapsed().as_secs()),
            None => format!("sorted by {}", self.sort.name()),
        };
        let (rooms, rate) = (figures.rooms.len(), figures.rate());
        format!(
            "{}: {connections} connections, {rooms} rooms, {rate:.1} messages/s; {state}",
            clean(&self.origin)
        )
    }
}

fn table<'a>(headings: &[&'a str], rows: Vec<Vec<String>>, widths: &'a [Constraint]) -> Table<'a> {
    let row = |cells: Vec<String>| Row::new(cells.into_iter().map(|cell| clean(&cell).into_owned()));
    let header = Row::new(headings.to_vec()).style(Style::new().add_modifier(Modifier::BOLD));
    Table::new(rows.into_iter().map(row), widths.iter().copied()).header(header)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn view() -> View {
        let room = |name: &str, rate: f64, members: u64| Room {
            room: name.to_owned(),
            members,
            durability: "stored".to_owned(),
            epoch: "e".to_owned(),
            head: 7,
            rate,
        };
        let node = Node {
            name: "hub-1".to_owned(),
            draining: false,
            silent: false,
            connections: 3,
            rooms: 2,
            uptime_seconds: 3700,
            version: "1".to_owned(),
        };
        let slow = Client {
            client_id: "id".to_owned(),
            user_id: "snail".to_owned(),
            connected_seconds: 5,
            queued_bytes: 4711,
        };
        let rooms = vec![room("quiet", 0.0, 9), room("busy\x1b[2J", 12.5, 1)];
        let figures = Figures { at: Instant::now(), nodes: vec![node], rooms, slow: vec![slow] };
        View { origin: "http://hub:1".to_owned(), sort: Sort::Rate, figures, trouble: None }
    }

    fn screen(view: &mut View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let line =
            |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    fn row_of(screen: &[String], name: &str) -> usize {
        screen.iter().position(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {screen:#?}"))
    }

    #[test]
    fn screen_shows_nodes_rooms_by_rate_and_slow_clients() {
        let mut view = view();
        let seen = screen(&mut view, 100, 20);
        assert_eq!(seen[0], "http://hub:1: 3 connections, 2 rooms, 12.5 messages/s; sorted by rate");
        assert!(seen[row_of(&seen, "hub-1")].contains("serving"), "{seen:#?}");
        assert!(row_of(&seen, "busy\\u{1b}[2J") < row_of(&seen, "quiet"), "{seen:#?}");
        assert!(seen[row_of(&seen, "snail")].contains("4711"), "{seen:#?}");
    }

    #[test]
    fn keys_sort_and_quit() {
        let mut view = view();
        let key = |code: char| KeyEvent::new(KeyCode::Char(code), KeyModifiers::NONE);
        assert!(!view.obeys(key('m')));
        let seen = screen(&mut view, 100, 20);
        assert!(row_of(&seen, "quiet") < row_of(&seen, "busy"), "{seen:#?}");
        for wanted in [Sort::Messages, Sort::Name, Sort::Rate] {
            assert!(!view.obeys(key('s')));
            assert_eq!(view.sort, wanted);
        }
        assert!(view.obeys(key('q')));
        assert!(view.obeys(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!view.obeys(key('c')));
    }

    /// A terminal of one line, or with a server that is away, is no reason to fall over.
    #[test]
    fn screen_of_any_size_shows_what_was_seen_last() {
        let mut view = view();
        view.trouble = Some("cannot reach hub:1".to_owned());
        for (width, height) in [(1, 1), (20, 3), (300, 100)] {
            screen(&mut view, width, height);
        }
        assert!(screen(&mut view, 100, 20)[0].contains("cannot reach hub:1; seen 0 s ago"));
    }
}
