//! Looks at the engine's journals before the engine does.
//!
//! The engine takes the first thing in a journal that it cannot read for the end and cuts there. After a power loss
//! that is right: what was being written is torn, and nobody was told that it is kept. When a disk returns wrong bytes
//! in the middle it is wrong: everything after them was acknowledged, and would be gone without a word.
//!
//! So the two are told apart here, and only a torn tail is cut. Every batch carries its own number and the number of
//! the newest batch that was durable before it was written (its *turn*). If a whole batch is found behind a broken one,
//! and something between the last good batch and it had been durable, the break is damage. A break with nothing whole
//! behind it is a torn tail; a damaged very last batch cannot be told from one.
//!
//! What is relied on is the engine's journal format, version 3: a batch is a start (tag 1, item count, sequence number),
//! items (tag 2) and an end (tag 3, XXH3 of the items, trailer), and a file is zero behind the last batch. A test holds
//! this against the engine itself.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::folder::{sync_folder, trouble};
use super::layout::{TURN, Turn};
use crate::StoreError;

const TRAILER: [u8; 4] = [b'F', b'J', b'L', 3];
const ITEM_HEADER: usize = 20;
/// More items than a batch of ours can have, fewer than nonsense says.
const ITEMS_MAX: u32 = 1 << 26;

/// What the journals of a folder hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Journals {
    /// The last batch's turn.
    pub(super) last: Option<Turn>,
    /// How many whole batches there are.
    pub(super) batches: u64,
    /// How many bytes of a torn tail were cut.
    pub(super) cut: u64,
}

/// Reads every journal in `folder`, cuts a torn tail off the last one when `cut`, and refuses damage.
///
/// # Errors
/// [`StoreError::Damaged`] for a break that is not a torn tail; [`StoreError::Unavailable`] when reading fails.
pub(super) fn inspect(folder: &Path, cut: bool) -> Result<Journals, StoreError> {
    let mut found = Journals::default();
    let paths = paths(folder)?;
    for (index, (id, path)) in paths.iter().enumerate() {
        let scan = scan(path).map_err(|error| unreadable(path, &error))?;
        let follows = index > 0 && paths[index - 1].0 + 1 == *id;
        if follows
            && let (Some(last), Some(first)) = (found.last, scan.first)
            && first.number != last.number + 1
        {
            let (last, first) = (last.number, first.number);
            return Err(damaged(path, 0, &format!("commit {first} follows commit {last}")));
        }
        found.batches += scan.batches;
        found.last = scan.last.or(found.last);
        let sealed = index + 1 < paths.len();
        match scan.tail {
            Tail::Clean => {}
            Tail::Torn(bytes) if !sealed => {
                found.cut = bytes;
                if cut {
                    cut_at(path, scan.end).map_err(|error| unreadable(path, &error))?;
                }
            }
            Tail::Torn(_) => return Err(damaged(path, scan.end, "a journal that was finished is broken")),
            Tail::Damaged => {
                return Err(damaged(path, scan.end, "a commit is broken, and whole ones follow"));
            }
        }
    }
    Ok(found)
}

/// Writes what the journals of a folder hold once more, where it is, and syncs it. After a failed sync the system may
/// take pages for clean that are not on the disk: another sync alone would succeed without writing them.
pub(super) fn write_again(folder: &Path) -> Result<(), StoreError> {
    for (_, path) in paths(folder)? {
        write_file_again(&path).map_err(|error| trouble(&path, &error))?;
    }
    sync_folder(folder)
}

fn write_file_again(path: &Path) -> std::io::Result<()> {
    const CHUNK: u64 = 1 << 16;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let len = file.metadata()?.len();
    let mut chunk = vec![0; CHUNK as usize];
    let mut at = 0;
    while at < len {
        let part = &mut chunk[..CHUNK.min(len - at) as usize];
        file.read_exact_at(part, at)?;
        write_what_is_there(&file, part, at)?;
        at += part.len() as u64;
    }
    file.sync_all()
}

/// Leaves out sectors of zeros: they were never written, and take no space, of which there may be none.
fn write_what_is_there(file: &File, part: &[u8], at: u64) -> std::io::Result<()> {
    const SECTOR: usize = 512;
    let is_zero = |begin: usize| part[begin..part.len().min(begin + SECTOR)].iter().all(|&byte| byte == 0);
    let mut begin = 0;
    while begin < part.len() {
        let mut end = begin;
        while end < part.len() && !is_zero(end) {
            end = part.len().min(end + SECTOR);
        }
        file.write_all_at(&part[begin..end], at + begin as u64)?;
        begin = end + SECTOR;
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("{}: {error}", path.display()))
}

fn damaged(path: &Path, at: u64, what: &str) -> StoreError {
    StoreError::Damaged(format!("{} at byte {at}: {what}", path.display()))
}

/// The journals by their numbers.
fn paths(folder: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "jnl")
            && let Some(id) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok())
        {
            paths.push((id, path));
        }
    }
    paths.sort();
    Ok(paths)
}

fn cut_at(path: &Path, end: u64) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(end)?;
    file.sync_all()
}

#[derive(Debug, PartialEq, Eq)]
enum Tail {
    Clean,
    Torn(u64),
    Damaged,
}

#[derive(Debug)]
struct Scan {
    first: Option<Turn>,
    last: Option<Turn>,
    batches: u64,
    /// Where the last good batch ends.
    end: u64,
    tail: Tail,
}

fn scan(path: &Path) -> std::io::Result<Scan> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut source = Source { reader: BufReader::with_capacity(1 << 16, file), left: len };
    let mut scan = Scan { first: None, last: None, batches: 0, end: 0, tail: Tail::Clean };
    let mut sequence = None;
    loop {
        match batch(&mut source) {
            Ok(read) => {
                let skips =
                    scan.last.zip(read.turn).is_some_and(|(last, turn)| turn.number != last.number + 1);
                if skips || sequence.is_some_and(|before| read.sequence <= before) {
                    scan.tail = Tail::Damaged;
                    return Ok(scan);
                }
                sequence = Some(read.sequence);
                scan.first = scan.first.or(read.turn);
                scan.last = read.turn.or(scan.last);
                scan.batches += 1;
                scan.end = len - source.left;
            }
            Err(Break::Io(error)) => return Err(error),
            Err(Break::End) => break,
        }
    }
    let rest = rest(path, scan.end, len)?;
    if !rest.is_empty() {
        let durable = scan.last.map_or(0, |turn| turn.number);
        scan.tail =
            if lost_something(&rest, durable) { Tail::Damaged } else { Tail::Torn(rest.len() as u64) };
    }
    Ok(scan)
}

/// What is behind the last good batch, without the zeros at its end. Nearly always nothing or a part of one batch.
fn rest(path: &Path, end: u64, len: u64) -> std::io::Result<Vec<u8>> {
    const CHUNK: usize = 1 << 20;
    let mut file = File::open(path)?;
    let (mut rest, mut zeros) = (Vec::new(), 0usize);
    file.seek(SeekFrom::Start(end))?;
    let mut left = len - end;
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let part = &mut chunk[..CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
        file.read_exact(part)?;
        left -= part.len() as u64;
        match part.iter().rposition(|&byte| byte != 0) {
            None => zeros += part.len(),
            Some(last) => {
                rest.resize(rest.len() + zeros, 0);
                rest.extend_from_slice(&part[..=last]);
                zeros = part.len() - last - 1;
            }
        }
    }
    Ok(rest)
}

/// Whether a whole batch behind the break says that more than `last` had been durable before it.
fn lost_something(rest: &[u8], last: u64) -> bool {
    let starts = rest.windows(14).enumerate().filter(|(_, window)| window[0] == 1 && window[13] == 2);
    starts.map(|(at, _)| at).any(|at| {
        let mut source = Source { reader: &rest[at..], left: (rest.len() - at) as u64 };
        match batch(&mut source) {
            Ok(read) => read.turn.is_none_or(|turn| turn.durable > last),
            Err(_) => false,
        }
    })
}

struct Source<R> {
    reader: R,
    left: u64,
}

enum Break {
    /// Nothing that is a batch.
    End,
    Io(std::io::Error),
}

impl<R: Read> Source<R> {
    fn read<'a>(&mut self, buffer: &'a mut Vec<u8>, len: usize) -> Result<&'a [u8], Break> {
        if len as u64 > self.left {
            return Err(Break::End);
        }
        let from = buffer.len();
        buffer.resize(from + len, 0);
        self.reader.read_exact(&mut buffer[from..]).map_err(Break::Io)?;
        self.left -= len as u64;
        Ok(&buffer[from..])
    }
}

struct Whole {
    turn: Option<Turn>,
    /// The engine's own number of the batch, which grows; its checksum does not cover it.
    sequence: u64,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Break> {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied().ok_or(Break::End)
}

/// Reads one whole batch and holds it against its checksum.
fn batch<R: Read>(source: &mut Source<R>) -> Result<Whole, Break> {
    let mut buffer = Vec::with_capacity(256);
    let start = source.read(&mut buffer, 13)?;
    let items = u32::from_le_bytes(number(start, 1)?);
    if start[0] != 1 || items == 0 || items > ITEMS_MAX {
        return Err(Break::End);
    }
    let sequence = u64::from_le_bytes(number(start, 5)?);
    let mut hash = Xxh3::new();
    let mut turn = None;
    for _ in 0..items {
        buffer.clear();
        let header = source.read(&mut buffer, 1)?;
        if header[0] != 2 {
            return Err(Break::End);
        }
        source.read(&mut buffer, ITEM_HEADER)?;
        let key_len = usize::from(u16::from_le_bytes(number(&buffer, 11)?));
        let value_len = u32::from_le_bytes(number(&buffer, 17)?) as usize;
        source.read(&mut buffer, key_len + value_len)?;
        hash.update(&buffer);
        let (key, value) = buffer[1 + ITEM_HEADER..].split_at(key_len);
        if key == TURN {
            turn = Some(Turn::decode(value).map_err(|_| Break::End)?);
        }
    }
    buffer.clear();
    let end = source.read(&mut buffer, 13)?;
    let sum = u64::from_le_bytes(number(end, 1)?);
    if end[0] != 3 || end[9..] != TRAILER || sum != hash.digest() {
        return Err(Break::End);
    }
    Ok(Whole { turn, sequence })
}
