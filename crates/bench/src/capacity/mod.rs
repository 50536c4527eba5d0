//! How much hardware a load needs: arithmetic on measured figures, and a simulation of everybody coming back at once.
//!
//! Nothing here opens a socket. `measured` holds the figures (`measured.json`, which the documentation's chart is drawn from as
//! well), `plan` does the arithmetic and shows it, `storm` lets clients reconnect against a queue in steps of ten milliseconds.

mod measured;
mod plan;
mod storm;

pub(crate) use plan::{Plan, run as plan};
pub(crate) use storm::{StormArgs, run as storm};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{Parser, Subcommand};

    use super::*;

    #[derive(Parser)]
    #[command(name = "outspoke bench")]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Subcommand)]
    enum Command {
        Plan(Box<Plan>),
        Storm(StormArgs),
    }

    fn printed(words: &str) -> String {
        let words = words.split_whitespace().skip(1);
        match Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).command {
            Command::Plan(args) => plan::render(&args).unwrap(),
            Command::Storm(args) => storm::render(&args).unwrap(),
        }
    }

    /// Every `$ outspoke bench ...` of the page is followed by what it prints; `UPDATE=1` writes it there.
    #[test]
    fn capacity_guide_shows_what_the_planner_prints() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating/capacity.md");
        let page = std::fs::read_to_string(path).unwrap();
        let mut made = String::new();
        let mut blocks = 0;
        for (index, part) in page.split("```").enumerate() {
            if index > 0 {
                made.push_str("```");
            }
            let shown = part.strip_prefix("console\n$ ").filter(|_| index % 2 == 1);
            match shown.and_then(|shown| shown.split_once('\n')) {
                Some((command, _)) => {
                    blocks += 1;
                    made.push_str(&format!("console\n$ {command}\n{}", printed(command)));
                }
                None => made.push_str(part),
            }
        }
        assert!(blocks >= 4, "{blocks} commands are shown");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let same = std::env::var_os("UPDATE").is_some() || made == page;
        assert!(
            same,
            "docs/operating/capacity.md is not up to date: run UPDATE=1 cargo test -p outspoke-bench --lib capacity"
        );
    }
}
