//! The web chat, the operators' pages and the JavaScript client, as bytes ready to serve.
//!
//! The pages' sources are in `ui/` and `figures/`, the client's in `sdk/`: plain ES modules, which the browser runs as they
//! are. `build.rs` puts them into this crate together with their compressed form, so the server needs no file beside its
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
        Asset, FIGURES_ASSETS, UI_ASSETS, asset, build_hash, client, client_headers, figures, find, index,
        nodes, security_headers,
    };

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

    #[test]
    fn every_address_in_the_page_is_an_asset() {
        let addresses = addresses_in_page();
        assert!(addresses.len() > 5, "{addresses:?}");
        for address in addresses {
            assert!(asset(&address).is_some(), "{address}");
        }
        for page in [figures(), nodes()] {
            assert!(addresses_in(page).len() >= 5);
            for address in addresses_in(page) {
                assert!(asset(&address).is_some(), "{address}");
            }
        }
        for page in [index(), figures(), nodes()] {
            assert!(!text(page).contains("{{"), "a placeholder is left");
        }
    }

    /// The names of what the page loads before it lives.
    fn preloaded() -> BTreeSet<String> {
        let prefix = format!("/assets/{}/", build_hash());
        addresses_in_page().iter().map(|address| address.strip_prefix(&prefix).unwrap().to_owned()).collect()
    }

    /// A module that is imported and not preloaded costs a round trip before the page lives.
    #[test]
    fn every_module_imported_on_the_way_is_preloaded() {
        let preloaded = preloaded();
        for name in preloaded.iter().filter(|name| name.ends_with(".js")) {
            let (folder, _) = name.split_once('/').unwrap();
            let module = find(UI_ASSETS, name).unwrap();
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

    /// More modules than this on the way to a living page were measured to be slow on a phone network. What is imported when it
    /// is wanted (dialogs, search, files, logs) is not on that way, and is bounded on its own, so that it stays a small thing to wait for.
    #[test]
    fn the_critical_path_has_few_modules_and_is_below_sixty_kilobytes() {
        let page = text(index());
        assert!(page.matches("modulepreload").count() <= 14);
        let packed = |name: &String| {
            let asset = find(UI_ASSETS, name).unwrap();
            asset.gzip.unwrap_or(asset.bytes).len()
        };
        let loaded: usize = preloaded().iter().map(packed).sum();
        assert!(loaded + index().gzip.unwrap().len() <= 60 * 1024, "{loaded} bytes");
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
            for import in imports.filter_map(|line| line.split_once(" from './")) {
                let import = import.1.trim_end_matches("';");
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
        for (name, asset) in UI_ASSETS.iter().chain(FIGURES_ASSETS) {
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
        for (name, asset) in UI_ASSETS.iter().chain(FIGURES_ASSETS) {
            assert!(asset.cache_control().ends_with("immutable"), "{name}");
            assert!(asset.etag.starts_with('"') && asset.etag.ends_with('"'), "{name}");
        }
    }

    /// The policy forbids inline scripts and styles: one in the page would silently not run.
    #[test]
    fn the_page_has_nothing_its_own_policy_forbids() {
        for page in [text(index()), text(figures()), text(nodes())] {
            for script in page.split("<script").skip(1) {
                assert!(script.split('>').next().unwrap().contains("src="), "inline script");
            }
            for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
                assert!(!page.contains(inline), "{inline}");
            }
        }
        for (name, module) in UI_ASSETS.iter().chain(FIGURES_ASSETS).filter(|(name, _)| name.ends_with(".js"))
        {
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
