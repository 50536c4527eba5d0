//! How many records a second each back end commits, beside what the service below it can write at all.
//!
//! ```sh
//! cargo run --release -p outspoke-store --example store-speed -- [seconds a cell] [rounds]
//! ```
//!
//! Starts its own PostgreSQL and Redis with their data in the folder for temporary files. One batch after the other is
//! committed, as the hub does it; a batch has 1, 16 or 256 records of 128 bytes, spread over 100 rooms. The raw rows
//! write the same bytes with nothing around: `fdatasync` after each batch; one multi-row `INSERT` into a plain table per
//! transaction; one pipeline of `XADD`s. All cells of a round are measured in turn, so that a busy moment of the
//! machine does not hit one row alone; the medians of the rounds are printed.

#![allow(clippy::print_stdout)] // Its figures are what it is for.
#![allow(clippy::unwrap_used)] // A measurement that fails has nothing else to say.

use std::fs::File;
use std::io::Write as _;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outspoke_store::postgres::{PostgresOptions, PostgresStore};
use outspoke_store::redis::{RedisOptions, RedisStore};
use outspoke_store::{Append, Batch, EmbeddedStore, LogKey, MemoryStore, Record, Store, embedded};
use outspoke_testkit::services::{Postgres, Redis};
use tokio_postgres::types::ToSql;

const SIZES: [u64; 3] = [1, 16, 256];
const ROOMS: u64 = 100;
const PAYLOAD: [u8; 128] = [b'x'; 128];

/// Something that writes a batch of so many records, the first of which has this number.
trait Writer {
    fn write(&mut self, first: u64, count: u64) -> Pin<Box<dyn Future<Output = ()> + '_>>;
}

/// A back end.
struct Stored(Box<dyn Store>);

impl Writer for Stored {
    fn write(&mut self, first: u64, count: u64) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        let mut rooms: Vec<Vec<Record>> = (0..ROOMS.min(count)).map(|_| Vec::new()).collect();
        for number in first..first + count {
            let place = usize::try_from((number - first) % ROOMS).unwrap();
            rooms[place].push(record(number));
        }
        let appends = (first..).zip(rooms).map(|(room, records)| Append {
            log: LogKey { tenant: "speed".into(), room: format!("room {}", room % ROOMS).into() },
            epoch: 1,
            records,
            replaces: Vec::new(),
            fence: None,
        });
        let batch = Batch { appends: appends.collect(), ..Batch::default() };
        Box::pin(async move { drop(self.0.commit(&batch).await.unwrap()) })
    }
}

fn record(number: u64) -> Record {
    Record {
        id: id(number),
        key: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
        author: "ada".into(),
        ts: 1_800_000_000_000,
        counted: true,
        payload: Bytes::from_static(&PAYLOAD),
    }
}

/// As a hub's ids are: the time first, then chance.
fn id(number: u64) -> u128 {
    u128::from(number) << 64 | u128::from(fastrand::u64(..))
}

/// A file, synced after each batch.
struct RawDisk(File);

impl Writer for RawDisk {
    fn write(&mut self, _: u64, count: u64) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        let bytes = PAYLOAD.repeat(usize::try_from(count).unwrap());
        self.0.write_all(&bytes).unwrap();
        self.0.sync_data().unwrap();
        Box::pin(std::future::ready(()))
    }
}

/// A plain table with one key.
struct RawPostgres {
    client: tokio_postgres::Client,
    insert: tokio_postgres::Statement,
}

impl RawPostgres {
    async fn new(server: &Postgres) -> Self {
        let (client, connection) =
            tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("CREATE TABLE raw (number bigint PRIMARY KEY, payload bytea)").await.unwrap();
        let insert = "INSERT INTO raw SELECT * FROM unnest($1::bigint[], $2::bytea[])";
        let insert = client.prepare(insert).await.unwrap();
        Self { client, insert }
    }
}

impl Writer for RawPostgres {
    fn write(&mut self, first: u64, count: u64) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        let numbers: Vec<_> = (first..first + count).map(|number| i64::try_from(number).unwrap()).collect();
        let payloads = vec![&PAYLOAD[..]; numbers.len()];
        Box::pin(async move {
            let rows: [&(dyn ToSql + Sync); 2] = [&numbers, &payloads];
            let sent = tokio::join!(
                self.client.batch_execute("BEGIN"),
                self.client.execute(&self.insert, &rows),
                self.client.batch_execute("COMMIT"),
            );
            assert!(sent.0.is_ok() && sent.1.is_ok() && sent.2.is_ok());
        })
    }
}

/// One stream.
struct RawRedis(redis::aio::MultiplexedConnection);

impl Writer for RawRedis {
    fn write(&mut self, _: u64, count: u64) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        let mut pipeline = redis::pipe();
        for _ in 0..count {
            pipeline.cmd("XADD").arg("raw").arg("*").arg("p").arg(&PAYLOAD[..]).ignore();
        }
        Box::pin(async move { pipeline.exec_async(&mut self.0).await.unwrap() })
    }
}

async fn redis(server: &Redis) -> (Box<dyn Writer>, Box<dyn Writer>) {
    let store = RedisStore::open(&RedisOptions::new(server.url())).await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let raw = client.get_multiplexed_async_connection().await.unwrap();
    (Box::new(Stored(Box::new(store))), Box::new(RawRedis(raw)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().unwrap());
    let cell = Duration::from_secs(arguments.next().unwrap_or(2));
    let rounds = arguments.next().unwrap_or(3);

    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("raw")).unwrap();
    let postgres = Postgres::start().await;
    let always = Redis::start().await;
    let everysec = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]).await;
    let embedded = EmbeddedStore::open(folder.path().join("store"), embedded::Options::default()).unwrap();
    let in_postgres = PostgresStore::open(&PostgresOptions::new(postgres.url())).await.unwrap();
    let (in_always, raw_always) = redis(&always).await;
    let (in_everysec, raw_everysec) = redis(&everysec).await;
    let mut writers: Vec<(&str, Box<dyn Writer>)> = vec![
        ("memory", Box::new(Stored(Box::new(MemoryStore::new())))),
        ("embedded", Box::new(Stored(Box::new(embedded)))),
        ("  raw: write and fdatasync", Box::new(RawDisk(file))),
        ("postgres", Box::new(Stored(Box::new(in_postgres)))),
        ("  raw: INSERT and COMMIT", Box::new(RawPostgres::new(&postgres).await)),
        ("redis, appendfsync always", in_always),
        ("  raw: XADD", raw_always),
        ("redis, appendfsync everysec", in_everysec),
        ("  raw: XADD", raw_everysec),
    ];

    let mut next = vec![1; writers.len()];
    let mut figures = vec![vec![Vec::new(); SIZES.len()]; writers.len()];
    for _ in 0..rounds {
        for (column, &size) in SIZES.iter().enumerate() {
            for (row, (_, writer)) in writers.iter_mut().enumerate() {
                let (begin, from) = (Instant::now(), next[row]);
                while begin.elapsed() < cell {
                    writer.write(next[row], size).await;
                    next[row] += size;
                }
                figures[row][column].push((next[row] - from) as f64 / begin.elapsed().as_secs_f64());
            }
        }
    }

    println!("records/s, committed; median of {rounds} rounds of {cell:?} a cell");
    println!("{:<30}{:>12}{:>12}{:>12}", "records in a batch", SIZES[0], SIZES[1], SIZES[2]);
    for ((name, _), columns) in writers.iter().zip(&mut figures) {
        let medians = columns.iter_mut().map(|figures| {
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        });
        let medians: String = medians.map(|median| format!("{median:>12.0}")).collect();
        println!("{name:<30}{medians}");
    }
}
