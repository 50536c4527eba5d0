//! The negotiation of permessage-deflate (RFC 7692 sections 5 and 7.1).
//!
//! The only extension we know. The server answers the first offer that it can honour with
//! `server_no_context_takeover; client_no_context_takeover`; both are allowed without having been asked for, and make
//! shared compression possible. An offer with an unknown, repeated or wrong parameter is declined, the next one tried.

use super::lists::Extension;
use crate::Window;

const NAME: &str = "permessage-deflate";
const DEFAULT_WINDOW_BITS: u8 = 15;

/// What both ends agreed on. No context is taken over in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PermessageDeflate {
    /// The window that the server compresses with.
    pub(super) server_window_bits: u8,
    /// The window that the client compresses with.
    pub(super) client_window_bits: u8,
}

impl PermessageDeflate {
    /// What the server may send.
    pub const fn server_window(self) -> Window {
        Window::of_bits(self.server_window_bits)
    }

    /// What the client may send.
    pub const fn client_window(self) -> Window {
        Window::of_bits(self.client_window_bits)
    }

    /// The server's choice among the client's offers, in the client's order.
    pub(super) fn choose(offers: &[Extension<'_>]) -> Option<Self> {
        let named = offers.iter().filter(|offer| offer.name.eq_ignore_ascii_case(NAME));
        named.filter_map(Parameters::parse).find_map(Parameters::accept)
    }

    /// The server's answer.
    pub(super) fn response(self) -> String {
        let mut header = format!("{NAME}; server_no_context_takeover; client_no_context_takeover");
        if self.server_window_bits != DEFAULT_WINDOW_BITS {
            header.push_str(&format!("; server_max_window_bits={}", self.server_window_bits));
        }
        header
    }

    /// The client's offer.
    pub(super) const fn offer() -> &'static str {
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
    }

    /// The client's view of an answer to [`Self::offer`]; `None` if the answer is not acceptable.
    ///
    /// The server must confirm `server_no_context_takeover`, for our inflater keeps no context (section 7.1.1.1).
    pub(super) fn from_response(answer: &[Extension<'_>]) -> Option<Self> {
        let [extension] = answer else { return None };
        if !extension.name.eq_ignore_ascii_case(NAME) {
            return None;
        }
        let parameters = Parameters::parse(extension)?;
        if !parameters.server_no_context_takeover || parameters.client_max_window_bits == Some(None) {
            return None;
        }
        Some(Self {
            server_window_bits: parameters.server_max_window_bits.unwrap_or(DEFAULT_WINDOW_BITS),
            client_window_bits: parameters.client_max_window_bits.flatten().unwrap_or(DEFAULT_WINDOW_BITS),
        })
    }
}

/// The parameters of one offer or answer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// The inner `None`: named without a value, which is a client's hint.
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// `None`: unknown, repeated, or with a value out of its range (section 7.1).
    fn parse(extension: &Extension<'_>) -> Option<Self> {
        let mut parsed = Self::default();
        for (name, value) in &extension.parameters {
            let value = value.as_deref();
            let fresh = match *name {
                "server_no_context_takeover" if value.is_none() => {
                    !std::mem::replace(&mut parsed.server_no_context_takeover, true)
                }
                "client_no_context_takeover" if value.is_none() => {
                    !std::mem::replace(&mut parsed.client_no_context_takeover, true)
                }
                "server_max_window_bits" => {
                    parsed.server_max_window_bits.replace(window_bits(value?)?).is_none()
                }
                "client_max_window_bits" => {
                    let bits = match value {
                        Some(value) => Some(window_bits(value)?),
                        None => None,
                    };
                    parsed.client_max_window_bits.replace(bits).is_none()
                }
                _ => false,
            };
            if !fresh {
                return None;
            }
        }
        Some(parsed)
    }

    /// The server's side: windows below 15 bits are honoured with a second compressor, 8 bits declined, since
    /// zlib cannot make them. The client's window needs no answer: we inflate any.
    fn accept(self) -> Option<PermessageDeflate> {
        let server_window_bits = self.server_max_window_bits.unwrap_or(DEFAULT_WINDOW_BITS);
        let honoured = Window::of_bits(server_window_bits) != Window::Plain;
        honoured.then_some(PermessageDeflate { server_window_bits, client_window_bits: DEFAULT_WINDOW_BITS })
    }
}

/// 8 to 15, decimal, without leading zeros.
fn window_bits(value: &str) -> Option<u8> {
    match value {
        "8" => Some(8),
        "9" => Some(9),
        "10" => Some(10),
        "11" => Some(11),
        "12" => Some(12),
        "13" => Some(13),
        "14" => Some(14),
        "15" => Some(15),
        _ => None,
    }
}
