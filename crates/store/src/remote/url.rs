//! Addresses of servers, as people may see them.

/// The address without its password, for logs and errors. What cannot be understood is not shown at all.
pub(crate) fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "(not a url)".to_owned() };
    // Parameters may hold secrets too, and none of them helps to find a server.
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    match rest.rsplit_once('@') {
        None => format!("{scheme}://{rest}"),
        Some((who, place)) => {
            let user = who.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{place}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_url_shows_everything_but_secrets() {
        assert_eq!(
            masked("postgres://me:se@cr:et@db:5432/chat?password=x"),
            "postgres://me:***@db:5432/chat"
        );
        assert_eq!(masked("redis://:secret@[::1]:6379/0"), "redis://:***@[::1]:6379/0");
        assert_eq!(masked("redis://host"), "redis://host");
        assert_eq!(masked("host=db password=secret"), "(not a url)");
    }
}
