//! Turns `ui/` with `sdk/`, `admin/`, both with `shared/`, and `figures/` into tables of assets, and their pages.
//!
//! Hashes all files of a table together (one hash for the build: relative imports inherit the prefix, so that no file
//! needs rewriting, and `ui/` imports the client as `../sdk/index.js`), fills the page's placeholders, compresses
//! what compresses, and writes the table that `src/lib.rs` includes. Of modules it leaves out the comments, and nothing else. No Node, no network: `cargo build` is the whole
//! tool chain.

mod book;

use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha1_smol::Sha1;

/// What is no part of the page: types are for the checks, the rest is for the package.
const LEFT_OUT: [&str; 4] = [".d.ts", ".md", "package.json", "tsconfig.json"];
/// Where packages put what they need; never ours.
const PACKAGES: &str = "node_modules";
/// A page: it has another address and other caching than the assets it names.
const PAGE: &str = ".html";

struct Source {
    name: String,
    bytes: Vec<u8>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut table = String::new();
    write_tables("ui", &["ui", "sdk", "shared"], &mut table)?;
    write_tables("admin", &["admin", "shared"], &mut table)?;
    write_tables("figures", &["figures"], &mut table)?;
    write_book(&mut table)?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("assets.rs"), table)?;
    Ok(())
}

/// Writes the table of the documentation's site, at addresses that stay.
fn write_book(table: &mut String) -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?).join("book");
    let mut files = book::site(&root.join("../../docs"))?;
    if !files.is_empty() {
        let mut beside = Vec::new();
        read(&root.join("book"), "", &mut beside)?;
        files.extend(
            beside.into_iter().map(|source| (source.name.trim_start_matches('/').to_owned(), source.bytes)),
        );
        files.push(("icon.svg".to_owned(), fs::read(root.join("ui/icon.svg"))?));
    }
    files.sort();
    writeln!(table, "pub(crate) static BOOK: &[(&str, Asset)] = &[")?;
    for (name, bytes) in files {
        writeln!(table, "    ({name:?}, {}),", entry(&out, &name, &bytes, false)?)?;
    }
    writeln!(table, "];")?;
    Ok(())
}

/// Writes the tables of a page and of what it loads, named for the page's folder.
fn write_tables(folder: &str, with: &[&str], table: &mut String) -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let mut sources = Vec::new();
    for folder in with {
        read(&root.join(folder), folder, &mut sources)?;
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    let out = PathBuf::from(env::var("OUT_DIR")?).join(folder);
    let build = build_hash(&sources);
    let name = folder.to_uppercase();
    writeln!(
        table,
        "/// The hash of this build of the page.\npub(crate) const {name}_BUILD: &str = {build:?};"
    )?;
    writeln!(table, "pub(crate) static {name}_ASSETS: &[(&str, Asset)] = &[")?;
    let (pages, assets): (Vec<_>, Vec<_>) = sources.iter().partition(|source| source.name.ends_with(PAGE));
    for source in assets {
        writeln!(table, "    ({:?}, {}),", source.name, entry(&out, &source.name, &source.bytes, true)?)?;
    }
    writeln!(table, "];")?;
    for source in pages {
        let page = page(&sources, source, &format!("assets/{build}"), folder)?;
        let of_page = source.name.trim_start_matches(folder).trim_matches('/').trim_end_matches(PAGE);
        writeln!(
            table,
            "pub(crate) static {name}_{}: Asset = {};",
            of_page.to_uppercase(),
            entry(&out, &source.name, page.as_bytes(), false)?
        )?;
    }
    Ok(())
}

/// The files of a folder and of those in it, named by their path from `prefix`.
fn read(folder: &Path, prefix: &str, sources: &mut Vec<Source>) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("a file name that is no UTF-8")?;
        if name.starts_with('.') || name == PACKAGES || LEFT_OUT.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        println!("cargo::rerun-if-changed={}", path.display());
        let name = format!("{prefix}/{name}");
        if path.is_dir() {
            read(&path, &name, sources)?;
        } else {
            let bytes = fs::read(&path)?;
            let bytes = if name.ends_with(".js") { uncommented(&String::from_utf8(bytes)?) } else { bytes };
            sources.push(Source { name, bytes });
        }
    }
    Ok(())
}

/// A module without its comments, which are a quarter of it on the wire: those that have lines of their own. The lines stay, empty,
/// so that a place in an error's stack is the place in the source. Invariant of the sources: no text of several lines (a template)
/// has a line that begins as a comment does.
fn uncommented(module: &str) -> Vec<u8> {
    let mut bare = String::with_capacity(module.len());
    let mut inside = false;
    for line in module.lines() {
        let text = line.trim();
        let begins = text.starts_with("/*");
        let alone =
            inside || text.starts_with("//") || begins && (text.ends_with("*/") || !text.contains("*/"));
        inside = (inside || begins) && !text.contains("*/");
        if !alone {
            bare.push_str(line);
        }
        bare.push('\n');
    }
    bare.into_bytes()
}

fn build_hash(sources: &[Source]) -> String {
    let mut hash = Sha1::new();
    for Source { name, bytes } in sources {
        hash.update(format!("{name}\0{}\0", bytes.len()).as_bytes());
        hash.update(bytes);
    }
    hash.digest().to_string()[..12].to_owned()
}

/// The page with its addresses: relative ones, so that it also works below a prefix of a proxy.
fn page(sources: &[Source], page: &Source, assets: &str, folder: &str) -> Result<String, Box<dyn Error>> {
    let page = std::str::from_utf8(&page.bytes)?;
    let mut modules = BTreeSet::new();
    for script in page.split(r#"<script type="module" src="{{assets}}/"#).skip(1) {
        let name = script.split('"').next().unwrap_or_default();
        modules_of(sources, &format!("{folder}/{name}"), &mut modules)?;
    }
    let preload: Vec<_> =
        modules.iter().map(|name| format!(r#"<link rel="modulepreload" href="{assets}/{name}">"#)).collect();
    Ok(page
        .replace("{{preload}}", &preload.join("\n"))
        .replace("{{shared}}", &format!("{assets}/shared"))
        .replace("{{assets}}", &format!("{assets}/{folder}")))
}

/// A module, and all that it imports; not what it imports when it is needed, with `import()`.
fn modules_of<'a>(
    sources: &'a [Source],
    name: &str,
    modules: &mut BTreeSet<&'a str>,
) -> Result<(), Box<dyn Error>> {
    let source = sources.iter().find(|source| source.name == name);
    let source = source.ok_or_else(|| format!("{name} is missing"))?;
    if !modules.insert(&source.name) {
        return Ok(());
    }
    for line in std::str::from_utf8(&source.bytes)?.lines() {
        let import = line.split_once(" from '").and_then(|(_, rest)| rest.strip_suffix("';"));
        if let Some(import) = import.filter(|import| import.starts_with('.')) {
            modules_of(sources, &resolve(name, import), modules)?;
        }
    }
    Ok(())
}

/// What a relative import in the module `name` means (WHATWG URL section 4.4, as far as modules need it).
fn resolve(name: &str, import: &str) -> String {
    let mut path: Vec<_> = name.split('/').collect();
    path.pop();
    for part in import.split('/') {
        match part {
            "." => {}
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    path.join("/")
}

/// Writes the bytes, and the compressed ones where that saves anything, and names them.
fn entry(out: &Path, name: &str, bytes: &[u8], immutable: bool) -> Result<String, Box<dyn Error>> {
    let plain = out.join(name);
    fs::create_dir_all(plain.parent().ok_or("a file without a folder")?)?;
    fs::write(&plain, bytes)?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    let packed = encoder.finish()?;
    let gzip = if packed.len() < bytes.len() {
        let path = out.join(format!("{name}.gz"));
        fs::write(&path, &packed)?;
        format!("Some(include_bytes!({path:?}))")
    } else {
        "None".to_owned()
    };
    let etag = format!("\"{}\"", &Sha1::from(bytes).digest().to_string()[..16]);
    Ok(format!(
        "Asset {{ bytes: include_bytes!({plain:?}), gzip: {gzip}, mime: {:?}, etag: {etag:?}, immutable: {immutable} }}",
        mime(name)?
    ))
}

fn mime(name: &str) -> Result<&'static str, String> {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => Ok("text/html; charset=utf-8"),
        Some("js") => Ok("text/javascript; charset=utf-8"),
        Some("css") => Ok("text/css; charset=utf-8"),
        Some("json") => Ok("application/json"),
        Some("svg") => Ok("image/svg+xml"),
        Some("png") => Ok("image/png"),
        Some("webmanifest") => Ok("application/manifest+json"),
        _ => Err(format!("{name}: say in build.rs which type such a file has")),
    }
}
