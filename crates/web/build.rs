//! Turns `ui/` and `figures/` into tables of assets, one for each page.
//!
//! Hashes all files together (one hash for the build: relative imports inherit the prefix, so that no file
//! needs rewriting), fills the page's two placeholders, compresses what compresses, and writes the table that
//! `src/lib.rs` includes. No Node, no network: `cargo build` is the whole tool chain.

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
/// The page itself: it has another address and other caching than the assets it names.
const PAGE: &str = "index.html";
/// A classic script, which the page names by itself: it must not be preloaded as a module.
const CLASSIC: &str = "boot.js";

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
    for source in sources.iter().filter(|source| source.name != PAGE) {
        writeln!(table, "    ({:?}, {}),", source.name, entry(&out, &source.name, &source.bytes, true)?)?;
    }
    writeln!(table, "];")?;
    let page = page(&sources, &format!("assets/{build}/{folder}"))?;
    writeln!(
        table,
        "pub(crate) static {name}_INDEX: Asset = {};",
        entry(&out, PAGE, page.as_bytes(), false)?
    )?;
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
fn page(sources: &[Source], assets: &str) -> Result<String, Box<dyn Error>> {
    let source = sources.iter().find(|source| source.name == PAGE).ok_or("index.html is missing")?;
    let mut preload = Vec::new();
    for Source { name, .. } in sources {
        if name.ends_with(".js") && name != CLASSIC {
            preload.push(format!(r#"<link rel="modulepreload" href="{assets}/{name}">"#));
        }
    }
    let page = std::str::from_utf8(&source.bytes)?;
    Ok(page.replace("{{preload}}", &preload.join("\n")).replace("{{assets}}", assets))
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
