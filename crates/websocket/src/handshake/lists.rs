//! Comma-separated header lists, tokens and extension parameters (RFC 9110 section 5.6, RFC 6455 section 9.1).
//!
//! Used by both roles. One pass over the bytes, no backtracking. A header may stand on several lines: they are one list.

use http::{HeaderMap, HeaderName};

/// `tchar` of RFC 9110 section 5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'#'
            | b'$'
            | b'%'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~'
    ) || byte.is_ascii_alphanumeric()
}

/// The bytes as a token, if they are one.
pub(super) fn token(bytes: &[u8]) -> Option<&str> {
    if bytes.is_empty() || !bytes.iter().all(|&byte| is_token_byte(byte)) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// The elements of a list header over all its lines, trimmed; empty elements are skipped (RFC 9110 section 5.6.1.2).
///
/// Only for lists without quoted strings.
pub(super) fn elements<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Does the list contain this token, in any case?
pub(super) fn contains_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// The only line of a header, or `None` if there is none or more than one.
pub(super) fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => Some(line.as_bytes()),
        _ => None,
    }
}

/// One extension of a `Sec-WebSocket-Extensions` list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extension<'h> {
    pub(super) name: &'h str,
    pub(super) parameters: Vec<(&'h str, Option<String>)>,
}

/// The bytes break the grammar of RFC 6455 section 9.1, which must fail the handshake.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The extensions of all `Sec-WebSocket-Extensions` lines, in order.
pub(super) fn extensions<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Vec<Extension<'h>>, Malformed> {
    let mut extensions = Vec::new();
    for line in headers.get_all(name) {
        let mut scanner = Scanner { rest: line.as_bytes() };
        let before = extensions.len();
        scanner.list(&mut extensions)?;
        if extensions.len() == before {
            return Err(Malformed);
        }
    }
    Ok(extensions)
}

struct Scanner<'h> {
    rest: &'h [u8],
}

impl<'h> Scanner<'h> {
    fn list(&mut self, extensions: &mut Vec<Extension<'h>>) -> Result<(), Malformed> {
        loop {
            self.skip_blanks();
            if self.rest.is_empty() {
                return Ok(());
            }
            if self.take(b',') {
                continue;
            }
            extensions.push(self.extension()?);
            if !self.rest.is_empty() && !self.take(b',') {
                return Err(Malformed);
            }
        }
    }

    fn extension(&mut self) -> Result<Extension<'h>, Malformed> {
        let name = self.token()?;
        let mut parameters = Vec::new();
        while self.take(b';') {
            self.skip_blanks();
            let name = self.token()?;
            let value = if self.take(b'=') {
                self.skip_blanks();
                Some(self.value()?)
            } else {
                None
            };
            parameters.push((name, value));
        }
        Ok(Extension { name, parameters })
    }

    /// A token and the blanks behind it.
    fn token(&mut self) -> Result<&'h str, Malformed> {
        let end = self.rest.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(self.rest.len());
        let (bytes, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.skip_blanks();
        token(bytes).ok_or(Malformed)
    }

    /// A token, or a quoted string whose content is a token.
    fn value(&mut self) -> Result<String, Malformed> {
        if !self.take(b'"') {
            return self.token().map(str::to_owned);
        }
        let mut content = Vec::new();
        loop {
            match self.rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    break;
                }
                [b'\\', byte, rest @ ..] | [byte, rest @ ..] => {
                    content.push(*byte);
                    self.rest = rest;
                }
                [] => return Err(Malformed),
            }
        }
        self.skip_blanks();
        token(&content).map(str::to_owned).ok_or(Malformed)
    }

    fn take(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn skip_blanks(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::HeaderValue;
    use http::header::SEC_WEBSOCKET_EXTENSIONS;

    use super::*;

    fn parse(lines: &[&str]) -> Result<Vec<String>, Malformed> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_str(line).unwrap());
        }
        let extensions = extensions(&headers, &SEC_WEBSOCKET_EXTENSIONS)?;
        let show = |extension: &Extension<'_>| {
            let parameters = extension.parameters.iter().map(|(name, value)| match value {
                Some(value) => format!(";{name}={value}"),
                None => format!(";{name}"),
            });
            extension.name.to_owned() + &parameters.collect::<String>()
        };
        Ok(extensions.iter().map(show).collect())
    }

    #[test]
    fn extension_list_keeps_order_over_lines_and_skips_blanks_and_empty_elements() {
        let parsed = parse(&["a ; x = 1 ;y,, b", "c;z=\"q\\r\" ,"]).unwrap();
        assert_eq!(parsed, ["a;x=1;y", "b", "c;z=qr"]);
    }

    #[test]
    fn extension_list_outside_the_grammar_is_malformed() {
        for line in [
            "",
            ",",
            "a b",
            ";x",
            "a;",
            "a;=1",
            "a;x=",
            "a;x=\"",
            "a;x=\"1",
            "a;x=\"a b\"",
            "a;x=\"\"",
            "a=1",
            "a;x=1=2",
        ] {
            assert_eq!(parse(&[line]), Err(Malformed), "{line:?}");
        }
    }
}
