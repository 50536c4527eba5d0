//! The web chat, the operators' pages and the JavaScript client, as bytes ready to serve.
//!
//! The pages' sources are in `ui/`, `admin/` and `figures/`, what they share in `shared/`, the client's in `sdk/`: plain ES
//! modules, which the browser runs as they are. `build.rs` puts them into this crate together with their compressed form, so the server needs no file beside its
//! binary and the build needs no Node. Answering requests (conditional ones, `Accept-Encoding`) is the server's work.
//!
//! Invariants: an [`Asset`] that is `immutable` never changes under its address, because the address holds the
//! hash of the whole build; the page itself is the only thing to be asked for anew.

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// One file to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    /// The content as it is.
    pub bytes: &'static [u8],
    /// The same, for clients that accept `gzip`; `None` where compression gains nothing.
    pub gzip: Option<&'static [u8]>,
    /// The `Content-Type`.
    pub mime: &'static str,
    /// A strong `ETag`, quotes included. It names the content, not its encoding: a compressed answer needs a
    /// weak one (`W/` before it) or one of its own (RFC 9110 section 8.8.3).
    pub etag: &'static str,
    /// Whether the address holds the hash of the content, so that no one ever needs to ask again.
    pub immutable: bool,
}

impl Asset {
    /// The `Cache-Control` that goes with it.
    #[must_use]
    pub const fn cache_control(&self) -> &'static str {
        if self.immutable { "public, max-age=31536000, immutable" } else { "no-cache" }
    }
}

/// The page, for `/`.
#[must_use]
pub fn index() -> Asset {
    UI_INDEX
}

/// The page of figures, for operators, for `/analytics`.
#[must_use]
pub fn figures() -> Asset {
    FIGURES_INDEX
}

/// The page of the nodes of a cluster, for operators, for `/nodes`.
#[must_use]
pub fn nodes() -> Asset {
    FIGURES_NODES
}

/// The operators' page, for `/admin`.
#[must_use]
pub fn admin() -> Asset {
    ADMIN_INDEX
}

/// The hash of this build of the page: the second part of its assets' addresses.
#[must_use]
pub const fn build_hash() -> &'static str {
    UI_BUILD
}

/// The file at a request's path, such as `/assets/0123456789ab/ui/main.js`.
///
/// Anything else is `None`, also another build's hash: serving this build's file under it would put two
/// builds into one page and keep it there for a year.
#[must_use]
pub fn asset(path: &str) -> Option<Asset> {
    let path = path.strip_prefix("/assets/")?;
    let (build, name) = path.split_once('/')?;
    let assets = match build {
        UI_BUILD => UI_ASSETS,
        ADMIN_BUILD => ADMIN_ASSETS,
        FIGURES_BUILD => FIGURES_ASSETS,
        _ => return None,
    };
    find(assets, name)
}

/// The JavaScript client for other sites' pages, at addresses that stay: `/client/outspoke.js`, and the modules beside it,
/// such as `/client/chat.js`.
///
/// The address says nothing of the build, so it is to be asked for anew each time; the answer is mostly 304.
#[must_use]
pub fn client(path: &str) -> Option<Asset> {
    let name = path.strip_prefix("/client/")?;
    let name = if name == "outspoke.js" { "index.js" } else { name };
    find(UI_ASSETS, &format!("sdk/{name}")).map(|asset| Asset { immutable: false, ..asset })
}

/// A file of the documentation's site, by what follows `/docs/` in its address; a folder's name means its first page.
///
/// `None` for everything where the crate was built without the repository's `docs/`.
#[must_use]
pub fn docs(path: &str) -> Option<Asset> {
    if path.is_empty() || path.ends_with('/') {
        find(BOOK, &format!("{path}index.html"))
    } else {
        find(BOOK, path)
    }
}

fn find(assets: &[(&str, Asset)], name: &str) -> Option<Asset> {
    let at = assets.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    Some(assets[at].1)
}

/// What answers with the client carry: any page may import it (Fetch section 3.2, CORP), since it is the same for everybody.
#[must_use]
pub fn client_headers() -> &'static [(&'static str, &'static str)] {
    &[
        ("access-control-allow-origin", "*"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("x-content-type-options", "nosniff"),
    ]
}

/// What every answer with the page or an asset carries.
///
/// The policy lets the page load only what this server serves, forbids inline scripts and styles, and turns
/// on Trusted Types, with which a script cannot make markup of text at all. `connect-src 'self'` covers
/// WebSockets to the same host and port (CSP level 3, section 6.7.2.8).
#[must_use]
pub fn security_headers() -> &'static [(&'static str, &'static str)] {
    &[
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
             connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types outspoke",
        ),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("referrer-policy", "no-referrer"),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;
    use std::io::Read;

    use super::{
        ADMIN_ASSETS, ADMIN_BUILD, Asset, BOOK, FIGURES_ASSETS, UI_ASSETS, admin, asset, build_hash, client,
        client_headers, docs, figures, find, index, nodes, security_headers,
    };

    /// Every file of every page.
    fn all_assets() -> impl Iterator<Item = &'static (&'static str, Asset)> {
        UI_ASSETS.iter().chain(ADMIN_ASSETS).chain(FIGURES_ASSETS)
    }

    fn text(asset: Asset) -> &'static str {
        std::str::from_utf8(asset.bytes).unwrap()
    }

    /// The addresses in the page, as a browser at `/` asks for them.
    fn addresses_in_page() -> Vec<String> {
        addresses_in(index())
    }

    fn addresses_in(page: Asset) -> Vec<String> {
        let page = text(page);
        let quoted = page.split('"').skip(1).step_by(2);
        quoted.filter(|value| value.starts_with("assets/")).map(|value| format!("/{value}")).collect()
    }

    /// Where a link of a page of the documentation leads, below `/docs/`.
    fn resolved(page: &str, link: &str) -> String {
        let mut parts: Vec<_> = page.split('/').collect();
        parts.pop();
        for part in link.split('/') {
            if part == ".." {
                parts.pop();
            } else {
                parts.push(part);
            }
        }
        parts.join("/")
    }

    /// A link that leads nowhere, or a script in a page, would be found by readers only.
    #[test]
    fn every_link_of_the_documentation_leads_to_a_page_and_a_section_of_it() {
        let mut wrong = Vec::new();
        let pages = BOOK.iter().filter(|(name, _)| name.ends_with(".html"));
        for (name, page) in pages.clone() {
            let html = text(*page);
            assert!(
                !html.contains("<script>") && !html.contains(" style=") && !html.contains(" onclick="),
                "{name}"
            );
            for link in html.split(" href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
                if path.contains(':') {
                    continue;
                }
                let address = if path.is_empty() { (*name).to_owned() } else { resolved(name, path) };
                let there = docs(&address);
                let section =
                    |asset: Asset| anchor.is_empty() || text(asset).contains(&format!(" id=\"{anchor}\""));
                if !there.is_some_and(section) {
                    wrong.push(format!("{name}: {link}"));
                }
            }
        }
        assert!(pages.count() > 50 && wrong.is_empty(), "{wrong:#?}");
        assert_eq!(docs(""), docs("index.html"));
        assert_eq!(docs("quickstart/"), docs("quickstart/index.html"));
        assert_eq!(docs("no-such-page.html"), None);
    }

    /// What the search reads.
    #[test]
    fn sections_of_the_documentation_are_searched_by_their_addresses() {
        let index = text(docs("search.json").unwrap());
        let lines: Vec<_> = index.lines().filter(|line| line.starts_with("[\"")).collect();
        assert!(lines.len() > 300, "{}", lines.len());
        for line in lines {
            let address = line[2..].split('"').next().unwrap();
            let page = address.split('#').next().unwrap();
            assert!(docs(page).is_some(), "{address}");
        }
    }

    #[test]
    fn every_address_in_the_page_is_an_asset() {
        let addresses = addresses_in_page();
        assert!(addresses.len() > 5, "{addresses:?}");
        for address in addresses {
            assert!(asset(&address).is_some(), "{address}");
        }
        for page in [figures(), nodes(), admin()] {
            assert!(addresses_in(page).len() >= 5);
            for address in addresses_in(page) {
                assert!(asset(&address).is_some(), "{address}");
            }
        }
        for page in [index(), figures(), nodes(), admin()] {
            assert!(!text(page).contains("{{"), "a placeholder is left");
        }
    }

    /// The names of what a page loads before it lives.
    fn preloaded(page: Asset, build: &str) -> BTreeSet<String> {
        let prefix = format!("/assets/{build}/");
        addresses_in(page).iter().map(|address| address.strip_prefix(&prefix).unwrap().to_owned()).collect()
    }

    /// A module that is imported and not preloaded costs a round trip before the page lives.
    #[test]
    fn every_module_imported_on_the_way_is_preloaded() {
        for (page, build, assets) in
            [(index(), build_hash(), UI_ASSETS), (admin(), ADMIN_BUILD, ADMIN_ASSETS)]
        {
            let preloaded = preloaded(page, build);
            for name in preloaded.iter().filter(|name| name.ends_with(".js")) {
                let (folder, _) = name.split_once('/').unwrap();
                let module = find(assets, name).unwrap();
                let imports = text(module)
                    .lines()
                    .filter(|line| line.starts_with("import ") || line.starts_with("export * from"));
                for line in imports {
                    let import = line.split('\'').nth(1).unwrap();
                    let import = match import.strip_prefix("../") {
                        Some(other) => other.to_owned(),
                        None => format!("{folder}/{}", import.strip_prefix("./").unwrap()),
                    };
                    assert!(preloaded.contains(&import), "{name} imports {import}, which is not preloaded");
                }
            }
        }
    }

    fn packed(assets: &[(&str, Asset)], name: &str) -> usize {
        let asset = find(assets, name).unwrap();
        asset.gzip.unwrap_or(asset.bytes).len()
    }

    /// What travels before a page lives, itself included, which the server sends as it is.
    fn critical_path(page: Asset, build: &str, assets: &[(&str, Asset)]) -> usize {
        let loaded: usize = preloaded(page, build).iter().map(|name| packed(assets, name)).sum();
        loaded + page.bytes.len()
    }

    /// More modules than this on the way to a living page were measured to be slow on a phone network. What is imported when it
    /// is wanted (dialogs, search, files, logs) is not on that way, and is bounded on its own, so that it stays a small thing to wait for.
    #[test]
    fn the_critical_path_has_few_modules_and_is_below_forty_five_kilobytes() {
        assert!(text(index()).matches("modulepreload").count() <= 10);
        let bytes = critical_path(index(), build_hash(), UI_ASSETS);
        assert!(bytes <= 45_000, "{bytes} bytes");
    }

    /// A visit loads what the chat looks like beside the critical path, and the announcer behind it.
    #[test]
    fn a_first_visit_is_below_sixty_kilobytes() {
        let beside =
            ["view", "timeline", "composer", "shell", "announcer"].map(|name| format!("ui/{name}.js"));
        let beside: usize = beside.iter().map(|name| packed(UI_ASSETS, name)).sum();
        let bytes = critical_path(index(), build_hash(), UI_ASSETS) + beside;
        assert!(bytes <= 60_000, "{bytes} bytes");
    }

    /// What the operators' page needs until somebody has signed in; and all of its views together.
    #[test]
    fn the_operators_page_is_below_thirty_kilobytes_and_whole_below_sixty() {
        let bytes = critical_path(admin(), ADMIN_BUILD, ADMIN_ASSETS);
        assert!(bytes <= 30_000, "{bytes} bytes");
        let whole: usize = ADMIN_ASSETS.iter().map(|(name, _)| packed(ADMIN_ASSETS, name)).sum();
        assert!(whole <= 60_000, "{whole} bytes");
    }

    /// What a page of another site imports must come whole: each module's imports are beside it.
    #[test]
    fn the_client_and_all_it_imports_are_served_at_addresses_that_stay() {
        let modules: Vec<_> = UI_ASSETS.iter().filter_map(|(name, _)| name.strip_prefix("sdk/")).collect();
        assert!(modules.contains(&"index.js"));
        for name in modules {
            let asset = client(&format!("/client/{name}")).unwrap();
            assert_eq!(asset.cache_control(), "no-cache", "{name}");
            let imports = text(asset).lines().filter(|line| !line.trim_start().starts_with(['*', '/']));
            let imports =
                imports.flat_map(|line| [line.split_once(" from './"), line.split_once("import('./")]);
            for (_, import) in imports.flatten() {
                let import = import.split('\'').next().unwrap();
                assert!(client(&format!("/client/{import}")).is_some(), "{name} imports {import}");
            }
        }
        assert_eq!(client("/client/outspoke.js").unwrap().bytes, client("/client/index.js").unwrap().bytes);
        for path in [
            "/client/",
            "/client/../ui/main.js",
            "/client/types.d.ts",
            "/client/package.json",
            "/outspoke.js",
        ] {
            assert!(client(path).is_none(), "{path}");
        }
        assert!(client_headers().contains(&("access-control-allow-origin", "*")));
    }

    #[test]
    fn compressed_forms_inflate_to_the_plain_bytes() {
        for (name, asset) in all_assets() {
            let Some(packed) = asset.gzip else { continue };
            let mut bytes = Vec::new();
            flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, asset.bytes, "{name}");
        }
    }

    #[test]
    fn asset_of_another_build_or_outside_the_folder_is_not_found() {
        let here = format!("/assets/{}/ui", build_hash());
        assert!(asset(&format!("{here}/main.js")).is_some());
        for path in [
            "/assets/000000000000/ui/main.js".to_owned(),
            format!("{here}/"),
            format!("{here}/../main.js"),
            format!("{here}/types.d.ts"),
            format!("{here}/index.html"),
            format!("{here}main.js"),
            "/main.js".to_owned(),
            String::new(),
        ] {
            assert!(asset(&path).is_none(), "{path}");
        }
    }

    #[test]
    fn assets_are_kept_for_ever_and_the_page_is_asked_for_each_time() {
        assert_eq!(index().cache_control(), "no-cache");
        for (name, asset) in all_assets() {
            assert!(asset.cache_control().ends_with("immutable"), "{name}");
            assert!(asset.etag.starts_with('"') && asset.etag.ends_with('"'), "{name}");
        }
    }

    /// The policy forbids inline scripts and styles: one in the page would silently not run.
    #[test]
    fn the_page_has_nothing_its_own_policy_forbids() {
        for page in [text(index()), text(figures()), text(nodes()), text(admin())] {
            for script in page.split("<script").skip(1) {
                assert!(script.split('>').next().unwrap().contains("src="), "inline script");
            }
            for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
                assert!(!page.contains(inline), "{inline}");
            }
        }
        for (name, module) in all_assets().filter(|(name, _)| name.ends_with(".js")) {
            for sink in
                ["innerHTML =", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
            {
                assert!(!text(*module).contains(sink), "{name} has {sink}");
            }
        }
    }

    #[test]
    fn security_headers_are_valid_header_values() {
        for (name, value) in security_headers().iter().chain(client_headers()) {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
            assert!(value.bytes().all(|b| (b' '..=b'~').contains(&b)) && !value.contains("  "), "{value}");
        }
    }
}
