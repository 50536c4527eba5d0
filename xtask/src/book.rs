//! The documentation as an mdBook, into `target/book`. In CI the same list is checked by the repository's tests and rendered by
//! `crates/web`, without the minutes that building mdBook takes.
//!
//! Pages link to files beside them in the repository, which a book does not have: those links get the repository's address.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::context::Context;

/// Where the repository shows a file or a folder.
const REPOSITORY: &str = "https://github.com/outspoke/outspoke/blob/main";

/// Builds it. Fails where a link leads nowhere.
pub(crate) fn build(ctx: &Context) -> Result<bool> {
    let folder = ctx.target.join("book");
    let mut build = ctx.command(crate::tools::MDBOOK.ensure(ctx)?);
    if !build.current_dir(&ctx.root).args(["build", "--dest-dir"]).arg(&folder).status()?.success() {
        return Ok(false);
    }
    let book = Book { root: ctx.root.canonicalize()?, folder };
    let mut lost = Vec::new();
    for page in book.pages()? {
        let whole = book.folder.join(&page);
        let html = book.linked(&page, &fs::read_to_string(&whole)?, &mut lost);
        fs::write(whole, html)?;
    }
    ensure!(lost.is_empty(), "links lead nowhere; correct them in docs/:\n{}", lost.join("\n"));
    Ok(true)
}

/// The repository, and the book made of its `docs/`.
struct Book {
    root: PathBuf,
    folder: PathBuf,
}

impl Book {
    /// Every page, as a path in the book.
    fn pages(&self) -> Result<Vec<PathBuf>> {
        let (mut pages, mut folders) = (Vec::new(), vec![self.folder.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "html") {
                    pages.push(path.strip_prefix(&self.folder)?.to_owned());
                }
            }
        }
        Ok(pages)
    }

    /// A page with its links out of the book changed; those that lead nowhere are added to `lost`.
    fn linked(&self, page: &Path, html: &str, lost: &mut Vec<String>) -> String {
        let mut pieces = html.split("href=\"");
        let mut linked = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (link, rest) = piece.split_once('"').unwrap_or((piece, ""));
            linked.push_str("href=\"");
            match self.outward(page, link) {
                Some(Ok(address)) => linked.push_str(&address),
                Some(Err(())) => lost.push(format!("{}: {link}", page.display())),
                None => linked.push_str(link),
            }
            linked.push('"');
            linked.push_str(rest);
        }
        linked
    }

    /// Of a link that leaves the book: where it leads, if anywhere.
    fn outward(&self, page: &Path, link: &str) -> Option<Result<String, ()>> {
        let (path, anchor) = link.find('#').map_or((link, ""), |at| link.split_at(at));
        let here = page.parent().unwrap_or(Path::new(""));
        if path.is_empty()
            || path.contains(':')
            || path.starts_with('/')
            || self.folder.join(here).join(path).is_file()
        {
            return None;
        }
        let written = self.root.join("docs").join(here).join(path);
        // mdBook takes every .md for a page of its own.
        let found = [written.clone(), written.with_extension("md")].into_iter().find(|path| path.exists());
        let found = found.and_then(|path| path.canonicalize().ok());
        let inside = found.and_then(|path| Some(path.strip_prefix(&self.root).ok()?.display().to_string()));
        Some(inside.map(|path| format!("{REPOSITORY}/{path}{anchor}")).ok_or(()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn book_links_stay_inside_or_lead_to_the_repository() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let book = Book { folder: root.join("book"), root: root.clone() };
        for file in ["docs/a/page.md", "CHANGES.md", "deploy/unit", "book/a/page.html", "book/a/other.html"] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        assert_eq!(book.pages().unwrap().len(), 2);
        let mut lost = Vec::new();
        let html = r##"<a href="other.html#x">1</a><a href="../../CHANGES.html#y">2</a><a href="../../deploy">3</a>
            <a href="https://a.example/">4</a><a href="#z">5</a><base href="/">"##;
        let linked = book.linked(Path::new("a/page.html"), html, &mut lost);
        let expected = html
            .replace("../../CHANGES.html", &format!("{REPOSITORY}/CHANGES.md"))
            .replace("../../deploy", &format!("{REPOSITORY}/deploy"));
        assert_eq!((linked, lost.len()), (expected, 0));
        book.linked(Path::new("a/page.html"), r#"<a href="gone.html">1</a>"#, &mut lost);
        assert_eq!(lost, ["a/page.html: gone.html"]);
    }
}
