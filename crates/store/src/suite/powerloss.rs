//! Power losses for tests: what a folder would hold if nothing that was not synced had reached the disk.
//!
//! A [`Shim`] is a small C library (`powerloss.c`, compiled with `cc`) that is preloaded into any program and notes in
//! a *mirror* what each sync of the program makes durable in the *watched* folder. The program is killed at any moment;
//! [`lose_power`] then makes the folder that a disk would come back with: exactly what was synced, or that and an
//! arbitrary part of the rest, since a disk may also have written what nobody waited for.
//!
//! A sync can be made to fail, too: see [`Shim::fail_syncs`].
//!
//! Linux with glibc only. One program per mirror; a new mirror for each run.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use fastrand::Rng;

const SOURCE: &str = include_str!("powerloss.c");
const PAGE: usize = 4096;

/// The compiled library.
#[derive(Debug)]
pub struct Shim {
    library: PathBuf,
}

impl Shim {
    /// Compiles the library into a folder.
    ///
    /// # Panics
    /// When `cc` is not there or does not compile it.
    #[must_use]
    pub fn build(folder: &Path) -> Self {
        let (source, library) = (folder.join("powerloss.c"), folder.join("powerloss.so"));
        fs::write(&source, SOURCE).unwrap();
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"])
            .output()
            .unwrap();
        assert!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        Self { library }
    }

    /// Has a program that is about to be started watched. `watched` and `mirror` must exist, `mirror` must be empty,
    /// and what is in `watched` now counts as durable.
    pub fn watch(&self, program: &mut Command, watched: &Path, mirror: &Path) {
        program.env("LD_PRELOAD", &self.library);
        program.env("POWERLOSS_WATCH", watched).env("POWERLOSS_MIRROR", mirror);
    }

    /// Has as many syncs of a watched program fail as the file `fail` has bytes, from when it has them; each takes one off.
    /// What a sync that failed was to make durable counts as clean afterwards. The program finds the file's name in its
    /// environment, as `POWERLOSS_FAIL`.
    pub fn fail_syncs(&self, program: &mut Command, fail: &Path) {
        program.env("POWERLOSS_FAIL", fail);
    }
}

/// What reached the disk although nobody waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Lost,
    /// Any pages of any files and any entries of any folders, chosen by this seed.
    Scattered(u64),
}

/// Makes the folder `to` as `watched` would be after a power loss, from its mirror and what is there now.
///
/// # Errors
/// When a file cannot be read or written.
///
/// # Panics
/// When the mirror is none.
pub fn lose_power(watched: &Path, mirror: &Path, to: &Path, rest: Rest) -> io::Result<()> {
    let mut now = BTreeMap::new();
    inodes(watched, &mut now)?;
    let rng = match rest {
        Rest::Lost => None,
        Rest::Scattered(seed) => Some(Rng::with_seed(seed)),
    };
    let mut loss = Loss { mirror: mirror.to_owned(), now, rng };
    let root = fs::read_to_string(mirror.join("root"))?;
    loss.folder(&root, to)
}

/// An inode and when it was born, which tells it from a later one with the same number.
fn identity(path: &Path) -> io::Result<String> {
    let metadata = fs::symlink_metadata(path)?;
    let born = metadata.created()?.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    Ok(format!("{}-{}", metadata.ino(), born.as_nanos()))
}

/// Where every inode below a folder is now.
fn inodes(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    found.insert(identity(folder)?, folder.to_owned());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            inodes(&path, found)?;
        } else {
            found.insert(identity(&path)?, path);
        }
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    folder: bool,
    inode: String,
}

struct Loss {
    mirror: PathBuf,
    now: BTreeMap<String, PathBuf>,
    rng: Option<Rng>,
}

impl Loss {
    fn chance(&mut self) -> bool {
        self.rng.as_mut().is_some_and(Rng::bool)
    }

    fn folder(&mut self, inode: &str, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        let durable = self.listed(inode)?;
        let now = self.present(inode)?;
        let mut names: Vec<_> = durable.keys().chain(now.keys()).cloned().collect();
        names.sort();
        names.dedup();
        for name in names {
            let (old, new) = (durable.get(&name), now.get(&name));
            let chosen = if old != new && self.chance() { new } else { old };
            let Some(entry) = chosen.cloned() else { continue };
            if entry.folder {
                self.folder(&entry.inode, &to.join(&name))?;
            } else {
                self.file(&entry.inode, &to.join(&name))?;
            }
        }
        Ok(())
    }

    /// A folder's entries when it was last synced.
    fn listed(&self, inode: &str) -> io::Result<BTreeMap<String, Entry>> {
        let text = match fs::read_to_string(self.mirror.join("lists").join(inode)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let parse = |line: &str| {
            let (kind, rest) = line.split_once(' ')?;
            let (inode, name) = rest.split_once(' ')?;
            Some((name.to_owned(), Entry { folder: kind == "d", inode: inode.to_owned() }))
        };
        Ok(text.split_terminator('\0').map(|line| parse(line).unwrap()).collect())
    }

    /// A folder's entries now.
    fn present(&self, inode: &str) -> io::Result<BTreeMap<String, Entry>> {
        let Some(path) = self.now.get(inode) else { return Ok(BTreeMap::new()) };
        let mut entries = BTreeMap::new();
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            entries.insert(name, Entry { folder: path.is_dir(), inode: identity(&path)? });
        }
        Ok(entries)
    }

    fn file(&mut self, inode: &str, to: &Path) -> io::Result<()> {
        let durable = Pages::open(Some(self.mirror.join("files").join(inode)))?;
        let now = Pages::open(self.now.get(inode).cloned())?;
        let (mut durable, mut now) = (durable, now);
        let len = if self.chance() { now.len } else { durable.len };
        let mut file = File::create(to)?;
        file.set_len(len)?;
        let mut at = 0;
        while at < len {
            let old = durable.page(at)?;
            let page = if self.rng.is_some() {
                let new = now.page(at)?;
                if old != new && self.chance() { new } else { old }
            } else {
                old
            };
            let want = page.len().min((len - at) as usize);
            if page[..want].iter().any(|&byte| byte != 0) {
                file.seek(SeekFrom::Start(at))?;
                file.write_all(&page[..want])?;
            }
            at += PAGE as u64;
        }
        Ok(())
    }
}

/// A file by pages; what is behind its end, or of no file, is zero.
struct Pages {
    file: Option<File>,
    len: u64,
}

impl Pages {
    fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let file = path.map(File::open).transpose();
        match file {
            Ok(Some(file)) => Ok(Self { len: file.metadata()?.len(), file: Some(file) }),
            Ok(None) => Ok(Self { file: None, len: 0 }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { file: None, len: 0 }),
            Err(error) => Err(error),
        }
    }

    fn page(&mut self, at: u64) -> io::Result<Vec<u8>> {
        let mut page = Vec::with_capacity(PAGE);
        if let Some(file) = &mut self.file
            && at < self.len
        {
            file.seek(SeekFrom::Start(at))?;
            file.take(PAGE as u64).read_to_end(&mut page)?;
        }
        page.resize(PAGE, 0);
        Ok(page)
    }
}
