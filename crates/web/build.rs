//! Turns `ui/` and `figures/` into tables of assets, one for each folder, and its pages.
//!
//! Hashes all files together (one hash for the build: relative imports inherit the prefix, so that no file
//! needs rewriting), fills the page's two placeholders, compresses what compresses, and writes the table that
//! `src/lib.rs` includes. No Node, no network: `cargo build` is the whole tool chain.

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

/// What is no part of the page: types are for the checks.
const LEFT_OUT: &str = ".d.ts";
/// A page: it has another address and other caching than the assets it names.
const PAGE: &str = ".html";

struct Source {
    name: String,
    bytes: Vec<u8>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut table = String::new();
    for folder in ["ui", "figures"] {
        write_tables(folder, &mut table)?;
    }
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("assets.rs"), table)?;
    Ok(())
}

/// Writes the tables of a page, named for its folder.
fn write_tables(folder: &str, table: &mut String) -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join(folder);
    println!("cargo::rerun-if-changed={}", path.display());
    let sources = read(&path)?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join(folder);
    fs::create_dir_all(&out)?;
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
        let page = page(&sources, source, &format!("assets/{build}/{folder}"))?;
        let of_page = source.name.trim_end_matches(PAGE).to_uppercase();
        writeln!(
            table,
            "pub(crate) static {name}_{of_page}: Asset = {};",
            entry(&out, &source.name, page.as_bytes(), false)?
        )?;
    }
    Ok(())
}

/// The files of a folder, by name: the order decides the hash, and directories have none.
fn read(folder: &Path) -> Result<Vec<Source>, Box<dyn Error>> {
    let mut sources = Vec::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        println!("cargo::rerun-if-changed={}", path.display());
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("a file name that is no UTF-8")?;
        if !path.is_file() || name.starts_with('.') || name.ends_with(LEFT_OUT) {
            continue;
        }
        sources.push(Source { name: name.to_owned(), bytes: fs::read(&path)? });
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sources)
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
fn page(sources: &[Source], page: &Source, assets: &str) -> Result<String, Box<dyn Error>> {
    let page = std::str::from_utf8(&page.bytes)?;
    let mut modules = BTreeSet::new();
    for script in page.split(r#"<script type="module" src="{{assets}}/"#).skip(1) {
        let name = script.split('"').next().unwrap_or_default();
        modules_of(sources, name, &mut modules)?;
    }
    let preload: Vec<_> =
        modules.iter().map(|name| format!(r#"<link rel="modulepreload" href="{assets}/{name}">"#)).collect();
    Ok(page.replace("{{preload}}", &preload.join("\n")).replace("{{assets}}", assets))
}

/// A module, and all that it imports.
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
        if let Some(import) = line.split_once(" from './").and_then(|(_, rest)| rest.strip_suffix("';")) {
            modules_of(sources, import, modules)?;
        }
    }
    Ok(())
}

/// Writes the bytes, and the compressed ones where that saves anything, and names them.
fn entry(out: &Path, name: &str, bytes: &[u8], immutable: bool) -> Result<String, Box<dyn Error>> {
    let plain = out.join(name);
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
        Some("svg") => Ok("image/svg+xml"),
        Some("png") => Ok("image/png"),
        _ => Err(format!("{name}: say in build.rs which type such a file has")),
    }
}
