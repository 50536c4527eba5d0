//! Every code block of the documentation, as far as one can be checked without being run.
//!
//! Run in other places: the tutorial ([`crate::tutorial`]), the programs of the quick starts (`examples/quickstart`, `e2e/browser`) and the protocol's
//! transcripts. Here is what holds for all the others; `CONTRIBUTING.md` has the list. A language that is not known here fails, so that none slips
//! through.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::error::ErrorKind;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::markdown::{Block, blocks, pages};
use crate::support::repository;

/// Blocks that no machine can read; each kind says what is there instead.
const READ_BY_PEOPLE: [&str; 5] = ["", "text", "ts", "console", "ini"];
/// In the pages' commands, what is not ours to know.
const PLACEHOLDER: &str = "x";

/// A page shows what it is about; what a whole configuration has besides, by what would be missed.
const REST: [(&str, &[&str]); 2] = [
    ("does not speak TLS", &["tls.certificate=server.pem", "tls.key=server.key"]),
    (
        "store.backend is embedded",
        &["store.backend=postgresql", "store.postgresql.url=postgresql://db/outspoke"],
    ),
];

/// All blocks whose language is one of these.
fn blocks_of(languages: &[&str]) -> Vec<Block> {
    let all = pages().into_iter().flat_map(|page| blocks(&page));
    all.filter(|block| block.language.as_deref().is_some_and(|found| languages.contains(&found))).collect()
}

fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// What a program says against a text that it must accept.
fn refused(program: &str, arguments: &[&str], text: &str, ending: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(format!("block.{ending}"));
    fs::write(&file, text).unwrap();
    let output = Command::new(program).args(arguments).arg(&file).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is not installed: {error}"));
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The blocks that a program refuses.
fn all_refused(languages: &[&str], refuse: impl Fn(&Block) -> Option<String>) -> Vec<String> {
    let of = |block: Block| refuse(&block).map(|why| format!("{}: {why}", block.place));
    blocks_of(languages).into_iter().filter_map(of).collect()
}

/// A new kind of block is checked, or is said not to be.
#[test]
fn every_block_of_the_documentation_has_a_language_that_is_checked() {
    let checked = ["sh", "json", "yaml", "js", "javascript", "html", "python", "go", "rust", "rust,no_run"];
    let mut findings = Vec::new();
    for block in pages().into_iter().flat_map(|page| blocks(&page)) {
        let Some(language) = block.language else { continue };
        if !checked.contains(&language.as_str()) && !READ_BY_PEOPLE.contains(&language.as_str()) {
            findings.push(format!("{}: {language:?} is no language that the tests know", block.place));
        }
    }
    none(&findings);
}

/// A configuration that is copied must start the server.
#[test]
fn configurations_in_the_documentation_are_valid() {
    let defaults = Command::new(env!("CARGO_BIN_EXE_outspoke")).args(["config", "default"]).output().unwrap();
    let sections = keys(&String::from_utf8(defaults.stdout).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    none(&all_refused(&["yaml"], |block| {
        // A list is of somebody else.
        let Ok(found) = keys(&block.text) else {
            let parsed = serde_saphyr::from_str::<IgnoredAny>(&block.text);
            return parsed.err().map(|error| error.to_string());
        };
        // Of somebody else: Prometheus, Kubernetes, a proxy.
        if !found.iter().all(|key| sections.contains(key)) {
            return None;
        }
        let file = folder.path().join("config.yaml");
        fs::write(&file, &block.text).unwrap();
        let mut said = check(folder.path(), &[]);
        for (missing, settings) in REST {
            if said.as_ref().is_some_and(|said| said.contains(missing)) {
                said = check(folder.path(), settings);
            }
        }
        // Files are the reader's own.
        said.filter(|said| !["cannot be read", "No such file"].iter().any(|own| said.contains(own)))
    }));
}

/// What `outspoke config check` has against the file `config.yaml` there with these settings besides.
fn check(folder: &Path, settings: &[&str]) -> Option<String> {
    let mut check = Command::new(env!("CARGO_BIN_EXE_outspoke"));
    check.args(["config", "check"]).args(settings.iter().flat_map(|setting| ["--set", setting]));
    check.current_dir(folder).env_clear();
    check.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
    let output = check.output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The keys of a mapping.
fn keys(yaml: &str) -> Result<BTreeSet<String>, serde_saphyr::Error> {
    let mapping: BTreeMap<String, IgnoredAny> = serde_saphyr::from_str(yaml)?;
    Ok(mapping.into_keys().collect())
}

/// One value, or one on each line.
#[test]
fn json_in_the_documentation_is_json() {
    none(&all_refused(&["json"], |block| {
        let mut values = serde_json::Deserializer::from_str(&block.text).into_iter::<Value>();
        values.find_map(Result::err).map(|error| error.to_string())
    }));
}

#[test]
fn shell_commands_in_the_documentation_can_be_read_by_a_shell() {
    none(&all_refused(&["sh"], |block| refused("bash", &["-n"], &block.text, "sh")));
}

/// A verb or a flag that was renamed would stay in the pages for years.
#[test]
fn command_lines_in_the_documentation_are_ones_that_the_program_takes() {
    let mut found = 0;
    let mut findings = Vec::new();
    for block in blocks_of(&["sh"]) {
        for words in commands(&block.text) {
            let Some(("outspoke", arguments)) =
                words.split_first().map(|(first, rest)| (first.as_str(), rest))
            else {
                continue;
            };
            found += 1;
            // What others look up: a program with its own command line.
            let own = arguments.first().is_some_and(|verb| verb == "bench");
            let parsed = outspoke::cli::command().try_get_matches_from(&words);
            let refused = parsed.err().filter(|error| {
                !own && !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
            });
            findings.extend(refused.map(|error| format!("{}: {}: {error}", block.place, words.join(" "))));
        }
    }
    none(&findings);
    assert!(found > 60, "{found}");
}

/// The simple commands of a script, as lists of words, without assignments, redirections and what variables hold.
fn commands(script: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut here_document: Option<String> = None;
    for line in script.replace("\\\n", " ").lines() {
        if let Some(end) = &here_document {
            if line == end {
                here_document = None;
            }
            continue;
        }
        here_document = line.split_once("<<").map(|(_, word)| {
            word.split_whitespace().next().unwrap_or_default().trim_matches(['\'', '"']).to_owned()
        });
        split(line, &mut commands);
        commands.push(Vec::new());
    }
    commands.iter_mut().for_each(simplify);
    commands.retain(|words| !words.is_empty());
    commands
}

/// The words of a line. A substitution is a command of its own, and its output a placeholder.
fn split(line: &str, commands: &mut Vec<Vec<String>>) {
    let mut chars = line.chars().peekable();
    let mut word = String::new();
    let mut quote = None;
    // Where substitutions began: the command around each, its word, and its quote.
    let mut around: Vec<(Vec<String>, String, Option<char>)> = Vec::new();
    let end_word = |word: &mut String, commands: &mut Vec<Vec<String>>| {
        if !word.is_empty() {
            commands.last_mut().unwrap().push(std::mem::take(word));
        }
    };
    while let Some(char) = chars.next() {
        match (quote, char) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => word.push(char),
            (None, '\'' | '"') => {
                quote = Some(char);
                // An empty text is a word, too; nothing here tells it from a placeholder.
                if chars.peek() == Some(&char) {
                    word.push_str(PLACEHOLDER);
                }
            }
            (_, '$') if chars.peek() == Some(&'(') => {
                chars.next();
                let command = std::mem::take(commands.last_mut().unwrap());
                around.push((command, std::mem::take(&mut word), quote.take()));
            }
            (_, '$') => {
                word.push_str(PLACEHOLDER);
                while chars.peek().is_some_and(|next| next.is_alphanumeric() || "_{}".contains(*next)) {
                    chars.next();
                }
            }
            (None, ')') if !around.is_empty() => {
                end_word(&mut word, commands);
                let (command, before, quoted) = around.pop().unwrap();
                commands.push(command);
                (word, quote) = (before + PLACEHOLDER, quoted);
            }
            (None, '#') if word.is_empty() => break,
            (None, ' ' | '\t') => end_word(&mut word, commands),
            (None, '|' | '&' | ';' | '(' | ')') => {
                end_word(&mut word, commands);
                commands.push(Vec::new());
            }
            (_, '\\') => word.extend(chars.next()),
            _ => word.push(char),
        }
    }
    end_word(&mut word, commands);
}

/// Without what is before a command's name, and without redirections.
fn simplify(words: &mut Vec<String>) {
    let assigns = |word: &String| {
        word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
        })
    };
    let before = words.iter().take_while(|word| {
        assigns(word) || ["exec", "sudo", "if", "!", "$", "then", "do"].contains(&word.as_str())
    });
    words.drain(..before.count());
    if words.first().is_some_and(|word| word == "cargo")
        && words.iter().any(|word| word == "--")
        && words.contains(&"run".to_owned())
    {
        let behind = words.iter().position(|word| word == "--").unwrap_or_default();
        words.splice(..=behind, ["outspoke".to_owned()]);
    }
    let mut at = 0;
    while at < words.len() {
        let redirects =
            words[at].trim_start_matches(|char: char| char.is_ascii_digit()).starts_with(['>', '<']);
        if redirects {
            let alone = words[at].ends_with(['>', '<']);
            words.drain(at..(at + 1 + usize::from(alone)).min(words.len()));
        } else {
            at += 1;
        }
    }
}

#[test]
fn commands_are_found_in_pipes_substitutions_and_behind_assignments() {
    let script = "A=$(outspoke key create --json) outspoke serve --set a=1 > log 2>&1 & # outspoke no\n\
                  echo \"x $(outspoke token create --user 'a b')\" | outspoke pub lobby - && true\n\
                  cat <<END\noutspoke nothing\nEND\ncargo run --release -- rooms";
    let ours: Vec<_> = commands(script)
        .into_iter()
        .filter(|words| words[0] == "outspoke")
        .map(|words| words.join(" "))
        .collect();
    let wanted = ["key create --json", "serve --set a=1", "token create --user a b", "pub lobby -", "rooms"];
    assert_eq!(ours, wanted.map(|words| format!("outspoke {words}")));
}

#[test]
fn modules_in_the_documentation_are_read_by_node() {
    none(&all_refused(&["js", "javascript"], |block| refused("node", &["--check"], &block.text, "mjs")));
    none(&all_refused(&["html"], |block| {
        let scripts = block.text.split("<script type=\"module\">").skip(1);
        let scripts = scripts.filter_map(|rest| rest.split("</script>").next()).fold(
            String::new(),
            |mut all, script| {
                let _ = write!(all, "{{{script}}}");
                all
            },
        );
        // Imports are at the head of a module, never in a block.
        let body = scripts.lines().filter(|line| !line.contains("import ")).collect::<Vec<_>>().join("\n");
        refused("node", &["--check"], &body, "mjs")
    }));
}

#[test]
fn python_and_go_in_the_documentation_can_be_parsed() {
    let parse = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
    none(&all_refused(&["python"], |block| refused("python3", &["-c", parse], &block.text, "py")));
    none(&all_refused(&["go"], |block| {
        let package = if block.text.contains("package ") { "" } else { "package shown\n" };
        refused("gofmt", &["-e", "-l"], &format!("{package}{}", block.text), "go")
    }));
}

/// Complete programs are compiled among the examples; this is for what is shown of one.
#[test]
fn rust_in_the_documentation_can_be_parsed() {
    none(&all_refused(&["rust", "rust,no_run"], |block| {
        let whole = block.text.contains("fn main(");
        let text =
            if whole { block.text.clone() } else { format!("async fn shown() {{\n{}\n}}\n", block.text) };
        refused("rustfmt", &["--edition=2024", "--check", "--config=skip_children=true"], &text, "rs")
            .filter(|said| said.contains("error"))
    }));
}

/// Explanations name the tests that hold what they promise; one that was renamed would prove nothing any more.
#[test]
fn tests_that_the_explanations_name_are_there() {
    let mut code = String::new();
    read_all(&repository("crates"), &mut code);
    let mut findings = Vec::new();
    let mut named = 0;
    for page in pages().into_iter().filter(|page| page.starts_with("docs/understanding/")) {
        let text = fs::read_to_string(repository(&page)).unwrap();
        for name in text.split('`').skip(1).step_by(2).filter(|name| is_name_of_a_test(name)) {
            named += 1;
            if !code.contains(&format!("fn {name}(")) {
                findings.push(format!("{page}: there is no test {name}"));
            }
        }
    }
    none(&findings);
    assert!(named > 15, "{named}");
}

fn is_name_of_a_test(name: &str) -> bool {
    name.matches('_').count() > 4 && name.chars().all(|char| char.is_ascii_lowercase() || char == '_')
}

fn read_all(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") {
            read_all(&path, code);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            code.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}
