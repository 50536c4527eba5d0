//! The pages of reference that are written from the source: every error, and every route of the HTTP API.
//!
//! `UPDATE=1 cargo test -p outspoke --test cli reference` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::{json_lines, repository};

const MARK: &str = "<!-- Generated from the code: UPDATE=1 cargo test -p outspoke --test cli reference -->\n";

fn is_or_becomes(page: &str, wanted: &str) {
    let path = repository(page);
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(path, wanted).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(found == wanted, "{page} lags behind; run: UPDATE=1 cargo test -p outspoke --test cli reference");
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

/// What a person who meets a code reads here is what `outspoke explain` says in a terminal.
#[test]
fn reference_page_of_errors_says_what_explain_says() {
    let mut explain = Command::new(env!("CARGO_BIN_EXE_outspoke"));
    explain.args(["explain", "--json"]).env_clear();
    explain.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
    let output = explain.output().unwrap();
    let entries = json_lines(&String::from_utf8(output.stdout).unwrap());
    assert!(entries.len() > 50, "{}", entries.len());
    let mut page = format!(
        "# Errors\n\n{MARK}\nEvery code that the server, its API and its command line give, and what to do about it. `outspoke explain CODE` says the \
         same in a terminal; what a program does with them is told in [codes](../protocol/codes.md).\n"
    );
    let kinds = [
        (
            "error",
            "Errors of requests",
            "On the wire and in the bodies of HTTP answers. The connection stays. *Later* says that the same request may succeed another time.",
        ),
        (
            "close code",
            "Close codes",
            "In the close frame that ends a connection. *Back* says that a client comes back by itself.",
        ),
        (
            "HTTP status",
            "Refusals of HTTP alone",
            "Where the reason is HTTP's own; otherwise the body has one of the errors above.",
        ),
        ("exit code", "Exit codes", "Of the program `outspoke`."),
    ];
    let mut told = 0;
    for (kind, heading, about) in kinds {
        let _ = writeln!(
            page,
            "\n## {heading}\n\n{about}\n\n| Code | Name | | Means | What to do |\n| --- | --- | --- | --- | --- |"
        );
        for entry in entries.iter().filter(|entry| entry["kind"] == kind) {
            told += 1;
            let text = |field: &str| cell(entry[field].as_str().unwrap_or_default());
            let flag = match (&entry["temporary"], &entry["reconnect"]) {
                (Value::Bool(true), _) => "later",
                (_, Value::Bool(true)) => "back",
                _ => "",
            };
            let _ = writeln!(
                page,
                "| {} | `{}` | {flag} | {} | {} |",
                entry["code"],
                text("name"),
                text("meaning"),
                text("hint")
            );
        }
    }
    assert_eq!(told, entries.len(), "an entry of a kind that the page does not know");
    is_or_becomes("docs/reference/errors.md", &page);
}

/// The description for machines, for people.
#[test]
fn reference_page_of_the_http_api_has_every_operation_of_its_description() {
    let api: Value =
        serde_json::from_str(&fs::read_to_string(repository("crates/server/openapi.json")).unwrap()).unwrap();
    let mut groups: BTreeMap<&str, String> = BTreeMap::new();
    for (path, operations) in api["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if !operation["operationId"].is_string() {
                continue;
            }
            let group = groups.entry(operation["tags"][0].as_str().unwrap_or("Other")).or_default();
            describe(&api, &method.to_uppercase(), path, operation, group);
        }
    }
    let mut page = format!(
        "# Every operation of the HTTP API\n\n{MARK}\nBelow `/api/v1`. How keys, tenants, refusals and pages of results work is told in \
         [the HTTP API](../operating/http-api.md); the same for programs is [openapi.json](../../crates/server/openapi.json), which the server has at \
         `/api/v1/openapi.json`, with the form of every body.\n"
    );
    for (tag, text) in groups {
        let _ = write!(page, "\n## {tag}\n{text}");
    }
    is_or_becomes("docs/reference/http-api.md", &page);
}

fn describe(api: &Value, method: &str, path: &str, operation: &Value, out: &mut String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let _ =
        writeln!(out, "\n### {method} {}\n\n{}.", path.replace(['{', '}'], ""), text(&operation["summary"]));
    if operation["description"].is_string() {
        let _ = writeln!(out, "{}", text(&operation["description"]));
    }
    let _ = writeln!(out, "\n`{method} /api/v1{path}`");
    let parameters: Vec<_> = operation["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|parameter| followed(api, parameter))
        .collect();
    if !parameters.is_empty() {
        out.push_str("\n| Parameter | In | |\n| --- | --- | --- |\n");
        for parameter in parameters {
            let about = cell(&text(&parameter["description"])).replace('\n', " ");
            let _ =
                writeln!(out, "| `{}` | {} | {about} |", text(&parameter["name"]), text(&parameter["in"]));
        }
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    let fields: Vec<_> = followed(api, body)["properties"].as_object().into_iter().flatten().collect();
    if !fields.is_empty() {
        out.push_str("\n| Field of the body | |\n| --- | --- |\n");
        for (name, field) in fields {
            let field = followed(api, field);
            let _ = writeln!(out, "| `{name}` | {} |", cell(&text(&field["description"])).replace('\n', " "));
        }
    }
    out.push_str("\n| Answer | |\n| --- | --- |\n");
    for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
        let about = cell(&text(&followed(api, answer)["description"])).replace('\n', " ");
        let _ = writeln!(out, "| {status} | {about} |");
    }
}

/// What a reference stands for.
fn followed<'a>(api: &'a Value, value: &'a Value) -> &'a Value {
    value["$ref"]
        .as_str()
        .and_then(|reference| api.pointer(reference.trim_start_matches('#')))
        .unwrap_or(value)
}
