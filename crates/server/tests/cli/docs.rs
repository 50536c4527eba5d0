//! The committed page about the command line says what the binary says.
//!
//! `UPDATE=1 cargo test -p outspoke --test cli docs` writes it anew.

use std::fmt::Write as _;
use std::fs;

use clap::Command;

use crate::support::repository;

const PAGE: &str = "docs/cli/README.md";
const MARK: &str = "<!-- Generated from the code: UPDATE=1 cargo test -p outspoke --test cli docs -->\n";

/// Flags that are on many verbs are told once, in the page's own words.
const SHARED: [&str; 10] =
    ["server", "context", "key", "token", "tenant", "timeout", "config", "no_config", "addr", "set"];

#[test]
fn page_of_the_command_line_is_what_the_binary_says() {
    let page = fs::read_to_string(repository(PAGE)).unwrap();
    let (prose, _) = page.split_once(MARK).expect("the page has the mark that begins its generated part");
    let mut wanted = format!("{prose}{MARK}");
    let mut command = outspoke::cli::command();
    command.build();
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        describe(verb, &format!("outspoke {}", verb.get_name()), 2, &mut wanted);
    }
    if std::env::var_os("UPDATE").is_some() {
        return fs::write(repository(PAGE), wanted).unwrap();
    }
    assert!(page == wanted, "{PAGE} lags behind; run: UPDATE=1 cargo test -p outspoke --test cli docs");
}

/// Every verb is told of in words before its flags: in the table of the page's own part.
#[test]
fn page_of_the_command_line_names_every_verb_in_its_table() {
    let page = fs::read_to_string(repository(PAGE)).unwrap();
    let (prose, _) = page.split_once(MARK).unwrap();
    for verb in outspoke::cli::command().get_subcommands() {
        assert!(prose.contains(&format!("| [`{}`](#outspoke-{0})", verb.get_name())), "{}", verb.get_name());
    }
    for line in outspoke::exit::CODES_HELP.lines().skip(1) {
        let (code, meaning) = line.trim().split_once("  ").unwrap();
        assert!(prose.contains(&format!("| {code} | {meaning} |")), "{line}");
    }
}

fn describe(command: &Command, name: &str, level: usize, out: &mut String) {
    let _ = writeln!(out, "\n{} {name}\n", "#".repeat(level));
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(out, "{}", about.trim());
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    let _ = writeln!(out, "\n```text\n{usage}\n```");
    let shown =
        |arg: &&clap::Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
    let own: Vec<_> = command.get_arguments().filter(shown).collect();
    let (shared, own): (Vec<_>, Vec<_>) =
        own.into_iter().partition(|arg| SHARED.contains(&arg.get_id().as_str()));
    // `context add --server` is not the shared flag of that name.
    let tells_shared = shared.len() >= 4;
    let told = if tells_shared { own } else { [own, shared.clone()].concat() };
    if !told.is_empty() {
        out.push_str("\n| | |\n| --- | --- |\n");
        for arg in told {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let help = help.replace('|', "\\|").replace('<', "&lt;");
            let default: Vec<_> =
                arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
            let flag = !arg.get_action().takes_values();
            let default = match default.as_slice() {
                [] => String::new(),
                _ if flag => String::new(),
                values => format!(" [default: {}]", values.join(" ")),
            };
            let arg = arg.to_string().replace('|', "\\|");
            let _ = writeln!(out, "| `{arg}` | {help}{default} |");
        }
    }
    if tells_shared {
        let anchor = if shared.iter().any(|arg| arg.get_id() == "server") {
            "server-and-credential"
        } else {
            "settings"
        };
        let what = anchor.replace('-', " ");
        let _ = writeln!(out, "\nAnd those of [{what}](#{anchor}).");
    }
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        describe(sub, &format!("{name} {}", sub.get_name()), level + 1, out);
    }
}
