//! The README's chart is drawn from the committed figures, and the capacity guide's table shows them.
//!
//! `UPDATE=1 cargo test -p xtask --test repository` draws and writes them again.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::tree::root;

const FIGURES: &str = "crates/bench/measured.json";
const CHART: &str = "docs/images/benchmarks.svg";
const GUIDE: &str = "docs/operating/capacity.md";

/// Width of the picture, of the names at its left and of the longest bar, in its own units.
const WIDTH: u32 = 900;
const NAMES: u32 = 210;
const BAR: f64 = 520.0;
const ROW: u32 = 24;

fn figures() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join(FIGURES)).unwrap()).unwrap()
}

/// The file as it should be; written with `UPDATE=1`.
fn held(path: &str, text: &str) {
    let path = root().join(path);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, text).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "{} is not what the figures say; write it with UPDATE=1", path.display());
}

/// Whole numbers with commas, small ones as they are.
fn number(value: f64) -> String {
    if value < 1000.0 {
        return value.to_string();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn drawn(figures: &Value) -> String {
    let (mut body, mut words, mut y) = (String::new(), Vec::new(), 34);
    for case in figures["comparison"]["cases"].as_array().unwrap() {
        let (title, unit) = (case["title"].as_str().unwrap(), case["unit"].as_str().unwrap());
        writeln!(body, "<text class=\"title\" x=\"0\" y=\"{y}\">{title}</text>").unwrap();
        y += 12;
        let bars = case["bars"].as_array().unwrap();
        let most = bars.iter().map(|bar| bar["value"].as_f64().unwrap()).fold(0.0, f64::max);
        for bar in bars {
            let (name, value) = (bar["name"].as_str().unwrap(), bar["value"].as_f64().unwrap());
            let kind = if name == "Outspoke" { "own" } else { "other" };
            let (width, middle) = ((value / most * BAR).max(2.0), y + 16);
            let said = format!("{} {unit}", number(value));
            writeln!(body, "<text x=\"0\" y=\"{middle}\">{name}</text>").unwrap();
            writeln!(
                body,
                "<rect class=\"{kind}\" x=\"{NAMES}\" y=\"{y}\" width=\"{width:.1}\" height=\"18\" rx=\"2\"/>"
            )
            .unwrap();
            let x = f64::from(NAMES) + width + 8.0;
            writeln!(body, "<text x=\"{x:.1}\" y=\"{middle}\">{said}</text>").unwrap();
            words.push(format!("{title}: {name} {said}"));
            y += ROW;
        }
        y += 26;
    }
    let foot = figures["comparison"]["foot"].as_str().unwrap();
    writeln!(body, "<text class=\"foot\" x=\"0\" y=\"{y}\">{foot}</text>").unwrap();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" width=\"{WIDTH}\" role=\"img\" aria-labelledby=\"t\">\n\
         <title id=\"t\">{}</title>\n\
         <style>\n\
         text {{ font: 14px system-ui, sans-serif; fill: #1f2328 }}\n\
         .title {{ font-weight: 600 }} .foot {{ font-size: 12px; fill: #59636e }}\n\
         .own {{ fill: #0b6bcb }} .other {{ fill: #8c959f }}\n\
         @media (prefers-color-scheme: dark) {{\n\
         text {{ fill: #f0f6fc }} .foot {{ fill: #9198a1 }} .own {{ fill: #58a6ff }} .other {{ fill: #6e7681 }}\n\
         }}\n\
         </style>\n{body}</svg>\n",
        y + 14,
        words.join("; "),
    )
}

/// A picture of figures that are not there is worth nothing.
#[test]
fn chart_of_the_readme_is_drawn_from_the_committed_figures() {
    held(CHART, &drawn(&figures()));
}

/// What the planner multiplies is what the page says.
#[test]
fn capacity_guide_shows_the_committed_figures() {
    let figures = figures();
    let page = fs::read_to_string(root().join(GUIDE)).unwrap();
    let (head, rest) = page.split_once("<!-- figures -->\n").expect("the page has a place for the figures");
    let (_, tail) = rest.split_once("<!-- end of figures -->").expect("the figures end");
    let mut table = String::from("| name | what | value | measured by |\n| --- | --- | ---: | --- |\n");
    for (name, figure) in figures["figures"].as_object().unwrap() {
        let [what, command] = ["what", "command"].map(|key| figure[key].as_str().unwrap());
        let value = number(figure["value"].as_f64().unwrap());
        writeln!(table, "| `{name}` | {what} | {value} | `{command}` |").unwrap();
    }
    held(GUIDE, &format!("{head}<!-- figures -->\n{table}<!-- end of figures -->{tail}"));
}
