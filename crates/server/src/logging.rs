//! Log output on standard error: lines for people on a terminal, JSON otherwise.
//!
//! Set up once, after the configuration is read; level and format can be others later ([`Logging`]). Names and texts that clients chose reach the log; control characters
//! in them are escaped, so that nobody can forge a line or drive the reader's terminal. What is logged is decided
//! where it is logged: never payloads, never credentials.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::Subscriber;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::LogFormat;
use crate::config::settings::Log;

/// How log lines are written, once the terminal has been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Lines for people.
    Human {
        /// Whether a person reads them as they appear.
        terminal: bool,
        /// Whether ANSI colours are welcome.
        colour: bool,
    },
    /// One JSON object per line.
    Json,
}

impl Style {
    /// The style for standard error. Colour only on a terminal, and not if `NO_COLOR` is set or `TERM` is `dumb`.
    pub fn detect(format: LogFormat) -> Self {
        let terminal = io::stderr().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self::choose(format, terminal, !plain)
    }

    fn choose(format: LogFormat, terminal: bool, colour: bool) -> Self {
        match format {
            LogFormat::Json => Self::Json,
            LogFormat::Auto if !terminal => Self::Json,
            LogFormat::Auto | LogFormat::Human => Self::Human { terminal, colour: colour && terminal },
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The filter library takes a stricter view of `log.level` than the configuration did.
    #[error("log.level cannot be used; write a plain level such as info")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Logging is set up once per process.
    #[error("logging is already set up")]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
}

/// The log, for those who change it while it is written.
#[derive(Debug, Clone)]
pub struct Logging {
    human: Lines,
    json: Lines,
}

/// The lines of one style: those that its filter lets through. The style that is not written lets nothing through.
#[derive(Debug, Clone)]
struct Lines(reload::Handle<EnvFilter, Registry>);

/// A filter for each style.
#[derive(Debug)]
pub(crate) struct Filters {
    human: EnvFilter,
    json: EnvFilter,
}

impl Filters {
    fn new(style: Style, level: &str) -> Result<Self, LogError> {
        let wanted = EnvFilter::try_new(filter(level))?;
        let nothing = EnvFilter::try_new("off")?;
        Ok(match style {
            Style::Human { .. } => Self { human: wanted, json: nothing },
            Style::Json => Self { human: nothing, json: wanted },
        })
    }

    /// What the settings ask for.
    ///
    /// # Errors
    /// The level is none.
    pub(crate) fn of(settings: &Log) -> Result<Self, LogError> {
        Self::new(Style::detect(settings.format), &settings.level)
    }
}

impl Logging {
    /// Writes by other filters from now on, and gives back those before. Lines that are being written are not touched.
    pub(crate) fn swap(&self, Filters { human, json }: Filters) -> Filters {
        JSON.store(is_on(&json), Ordering::Relaxed);
        Filters { human: self.human.swap(human), json: self.json.swap(json) }
    }
}

impl Lines {
    fn swap(&self, mut filter: EnvFilter) -> EnvFilter {
        // It fails only if the subscriber has gone, which lives as long as the process.
        let _ = self.0.modify(|current| std::mem::swap(current, &mut filter));
        filter
    }
}

fn is_on(filter: &EnvFilter) -> bool {
    filter.max_level_hint() != Some(LevelFilter::OFF)
}

/// Whether panics are to be lines of JSON, too.
static JSON: AtomicBool = AtomicBool::new(false);

/// What else is told of events and spans.
pub(crate) type More = Box<dyn Layer<Registry> + Send + Sync>;

/// Sends log lines to standard error from now on. In JSON, panics become log lines too; for people, Rust's own
/// report with its line breaks reads better.
///
/// # Errors
/// [`LogError`], if called twice or with a level that is none.
pub(crate) fn init(settings: &Log, more: Option<More>) -> Result<(Style, Logging), LogError> {
    let style = Style::detect(settings.format);
    // Colour and clock are the terminal's, whichever style is written first.
    let (subscriber, logging) = subscriber(style, &settings.level, io::stderr, more)?;
    subscriber.try_init()?;
    JSON.store(style == Style::Json, Ordering::Relaxed);
    let for_people = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if JSON.load(Ordering::Relaxed) { log_panic(panic) } else { for_people(panic) }
    }));
    Ok((style, logging))
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(ToString::to_string);
    // Captured only if RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(panic = message, place, backtrace, "a task panicked; this is a bug");
}

fn subscriber<W>(
    style: Style,
    level: &str,
    writer: W,
    more: Option<More>,
) -> Result<(impl Subscriber + Send + Sync, Logging), LogError>
where
    W: for<'w> MakeWriter<'w> + Clone + Send + Sync + 'static,
{
    let Filters { human, json } = Filters::new(style, level)?;
    let ((human, human_lines), (json, json_lines)) = (reload::Layer::new(human), reload::Layer::new(json));
    let (terminal, colour) = match style {
        Style::Human { terminal, colour } => (terminal, colour),
        // Should people's lines be asked for later, they are for a file.
        Style::Json => (false, false),
    };
    let mut layers: Vec<More> = vec![
        Box::new(
            tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .with_writer(Printable(writer.clone()))
                .with_filter(json),
        ),
        Box::new(
            tracing_subscriber::fmt::layer()
                .with_timer(Clock { time_only: terminal })
                .fmt_fields(debug_fn(escaped_field).delimited(" "))
                .with_ansi(colour)
                .with_target(false)
                .with_writer(writer)
                .with_filter(human),
        ),
    ];
    layers.extend(more);
    let logging = Logging { human: Lines(human_lines), json: Lines(json_lines) };
    Ok((Registry::default().with(layers), logging))
}

/// A writer of JSON in which nothing but printable characters is written as it is: JSON itself escapes the first 32 only.
#[derive(Clone)]
struct Printable<M>(M);

impl<'w, M: MakeWriter<'w>> MakeWriter<'w> for Printable<M> {
    type Writer = Printable<M::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Printable(self.0.make_writer())
    }
}

impl<W: io::Write> io::Write for Printable<W> {
    /// An event comes in one piece, in which only strings can have such characters.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let unprintable = |c: char| is_unprintable(c) && c != '\n';
        match std::str::from_utf8(bytes) {
            Ok(text) if text.contains(unprintable) => {
                let mut escaped = String::with_capacity(bytes.len() + 16);
                for c in text.chars() {
                    match unprintable(c) {
                        // None of them is beyond the first plane.
                        true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
                        false => escaped.push(c),
                    }
                }
                self.0.write_all(escaped.as_bytes())?;
            }
            _ => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Libraries that tell of their daily work at `info`; their warnings are enough, unless `log.level` names them. And spans that are
/// for traces.
const TALKATIVE: &str = "fjall=warn,lsm_tree=warn,outspoke_trace=off";

fn filter(level: &str) -> String {
    match level.split(',').next() {
        // What comes later wins, and so does whatever the operator wrote.
        Some("info" | "debug" | "trace") => format!("{TALKATIVE},{level}"),
        _ => level.to_owned(),
    }
}

/// Local time of day on a terminal, a full UTC timestamp elsewhere.
struct Clock {
    time_only: bool,
}

impl FormatTime for Clock {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        if self.time_only {
            write!(w, "{}", jiff::Zoned::now().strftime("%H:%M:%S%.3f"))
        } else {
            write!(w, "{:.3}", jiff::Timestamp::now())
        }
    }
}

fn escaped_field(w: &mut Writer<'_>, field: &tracing::field::Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(Escape(w), "{value:?}"),
        name => write!(Escape(w), "{name}={value:?}"),
    }
}

/// Escapes what could end a line, move a cursor or reorder text.
struct Escape<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Escape<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_unprintable) {
            let (clean, tail) = rest.split_at(at);
            self.0.write_str(clean)?;
            let mut chars = tail.chars();
            if let Some(c) = chars.next() {
                write!(self.0, "{}", c.escape_default())?;
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Control characters, line separators, and the marks that change the direction of text.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(style: Style, level: &str, act: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let (subscriber, _) = subscriber(style, level, move || writer.clone(), None).unwrap();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// Level and format change between two lines, and back.
    #[test]
    fn other_filters_count_from_the_next_line_on() {
        let captured = Captured::default();
        let writer = captured.clone();
        let (subscriber, logging) = subscriber(HUMAN, "info", move || writer.clone(), None).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let say = |what: &str| {
                tracing::debug!("debug {what}");
                tracing::info!("info {what}");
            };
            say("one");
            let before = logging.swap(Filters::new(HUMAN, "debug").unwrap());
            say("two");
            logging.swap(before);
            say("three");
            logging.swap(Filters::new(Style::Json, "debug").unwrap());
            say("four");
            logging.swap(Filters::new(HUMAN, "off").unwrap());
            say("five");
        });
        let bytes = captured.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6, "{text}");
        assert!(lines[0].ends_with("INFO info one") && lines[1].ends_with("DEBUG debug two"), "{text}");
        assert!(lines[2].ends_with("INFO info two") && lines[3].ends_with("INFO info three"), "{text}");
        for (line, message) in [(lines[4], "debug four"), (lines[5], "info four")] {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(event["message"], message);
        }
    }

    const HUMAN: Style = Style::Human { terminal: false, colour: false };
    const HOSTILE: &str = "eve\n2026-01-01 ERROR forged\x1b[2J\u{9b}31m\u{202e}\r\x07";

    #[test]
    fn storage_engine_is_quiet_unless_it_is_named_or_in_trouble() {
        let logged = |level: &str| {
            logged(HUMAN, level, || {
                tracing::info!(target: "fjall::db", "routine");
                tracing::warn!(target: "lsm_tree::tree", "trouble");
                tracing::info!("ours");
            })
        };
        let has = |text: &str| ["routine", "trouble", "ours"].map(|word| text.contains(word));
        assert_eq!(has(&logged("info")), [false, true, true]);
        assert_eq!(has(&logged("debug")), [false, true, true]);
        assert_eq!(has(&logged("info,fjall=info")), [true, true, true]);
        assert_eq!(has(&logged("error")), [false, false, false]);
        assert_eq!(has(&logged("off")), [false, false, false]);
    }

    /// A client's name may neither start a new line nor reach the terminal as a control sequence.
    #[test]
    fn human_log_escapes_control_characters_in_every_position() {
        let text = logged(HUMAN, "info", || {
            let span = tracing::info_span!("client", name = %HOSTILE);
            let _entered = span.enter();
            tracing::info!(user = %HOSTILE, quoted = HOSTILE, debug = ?HOSTILE, "hello {HOSTILE}");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.trim_end_matches('\n').chars().all(|c| !is_unprintable(c)), "{text:?}");
        assert!(
            text.contains(r"hello eve\n2026-01-01 ERROR forged\u{1b}[2J\u{9b}31m\u{202e}\r\u{7}"),
            "{text}"
        );
    }

    #[test]
    fn json_log_is_one_object_per_line_whatever_the_name() {
        let text = logged(Style::Json, "info", || tracing::info!(user = %HOSTILE, count = 3, "hello"));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.trim_end_matches('\n').chars().all(|c| !is_unprintable(c)), "{text:?}");
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["message"], "hello");
        assert_eq!(event["count"], 3);
        assert_eq!(event["user"], HOSTILE);
        assert_eq!(event["level"], "INFO");
    }

    #[test]
    fn log_level_and_its_exceptions_filter() {
        let act = || {
            tracing::debug!("hidden");
            tracing::debug!(target: "outspoke_hub", "shown");
        };
        let text = logged(HUMAN, "info,outspoke_hub=debug", act);
        assert!(text.contains("shown") && !text.contains("hidden"), "{text}");
        assert_eq!(logged(HUMAN, "off", || tracing::error!("x")), "");
    }

    #[test]
    fn log_style_follows_terminal_and_no_color() {
        let human = |terminal, colour| Style::Human { terminal, colour };
        assert_eq!(Style::choose(LogFormat::Auto, true, true), human(true, true));
        assert_eq!(Style::choose(LogFormat::Auto, true, false), human(true, false));
        assert_eq!(Style::choose(LogFormat::Auto, false, true), Style::Json);
        assert_eq!(Style::choose(LogFormat::Human, false, true), human(false, false));
        assert_eq!(Style::choose(LogFormat::Json, true, true), Style::Json);
    }

    #[test]
    fn log_without_colour_has_no_escape_sequences() {
        let text = logged(HUMAN, "info", || tracing::warn!(a = 1, "plain"));
        assert!(!text.contains('\x1b'), "{text:?}");
        let coloured = Style::Human { terminal: true, colour: true };
        assert!(logged(coloured, "info", || tracing::warn!("colour")).contains('\x1b'));
    }
}
