//! `outspoke store`: look after what is kept, while no server runs on it.
//!
//! Opens the stores that `serve` would open with the same settings. An embedded store has one process at a time, so
//! with a running server on its folder every verb is refused; the databases take both. Results go to standard output,
//! progress to standard error.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use outspoke_hub::FACT_FAMILIES;
use outspoke_store::transfer::{self, Counts, Mode, Scope, TransferError};
use outspoke_store::{StoreError, VerifyReport};
use serde::Serialize;

use super::SettingsArgs;
use super::output::print;
use crate::config::{Backend, DEFAULT_STORE, load};
use crate::exit::Exit;
use crate::startup::StartError;
use crate::storage::{self, OpenStore, Plan};

/// How often a long job says that it goes on.
const TICK: Duration = Duration::from_secs(5);

/// What to do with what is kept.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Read everything and check it: exits with 0 if all is well, with 1 if not.
    ///
    /// Every record is held against its checksum, and every room against the rules of its log: offsets without holes,
    /// one epoch. Nothing is changed.
    Verify(StoreArgs),
    /// Give the space of forgotten messages back, as far as the back end can.
    Compact(StoreArgs),
    /// Write everything into a file of JSON lines that every back end can import.
    Export(ExportArgs),
    /// Read an export into a store, which may be of another back end.
    ///
    /// Rooms keep their epochs and offsets, so clients recover across the move. The file is checked as a whole before
    /// anything is written.
    Import(ImportArgs),
}

/// Which stores.
#[derive(Debug, Args)]
#[command(mut_arg("addr", |addr| addr.hide(true)))]
pub struct StoreArgs {
    /// One store by its name; "default" is the one that the section store describes [default: all of them]
    #[arg(long, value_name = "NAME")]
    store: Option<String>,

    /// Folder of the data, instead of data.dir
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsArgs,
}

/// What to export, and where to.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The file to write; "-" writes to standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// One tenant only; "" is the one without a name
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,

    /// One room only, without read positions and the like [default: every room]
    #[arg(long, value_name = "ROOM")]
    room: Option<String>,

    #[command(flatten)]
    store: StoreArgs,
}

/// What to import, and how.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file to read; "-" reads standard input, which cannot be checked beforehand
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Import into a store that is not empty: what it has already stays as it is, so repeating an import is harmless
    #[arg(long)]
    merge: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// A store that no setting describes.
#[derive(Debug, thiserror::Error)]
#[error("there is no store {name:?}; the settings describe {known}")]
pub struct UnknownStore {
    name: String,
    known: String,
}

pub(super) fn run(command: StoreCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("cannot start a thread")?;
    runtime.block_on(async {
        match command {
            StoreCommand::Verify(args) => verify(&args).await,
            StoreCommand::Compact(args) => compact(&args).await,
            StoreCommand::Export(args) => export(&args).await,
            StoreCommand::Import(args) => import(&args).await,
        }
    })
}

/// What one store was found to be.
#[derive(Debug, Serialize)]
struct Verified {
    #[serde(flatten)]
    which: Which,
    logs: u64,
    records: u64,
    facts: u64,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Compacted {
    #[serde(flatten)]
    which: Which,
    /// What was won, about.
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Which {
    store: String,
    backend: &'static str,
    place: String,
}

impl Which {
    fn of(plan: &Plan) -> Self {
        Self { store: plan.name.clone(), backend: plan.backend.name(), place: plan.place() }
    }
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "store {} ({} in {})", self.store, self.backend, self.place)
    }
}

async fn verify(args: &StoreArgs) -> anyhow::Result<ExitCode> {
    let mut results = Vec::new();
    for plan in args.plans()? {
        let VerifyReport { logs, records, facts, problems } = verify_one(&plan).await?;
        results.push(Verified { which: Which::of(&plan), logs, records, facts, problems });
    }
    let ok = results.iter().all(|result| result.problems.is_empty());
    if args.json {
        print_json(ok, &results)?;
    } else {
        results.iter().try_for_each(|result| print(&verdict(result)))?;
    }
    Ok(if ok { Exit::Success } else { Exit::Failure }.into())
}

/// A store that is too damaged to be opened is what the question was about, and no failure to answer it.
async fn verify_one(plan: &Plan) -> anyhow::Result<VerifyReport> {
    let found = with_store(plan, "verifying", async |open| open.store.verify().await).await;
    match found.as_ref().map_err(|error| error.downcast_ref()) {
        Err(Some(StartError::Storage { error: StoreError::Damaged(what), .. })) => {
            Ok(VerifyReport { problems: vec![what.clone()], ..VerifyReport::default() })
        }
        _ => found,
    }
}

/// What to do about an import or export that was refused.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    let hint = match error.downcast_ref::<TransferError>()? {
        TransferError::NotEmpty(_) => "import into an empty store, or add to this one with --merge",
        TransferError::Malformed { .. } => "export again; what is left of a damaged file cannot be trusted",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// One line if all is well, otherwise one more for each problem.
fn verdict(Verified { which, logs, records, facts, problems }: &Verified) -> String {
    let word = if problems.is_empty() { "ok" } else { "DAMAGED" };
    let mut text = format!("{word}: {which}: {logs} rooms, {records} records, {facts} facts\n");
    for problem in problems {
        text.push_str(&format!("  problem: {problem}\n"));
    }
    text
}

async fn compact(args: &StoreArgs) -> anyhow::Result<ExitCode> {
    let mut results = Vec::new();
    for plan in args.plans()? {
        let bytes = with_store(&plan, "compacting", async |open| open.store.compact().await).await?;
        results.push(Compacted { which: Which::of(&plan), bytes });
    }
    if args.json {
        print_json(true, &results)?;
    } else {
        for Compacted { which, bytes } in &results {
            print(&format!("ok: {which}: about {} won\n", size(*bytes)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How much went from one place to the other.
#[derive(Debug, Serialize)]
struct Moved {
    #[serde(flatten)]
    which: Which,
    #[serde(flatten)]
    counts: Counts,
}

async fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let plan = args.store.plan()?;
    let scope = Scope {
        // A room belongs to a tenant.
        tenant: args.tenant.as_deref().or(args.room.is_some().then_some("")).map(Into::into),
        room: args.room.as_deref().map(Into::into),
        spaces: FACT_FAMILIES.to_vec(),
    };
    let open = plan.open_existing().await?;
    let work = |open: OpenStore, to: Box<dyn io::Write>| async move {
        let export = transfer::export(open.store.as_ref(), &scope, BufWriter::new(to));
        let done = while_telling("exporting", &Which::of(&open.plan), export).await;
        storage::close(&[open]).await;
        done
    };
    if args.file.as_os_str() == "-" {
        work(open, Box::new(io::stdout())).await?;
        return Ok(ExitCode::SUCCESS);
    }
    // Under another name until it is whole: what has the right name can be relied on.
    let part = args.file.with_added_extension("part");
    let cannot_write = || format!("cannot write {}", part.display());
    let file = File::create(&part).with_context(cannot_write)?;
    let counts = work(open, Box::new(file.try_clone().with_context(cannot_write)?)).await?;
    file.sync_all().with_context(cannot_write)?;
    fs::rename(&part, &args.file).with_context(|| format!("cannot write {}", args.file.display()))?;
    report_move(&args.store, &plan, "to", &args.file, counts)
}

async fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let plan = args.store.plan()?;
    if plan.backend == Backend::Memory {
        return Err(StartError::NoStore { plan: Box::new(plan) }.into());
    }
    let mode = if args.merge { Mode::Merge } else { Mode::Empty };
    let cannot_read = || format!("cannot read {}", args.file.display());
    let from: Box<dyn io::BufRead> = if args.file.as_os_str() == "-" {
        Box::new(BufReader::new(io::stdin()))
    } else {
        let mut file = File::open(&args.file).with_context(cannot_read)?;
        progress(&format!("checking {}", args.file.display()));
        transfer::examine(BufReader::new(&file)).with_context(cannot_read)?;
        file.rewind().with_context(cannot_read)?;
        Box::new(BufReader::new(file))
    };
    let open = plan.open().await?;
    let import = transfer::import(open.store.as_ref(), &FACT_FAMILIES, mode, from);
    let done = while_telling("importing into", &Which::of(&plan), import).await;
    storage::close(&[open]).await;
    report_move(&args.store, &plan, "from", &args.file, done?)
}

fn report_move(
    args: &StoreArgs,
    plan: &Plan,
    direction: &str,
    file: &Path,
    counts: Counts,
) -> anyhow::Result<ExitCode> {
    let moved = Moved { which: Which::of(plan), counts };
    if args.json {
        print_json(true, &[moved])?;
    } else {
        let Moved { which, counts: Counts { logs, records, facts } } = moved;
        let file = file.display();
        print(&format!("ok: {which}: {logs} rooms, {records} records, {facts} facts {direction} {file}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl StoreArgs {
    /// The one store that is meant: the default one if none is named.
    fn plan(&self) -> anyhow::Result<Plan> {
        let name = self.store.as_deref().unwrap_or(DEFAULT_STORE);
        let (plans, known) = self.known()?;
        let unknown = || UnknownStore { name: name.to_owned(), known };
        Ok(plans.into_iter().find(|plan| plan.name == name).ok_or_else(unknown)?)
    }

    /// The stores that are meant.
    fn plans(&self) -> anyhow::Result<Vec<Plan>> {
        if self.store.is_some() {
            return Ok(vec![self.plan()?]);
        }
        // What is in memory went with the process that had it.
        let (plans, _) = self.known()?;
        Ok(plans.into_iter().filter(|plan| plan.backend != Backend::Memory).collect())
    }

    /// Every store that the settings describe, and their names for a complaint.
    fn known(&self) -> anyhow::Result<(Vec<Plan>, String)> {
        let data = self.data.as_ref().map(|folder| folder.display().to_string());
        let plans = storage::plans(&load(&self.settings.sources_and("--data", "data.dir", data))?);
        let names = plans.iter().map(|plan| plan.name.as_str()).collect::<Vec<_>>().join(", ");
        Ok((plans, names))
    }
}

/// Opens a store, does one thing with it while saying that it goes on, and closes it.
async fn with_store<T>(
    plan: &Plan,
    doing: &str,
    job: impl AsyncFnOnce(&OpenStore) -> Result<T, StoreError>,
) -> anyhow::Result<T> {
    let open = plan.open_existing().await?;
    let done = while_telling(doing, &Which::of(plan), job(&open)).await;
    storage::close(&[open]).await;
    done
}

/// Waits for a job, and says now and then that it goes on.
async fn while_telling<T, E>(
    doing: &str,
    which: &Which,
    job: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    progress(&format!("{doing} {which}"));
    let begun = Instant::now();
    let mut job = std::pin::pin!(job);
    loop {
        match tokio::time::timeout(TICK, &mut job).await {
            Ok(done) => return done.with_context(|| format!("{doing} {which} failed")),
            Err(_) => progress(&format!("{doing} {which}: {} s so far", begun.elapsed().as_secs())),
        }
    }
}

/// A line for who waits. Whoever closed standard error does not want it.
fn progress(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn print_json(ok: bool, stores: &impl Serialize) -> anyhow::Result<()> {
    let document = serde_json::json!({ "ok": ok, "stores": stores });
    print(&format!("{document:#}\n"))
}

/// `12.3 MiB`; exact below one KiB.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(problems: &[&str]) -> Verified {
        let which =
            Which { store: "default".to_owned(), backend: "embedded", place: "./data/store".to_owned() };
        let problems = problems.iter().map(|&problem| problem.to_owned()).collect();
        Verified { which, logs: 2, records: 30, facts: 4, problems }
    }

    #[test]
    fn verdict_is_one_line_and_one_more_per_problem() {
        assert_eq!(
            verdict(&verified(&[])),
            "ok: store default (embedded in ./data/store): 2 rooms, 30 records, 4 facts\n"
        );
        assert_eq!(
            verdict(&verified(&["lobby: record 7 fails its checksum"])),
            "DAMAGED: store default (embedded in ./data/store): 2 rooms, 30 records, 4 facts\n  \
             problem: lobby: record 7 fails its checksum\n"
        );
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(
            [0, 1023, 1024, 1536, 5 << 20, 3 << 30, 7 << 50].map(size),
            ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 KiB", "5.0 MiB", "3.0 GiB", "7168.0 TiB"]
        );
    }
}
