//! The documentation as pages of the binary: `docs/` in Markdown becomes HTML that a browser reads without a script.
//!
//! `docs/SUMMARY.md` says which pages there are, in which order and under which headings; a test of the repository says which is missing. Links between
//! pages stay links between pages; those to other files of the repository go to where it is published. Every section goes into an index that the
//! pages' only script searches. All addresses are relative, so the pages work below any prefix. A published package is without `docs/`, and so
//! without pages.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use pulldown_cmark::{Alignment, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// What is no page of the site is looked at here.
const REPOSITORY: &str = "https://github.com/outspoke/outspoke";
/// Of a section, as much text is searched and shown.
const EXCERPT_CHARS: usize = 400;

/// A file of the site: its address below `/docs/`, and its bytes.
pub(crate) type File = (String, Vec<u8>);

/// A page of the list.
struct Page {
    /// Below `docs/`, as in the list: `operating/tls.md`.
    source: String,
    title: String,
    /// The heading of the list that it stands under.
    part: String,
}

impl Page {
    /// Below `/docs/`.
    fn address(&self) -> String {
        address_of(&self.source)
    }
}

/// `README.md` is the page of its folder.
fn address_of(source: &str) -> String {
    let stem = source.trim_end_matches(".md");
    match stem.strip_suffix("README") {
        Some(folder) => format!("{folder}index.html"),
        None => format!("{stem}.html"),
    }
}

/// A section, for the search.
struct Section {
    address: String,
    title: String,
    heading: String,
    text: String,
}

/// The files of the site, by their address below `/docs/`: pages, and the index of what they say.
pub(crate) fn site(docs: &Path) -> Result<Vec<File>, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", docs.join("SUMMARY.md").display());
    let Ok(summary) = fs::read_to_string(docs.join("SUMMARY.md")) else { return Ok(Vec::new()) };
    let pages = listed(&summary);
    let known: BTreeSet<_> = pages.iter().map(|page| page.source.as_str()).collect();
    let mut files = Vec::new();
    let mut sections = Vec::new();
    for (at, page) in pages.iter().enumerate() {
        let file = docs.join(&page.source);
        println!("cargo::rerun-if-changed={}", file.display());
        let markdown = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let body = rendered(page, &markdown, &known, &mut sections);
        files.push((page.address(), whole(&pages, at, &body).into_bytes()));
    }
    files.push(("search.json".to_owned(), index(&sections).into_bytes()));
    Ok(files)
}

/// The pages of a list in mdBook's form.
fn listed(summary: &str) -> Vec<Page> {
    let mut part = String::new();
    let mut pages = Vec::new();
    for line in summary.lines().skip(1) {
        if let Some(heading) = line.strip_prefix("# ") {
            heading.clone_into(&mut part);
        }
        let entry = line.trim_start().trim_start_matches("- ").strip_prefix('[');
        if let Some((title, rest)) = entry.and_then(|entry| entry.split_once("](")) {
            let source = rest.trim_end_matches(')').to_owned();
            pages.push(Page { source, title: title.to_owned(), part: part.clone() });
        }
    }
    pages
}

/// The content of a page, and its sections for the search.
fn rendered(page: &Page, markdown: &str, known: &BTreeSet<&str>, sections: &mut Vec<Section>) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut events: Vec<_> = Parser::new_ext(markdown, options).collect();
    let mut slugs = BTreeMap::new();
    let mut heading = None;
    let begin = |heading: &str, id: &str| Section {
        address: if id.is_empty() { page.address() } else { format!("{}#{id}", page.address()) },
        title: page.title.clone(),
        heading: heading.to_owned(),
        text: String::new(),
    };
    let mut section = begin(&page.title, "");
    for at in 0..events.len() {
        match &events[at] {
            Event::Start(Tag::Heading { level, .. }) => heading = Some((at, *level, String::new())),
            Event::End(TagEnd::Heading(_)) => {
                let Some((start, level, text)) = heading.take() else { continue };
                let id = slug(&text, &mut slugs);
                if level > HeadingLevel::H1 {
                    sections.push(std::mem::replace(&mut section, begin(&text, &id)));
                }
                if let Event::Start(Tag::Heading { id: of_tag, .. }) = &mut events[start] {
                    *of_tag = Some(CowStr::from(id));
                }
            }
            Event::Text(text) | Event::Code(text) => match &mut heading {
                Some((_, _, heading)) => heading.push_str(text),
                None if section.text.len() < EXCERPT_CHARS => section.text.push_str(text),
                None => {}
            },
            Event::SoftBreak
            | Event::HardBreak
            | Event::End(TagEnd::Paragraph | TagEnd::TableCell | TagEnd::Item) => {
                section.text.push(' ');
            }
            _ => {}
        }
    }
    sections.push(section);
    let mut out = String::new();
    html::push_html(&mut out, events.into_iter().flat_map(|event| shown(event, page, known)));
    // A heading that says nothing is a cell, to who is read the page aloud.
    out.replace("<th></th>", "<td></td>")
}

/// An event as it is shown: links lead on, wide things can be scrolled with a keyboard, comments are left out.
fn shown<'a>(event: Event<'a>, page: &Page, known: &BTreeSet<&str>) -> Vec<Event<'a>> {
    let raw = |html: &'static str| Event::Html(CowStr::from(html));
    match event {
        Event::Html(text) | Event::InlineHtml(text) if text.trim_start().starts_with("<!--") => Vec::new(),
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            let dest_url = CowStr::from(target(&dest_url, page, known));
            vec![Event::Start(Tag::Link { link_type, dest_url, title, id })]
        }
        // Columns that are aligned would carry a style, which the policy forbids.
        Event::Start(Tag::Table(columns)) => vec![
            raw("<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Table\">"),
            Event::Start(Tag::Table(vec![Alignment::None; columns.len()])),
        ],
        Event::End(TagEnd::Table) => vec![Event::End(TagEnd::Table), raw("</div>")],
        Event::Start(Tag::CodeBlock(kind)) => {
            vec![
                raw("<div class=\"scroll code\" tabindex=\"0\" role=\"group\" aria-label=\"Code\">"),
                Event::Start(Tag::CodeBlock(kind)),
            ]
        }
        Event::End(TagEnd::CodeBlock) => vec![Event::End(TagEnd::CodeBlock), raw("</div>")],
        event => vec![event],
    }
}

/// Where a link of a page leads in the site.
fn target(link: &str, page: &Page, known: &BTreeSet<&str>) -> String {
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    if path.is_empty() || path.contains(':') {
        return link.to_owned();
    }
    let mut parts: Vec<_> = page.source.split('/').collect();
    // From the root of the repository, which links may climb to.
    parts.insert(0, "docs");
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let file = parts.join("/");
    let anchor = anchor.map(|anchor| format!("#{anchor}")).unwrap_or_default();
    match file.strip_prefix("docs/").filter(|source| known.contains(source)) {
        Some(source) => format!("{}{}{anchor}", to_root(&page.source), address_of(source)),
        None => {
            let folder = !file.rsplit('/').next().unwrap_or_default().contains('.');
            let kind = if folder { "tree" } else { "blob" };
            format!("{REPOSITORY}/{kind}/main/{file}{anchor}")
        }
    }
}

/// The way from a page to `/docs/`.
fn to_root(source: &str) -> String {
    "../".repeat(source.matches('/').count())
}

/// The anchor of a heading, as GitHub makes it.
fn slug(heading: &str, seen: &mut BTreeMap<String, usize>) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    let slug: String = kept.map(|char| if char == ' ' { '-' } else { char }).collect();
    let times = seen.entry(slug.clone()).or_default();
    *times += 1;
    if *times == 1 { slug } else { format!("{slug}-{}", *times - 1) }
}

/// The page with all that is around its content.
fn whole(pages: &[Page], at: usize, body: &str) -> String {
    let page = &pages[at];
    let root = to_root(&page.source);
    let mut list = String::new();
    let mut part = "";
    for (number, other) in pages.iter().enumerate() {
        if other.part != part {
            let end = if number == 0 { "" } else { "</ul>" };
            let _ = write!(list, "{end}<h2>{}</h2><ul>", escaped(&other.part));
            part = &other.part;
        } else if number == 0 {
            list.push_str("<ul>");
        }
        let current = if number == at { " aria-current=\"page\"" } else { "" };
        let _ = write!(
            list,
            "<li><a href=\"{root}{}\"{current}>{}</a></li>",
            other.address(),
            escaped(&other.title)
        );
    }
    list.push_str("</ul>");
    let step = |other: Option<&Page>, rel: &str, word: &str| {
        other.map_or_else(String::new, |other| {
            format!(
                "<a rel=\"{rel}\" href=\"{root}{}\">{word}: {}</a>",
                other.address(),
                escaped(&other.title)
            )
        })
    };
    let before = step(at.checked_sub(1).map(|before| &pages[before]), "prev", "Before");
    let next = step(pages.get(at + 1), "next", "Next");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title} - Outspoke</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"stylesheet\" href=\"{root}book.css\">\n<link rel=\"icon\" href=\"{root}icon.svg\">\n\
         <script type=\"module\" src=\"{root}book.js\"></script>\n</head>\n<body data-root=\"{root}\">\n\
         <a class=\"skip\" href=\"#content\">Skip to the page</a>\n\
         <header><p><a href=\"{root}index.html\">Outspoke</a></p>\n\
         <div id=\"search\" role=\"search\" hidden><label for=\"words\">Search</label> <input id=\"words\" type=\"search\" autocomplete=\"off\">\
         <p id=\"count\" role=\"status\"></p><ul id=\"found\"></ul></div></header>\n\
         <div class=\"columns\">\n<nav aria-label=\"Pages\"><details open><summary>Pages</summary>{list}</details></nav>\n\
         <main id=\"content\" tabindex=\"-1\">\n{body}<nav class=\"steps\" aria-label=\"Neighbours\">{before}{next}</nav>\n</main>\n</div>\n</body>\n</html>\n",
        title = escaped(&page.title),
    )
}

/// The sections as JSON: `[address, page, heading, text]` each.
fn index(sections: &[Section]) -> String {
    let mut out = String::from("[\n");
    for (number, section) in sections.iter().enumerate() {
        let comma = if number == 0 { "" } else { ",\n" };
        let text: String = section
            .text
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .take(EXCERPT_CHARS)
            .collect();
        let fields = [&section.address, &section.title, &section.heading, &text].map(|field| quoted(field));
        let _ = write!(out, "{comma}[{}]", fields.join(","));
    }
    out.push_str("\n]\n");
    out
}

/// A string of JSON (RFC 8259 section 7).
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if u32::from(char) < 0x20 => out.push(' '),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
