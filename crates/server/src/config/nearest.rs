//! "Did you mean": the known name nearest to an unknown one.

/// Names from other servers, whose nearest key no edit distance finds.
const SYNONYMS: [(&str, &str); 9] = [
    ("port", "server.addr"),
    ("host", "server.addr"),
    ("address", "server.addr"),
    ("listen", "server.addr"),
    ("bind", "server.addr"),
    ("workers", "server.shards"),
    ("threads", "server.shards"),
    ("max_connections", "server.connections_max"),
    ("max_message_size", "limits.message_bytes_max"),
];

/// The candidate nearest to `unknown`, if one is near enough to be a likely slip.
///
/// Names are dotted paths. A known last part under a wrong or missing section counts as near: `log.format` is
/// found for `logging.format` and for `format`.
pub(crate) fn nearest<'a>(unknown: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let folded = unknown.to_lowercase();
    let leaf = last_part(&folded);
    let tolerance = (leaf.chars().count() / 4).clamp(1, 3);
    let synonym = SYNONYMS.iter().find(|(name, _)| *name == leaf).map(|(_, path)| *path);
    candidates
        .map(|candidate| (closeness(&folded, leaf, candidate, synonym), candidate))
        .filter(|(distance, _)| *distance <= tolerance * 2)
        // One slip in the right section is likelier than another section that happens to have the same last part.
        .min_by_key(|(distance, candidate)| (edits_over_one(&folded, candidate), *distance))
        .map(|(_, candidate)| candidate)
}

/// Twice the edit distance, so that a wrong section can weigh half an edit.
fn closeness(unknown: &str, leaf: &str, candidate: &str, synonym: Option<&str>) -> usize {
    if synonym == Some(candidate) {
        return 1;
    }
    let whole = edits(unknown, candidate) * 2;
    let wrong_section = edits(leaf, last_part(candidate)) * 2 + 1;
    whole.min(wrong_section)
}

/// Whether it takes more than one edit.
fn edits_over_one(unknown: &str, candidate: &str) -> bool {
    unknown.chars().count().abs_diff(candidate.chars().count()) > 1 || edits(unknown, candidate) > 1
}

fn last_part(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Optimal string alignment: insertions, deletions, replacements and swaps of neighbours.
///
/// Long texts count as infinitely far, so that the work stays bounded for hostile names.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(65).collect(), b.chars().take(65).collect());
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX / 4;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(unknown: &str) -> Option<&'static str> {
        let known = [
            "server.addr",
            "server.read_timeout",
            "server.write_timeout",
            "log.level",
            "rooms.default",
            "tls.key",
            "api.keys",
        ];
        nearest(unknown, known.into_iter())
    }

    #[test]
    fn nearest_finds_slips_wrong_sections_and_wrong_case() {
        assert_eq!(find("server.wirte_timeout"), Some("server.write_timeout"));
        assert_eq!(find("server.writeTimeout"), Some("server.write_timeout"));
        assert_eq!(find("timeouts.write_timeout"), Some("server.write_timeout"));
        assert_eq!(find("level"), Some("log.level"));
        assert_eq!(find("LOG.LEVEL"), Some("log.level"));
        assert_eq!(find("server.port"), Some("server.addr"));
        assert_eq!(find("api.key"), Some("api.keys"));
        assert_eq!(find("key"), Some("tls.key"));
    }

    #[test]
    fn nearest_is_silent_about_strangers() {
        assert_eq!(find("colour.scheme"), None);
        assert_eq!(find(""), None);
        assert_eq!(find(&"x".repeat(10_000)), None);
    }
}
