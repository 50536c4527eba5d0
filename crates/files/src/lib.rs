//! Files: uploaded in parts, kept by what they contain, shown only as what is harmless, and gone when nobody needs them.
//!
//! ```
//! use outspoke_files::{Draft, Files, FilesConfig, Owner};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let files = Files::open(FilesConfig::at(folder.path()))?;
//! let draft = Draft { length: 5, name: "notes.txt".to_owned(), ..Draft::of(Owner::new("", "alice")) };
//! let upload = files.create(draft)?;
//! let mut part = files.append(upload.id, 0, None)?;
//! part.write(b"hello")?;
//! part.finish()?;
//! let file = files.complete(upload.id)?;
//! assert_eq!(file.facts().map(|facts| facts.size), Some(5));
//! # Ok(()) }
//! ```
//!
//! [`Files`] is the whole of it. A file begins as a [`Draft`], gets its bytes through [`Append`], is looked at and given its
//! place by [`Files::complete`], and is from then on a [`Record`] with [facts](Facts), which does not change but for the rooms it
//! was sent to. Everything here blocks: callers with an event loop put it on threads of their own. What rooms, messages, users
//! and HTTP are, and who may do what, is told here by names alone and decided elsewhere.
//!
//! Never: a half file is listed or lent; a name that a client chose is part of a path; a type that a client names is believed;
//! memory is sized by what a file declares.

mod clock;
mod config;
mod depot;
mod error;
mod files;
mod id;
mod inspect;
mod ledger;
mod link;
mod locks;
mod name;
mod preview;
mod record;
mod upload;

pub use crate::{
    config::{FilesConfig, Limits},
    depot::Content,
    error::FilesError,
    files::{Attached, Draft, Files, Swept},
    id::FileId,
    inspect::{FileType, Inspected},
    ledger::Usage,
    link::{InvalidLink, Part},
    name::file_name,
    record::{Attachment, Facts, Owner, Preview, Record},
    upload::{Append, Checksum},
};
