//! Judges JSON that is passed on unparsed.
//!
//! RFC 8259 lets texts through that some receivers cannot read: a thousand levels of brackets, numbers beyond
//! a double, half a surrogate pair. Passed on, one such value is a poison pill: every receiver with a strict
//! parser fails on it, and fails again on it in the history. So the dialects refuse it at the door, while it
//! still has a sender to tell. Runs once over the bytes, without recursion.

/// Levels of arrays and objects a client's data may have: with a page of history and its envelopes around it (five
/// levels in `gohub`), it stays within 64, the smallest default limit of the parsers in common use (.NET's).
const DEPTH_MAX: u32 = 58;

/// A number with fewer characters and no exponent fits a double.
const PLAIN_NUMBER_LEN_MAX: usize = 300;

/// Checks that every common parser can read `json`, which must be valid JSON.
///
/// # Errors
/// What is wrong with it, in words for the sender.
pub fn check_portable(json: &str) -> Result<(), &'static str> {
    let bytes = json.as_bytes();
    let mut depth = 0_u32;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at + 1)?,
            b'-' | b'0'..=b'9' => at = number_end(json, at)?,
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err("is nested deeper than 58 levels, which some receivers could not read");
                }
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// The index after the string whose first byte is at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> Result<usize, &'static str> {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return Ok(at + 1),
            b'\\' => at = escape_end(bytes, at)?,
            _ => at += 1,
        }
    }
    Ok(at)
}

/// The index after the escape, or pair of escapes, whose backslash is at `at`.
fn escape_end(bytes: &[u8], at: usize) -> Result<usize, &'static str> {
    const LONE: &str = "has half of a surrogate pair (\\ud800 to \\udfff) without the other half";
    match utf16_escape(bytes, at) {
        None => Ok(at + 2),
        Some(0xd800..=0xdbff) => match utf16_escape(bytes, at + 6) {
            Some(0xdc00..=0xdfff) => Ok(at + 12),
            _ => Err(LONE),
        },
        Some(0xdc00..=0xdfff) => Err(LONE),
        Some(_) => Ok(at + 6),
    }
}

/// The code unit of a `\uXXXX` at `at`, if there is one.
fn utf16_escape(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The index after the number that starts at `at`.
fn number_end(json: &str, at: usize) -> Result<usize, &'static str> {
    let rest = &json.as_bytes()[at..];
    let len = rest
        .iter()
        .position(|b| !matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
        .unwrap_or(rest.len());
    let number = &rest[..len];
    let plain = len <= PLAIN_NUMBER_LEN_MAX && !number.iter().any(|b| matches!(b, b'e' | b'E'));
    if plain || json[at..at + len].parse::<f64>().is_ok_and(f64::is_finite) {
        Ok(at + len)
    } else {
        Err("has a number beyond what a double can hold (about 1.8e308)")
    }
}

#[cfg(test)]
mod tests {
    use super::{DEPTH_MAX, check_portable};

    fn nested(levels: u32) -> String {
        let levels = levels as usize;
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn portable_58_levels_pass_and_59_do_not() {
        assert!(check_portable(&nested(DEPTH_MAX)).is_ok());
        assert!(check_portable(&nested(DEPTH_MAX + 1)).is_err());
        assert!(check_portable(&nested(1_000_000)).is_err());
    }

    /// Many brackets side by side, or inside texts, are not depth.
    #[test]
    fn portable_breadth_and_brackets_in_strings_are_not_depth() {
        let broad = format!("[{}[]]", "[],".repeat(1000));
        assert!(check_portable(&broad).is_ok());
        let text = format!(r#""{}\"{}""#, "[".repeat(100), "{".repeat(100));
        assert!(check_portable(&text).is_ok());
    }

    #[test]
    fn portable_numbers_beyond_a_double_are_refused() {
        for fine in ["0", "-1.5e300", "1e-999", "1E308", &"9".repeat(300), "[1e1,2]"] {
            assert!(check_portable(fine).is_ok(), "{fine}");
        }
        for huge in ["1e309", "-1e999", "[0,1E+400]", &"9".repeat(400), r#"{"a":1e99999999999}"#] {
            assert!(check_portable(huge).is_err(), "{huge}");
        }
    }

    #[test]
    fn portable_lone_surrogates_are_refused_and_pairs_are_not() {
        for fine in [r#""\ud83d\ude00""#, r#""\\ud800""#, r#""\n\"\u00e9""#, r#"{"\uD83D\uDE00":1}"#] {
            assert!(check_portable(fine).is_ok(), "{fine}");
        }
        for lone in [r#""\ud83d""#, r#""\ude00\ud83d""#, r#""\ud83dx""#, r#"{"\uDBFF":1}"#, r#""\ud800\n""#] {
            assert!(check_portable(lone).is_err(), "{lone}");
        }
    }
}
