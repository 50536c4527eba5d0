//! What people call a file: shown to them, never part of a path.

/// Longest name, in characters.
const CHARS_MAX: usize = 200;
/// What it is called that has no name.
const NAMELESS: &str = "file";

/// A name as it may be shown: the last part of a path, without control characters and without those that turn the reading
/// direction round, so that `gpj.exe` does not look like `exe.jpg`.
pub fn file_name(given: &str) -> String {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown: String = last.chars().filter(|char| !is_hidden(*char)).collect();
    // Windows drops dots and blanks at the end, and files with a dot in front are hidden elsewhere.
    let shown = shown.trim().trim_end_matches(['.', ' ']).trim_start_matches('.').trim_start();
    if shown.is_empty() {
        return NAMELESS.to_owned();
    }
    shortened(shown)
}

fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{61c}' | '\u{e0000}'..='\u{e007f}')
}

/// The end stays, which says what it is.
fn shortened(name: &str) -> String {
    let count = name.chars().count();
    if count <= CHARS_MAX {
        return name.to_owned();
    }
    let (stem, ending) = match name.rsplit_once('.') {
        Some((stem, ending)) if ending.chars().count() <= 16 => (stem, format!(".{ending}")),
        _ => (name, String::new()),
    };
    let stem: String = stem.chars().take(CHARS_MAX - ending.chars().count()).collect();
    stem + &ending
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_no_path_and_hides_nothing() {
        for (given, shown) in [
            ("holiday.jpg", "holiday.jpg"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\x\\report.pdf", "report.pdf"),
            ("..", "file"),
            ("", "file"),
            ("/", "file"),
            (".htaccess", "htaccess"),
            ("a\r\nSet-Cookie: x=1", "aSet-Cookie: x=1"),
            ("a\0b.png", "ab.png"),
            ("photo\u{202e}gpj.exe", "photogpj.exe"),
            ("  report.txt. . ", "report.txt"),
            ("Überblick 日本.txt", "Überblick 日本.txt"),
            ("\"quoted\";name.txt", "\"quoted\";name.txt"),
        ] {
            assert_eq!(file_name(given), shown, "{given:?}");
        }
    }

    #[test]
    fn long_name_keeps_its_ending() {
        let name = file_name(&format!("{}.tar.gz", "ä".repeat(5000)));
        assert_eq!(name.chars().count(), CHARS_MAX);
        assert!(name.ends_with("ä.gz"), "{name}");
    }
}
