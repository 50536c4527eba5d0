//! The code blocks of the documentation's pages, with the marks before them, in order.
//!
//! A mark is a comment on a line of its own, `<!-- word: rest -->`, that readers do not see. It belongs to the code block that begins
//! on the next line, or stands alone.

use std::fs;
use std::path::Path;

use crate::support::repository;

/// A code block, or a mark that stands alone.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// `docs/page.md:12`, where it begins.
    pub(crate) place: String,
    /// What is behind the opening fence; `None` for a mark alone.
    pub(crate) language: Option<String>,
    /// The mark before it: its word, and the rest.
    pub(crate) mark: Option<(String, String)>,
    /// The lines between the fences.
    pub(crate) text: String,
}

impl Block {
    /// What the mark of this word says.
    pub(crate) fn marked(&self, word: &str) -> Option<&str> {
        self.mark.as_ref().filter(|(found, _)| found == word).map(|(_, rest)| rest.as_str())
    }
}

/// Every page, relative to the repository, in order: those of `docs/`, and those at the root.
pub(crate) fn pages() -> Vec<String> {
    let mut pages: Vec<_> = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned).into();
    collect(&repository("docs"), "docs", &mut pages);
    pages.sort();
    pages
}

fn collect(folder: &Path, name: &str, pages: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            collect(&entry.path(), &name, pages);
        } else if name.ends_with(".md") {
            pages.push(name);
        }
    }
}

/// The blocks and lone marks of a page.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(repository(page)).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let mut blocks = Vec::new();
    let mut mark: Option<(usize, (String, String))> = None;
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim_start();
        let place = format!("{page}:{}", at + 1);
        at += 1;
        let Some(language) = line.strip_prefix("```") else {
            if let Some((place, mark)) = mark.take() {
                blocks.push(Block {
                    place: format!("{page}:{place}"),
                    language: None,
                    mark: Some(mark),
                    text: String::new(),
                });
            }
            mark = mark_of(line).map(|found| (at, found));
            continue;
        };
        let indent = lines[at - 1].len() - line.len();
        let mut text = String::new();
        loop {
            let line = lines.get(at).unwrap_or_else(|| panic!("{place}: the code block does not end"));
            at += 1;
            if line.trim_start().starts_with("```") {
                break;
            }
            text += line.get(indent..).unwrap_or_default();
            text += "\n";
        }
        let mark = mark.take().map(|(_, mark)| mark);
        blocks.push(Block { place, language: Some(language.to_owned()), mark, text });
    }
    blocks
}

fn mark_of(line: &str) -> Option<(String, String)> {
    let (word, rest) = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?.split_once(": ")?;
    Some((word.to_owned(), rest.to_owned()))
}
