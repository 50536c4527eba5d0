//! `outspoke key`: API keys made.
//!
//! The key goes to standard output and is kept nowhere; what the server needs is its hash.

use clap::{Args, Subcommand};
use outspoke_auth::{KeyHash, new_key};

use super::output::print;

/// What to do with API keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key and print it, once, with its hash for the configuration.
    Create(CreateArgs),
}

/// How to print it.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &KeyCommand) -> anyhow::Result<()> {
    let KeyCommand::Create(args) = command;
    let key = new_key();
    let hash = KeyHash::of(&key)?;
    print(&if args.json {
        format!("{}\n", serde_json::json!({ "key": key, "hash": hash.to_string() }))
    } else {
        format!(
            "key:  {key}\nhash: {hash}\n\n\
             Give the key to its user; it is shown only now. Write the hash into the configuration:\n\n\
             auth:\n  keys:\n    - name: my-key\n      user: my-user\n      hash: \"{hash}\"\n"
        )
    })
}
