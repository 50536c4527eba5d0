//! Reads a JSON object once, keeping the fields a dialect knows as slices of the frame.
//!
//! Called by the dialects' `decode`. A field is looked at only when its message type uses it, so a wrong
//! field that nobody reads does no harm. Invariants: one pass over the text, no recursion (serde_json skips
//! nested values with a loop), nothing allocated unless a text has escapes in it. Field values are kept
//! unparsed rather than visited, so that `serde_json`'s optional number formats, which another crate of the
//! same build may switch on, change nothing here.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Names;
use crate::{ErrorCode, Refusal};

/// The known fields of an object, in the order of the names it was read with.
#[derive(Debug)]
pub(crate) struct Object<'a, const N: usize> {
    names: &'static Names<N>,
    values: [Option<&'a RawValue>; N],
}

/// One field: its name, and its value where it is present and not `null`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    name: &'static str,
    value: Option<&'a RawValue>,
}

/// Reads `text` into `object`; fields that it has no name for are skipped.
///
/// After a mistake the object has what came before it: a refusal can then still carry the request's id.
pub(crate) fn read_object<'a, const N: usize>(
    text: &'a str,
    object: &mut Object<'a, N>,
) -> Result<(), Refusal> {
    match text.trim_ascii_start().chars().next() {
        Some('{') => read_fields(text, object),
        Some(other) => Err(bad_request(format_args!(
            "a message is a JSON object and starts with `{{`, this one starts with {other:?}"
        ))),
        None => Err(bad_request("a message is a JSON object, this frame is empty")),
    }
}

fn read_fields<'a, const N: usize>(text: &'a str, object: &mut Object<'a, N>) -> Result<(), Refusal> {
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_map(FieldsVisitor { object }).and_then(|()| json.end()).map_err(|error| {
        match error.classify() {
            serde_json::error::Category::Data => bad_request(error),
            _ => bad_request(format_args!("not valid JSON: {error}")),
        }
    })
}

/// A [`ErrorCode::BadRequest`] with these words.
pub(crate) fn bad_request(detail: impl fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::BadRequest, ecow::eco_format!("{detail}"))
}

impl<'a, const N: usize> Object<'a, N> {
    /// An object without any of the fields.
    pub(crate) fn empty(names: &'static Names<N>) -> Self {
        Self { names, values: [None; N] }
    }

    /// The field with the name at `index`; `null` counts as absent.
    pub(crate) fn field(&self, index: usize) -> Field<'a> {
        let value = self.values[index].filter(|value| value.get() != "null");
        Field { name: self.names.name(index), value }
    }

    /// The value at `index` as it was sent, `null` included.
    pub(crate) fn raw(&self, index: usize) -> Option<&'a RawValue> {
        self.values[index]
    }
}

impl<'a> Field<'a> {
    /// The field's text, where it is present.
    #[inline]
    pub(crate) fn text(self) -> Result<Option<Cow<'a, str>>, Refusal> {
        // Most fields of most requests are absent: that much is decided where it is asked.
        match self.value {
            None => Ok(None),
            Some(value) => self.present_text(value).map(Some),
        }
    }

    fn present_text(self, value: &'a RawValue) -> Result<Cow<'a, str>, Refusal> {
        let Some(quoted) = value.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return Err(self.is_no("a string", value));
        };
        if !quoted.as_bytes().contains(&b'\\') {
            return Ok(Cow::Borrowed(quoted));
        }
        // The syntax has been checked; what is left to fail is half a surrogate pair.
        match serde_json::from_str::<String>(value.get()) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(_) => Err(bad_request(format_args!(
                "`{}` has half of a surrogate pair (\\ud800 to \\udfff) without the other half",
                self.name
            ))),
        }
    }

    /// The field's integer, where it is present.
    pub(crate) fn integer(self) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.value else { return Ok(None) };
        match value.get().parse::<i64>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(self.is_no("an integer of at most 64 bits", value)),
        }
    }

    /// The field's integer from 0 on, where it is present.
    pub(crate) fn unsigned(self) -> Result<Option<u64>, Refusal> {
        let Some(number) = self.integer()? else { return Ok(None) };
        match u64::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(bad_request(format_args!("`{}` must not be negative", self.name))),
        }
    }

    /// The field's truth, where it is present.
    pub(crate) fn boolean(self) -> Result<Option<bool>, Refusal> {
        let Some(value) = self.value else { return Ok(None) };
        match value.get() {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            _ => Err(self.is_no("true or false", value)),
        }
    }

    /// What the dialect calls the field.
    pub(crate) fn name(self) -> &'static str {
        self.name
    }

    /// The value itself, where it is present.
    pub(crate) fn value(self) -> Option<&'a RawValue> {
        self.value
    }

    fn is_no(self, wanted: &str, value: &RawValue) -> Refusal {
        bad_request(format_args!("`{}` must be {wanted}, this is {}", self.name, describe(value)))
    }
}

/// What sort of value it is, in words for a refusal.
fn describe(value: &RawValue) -> &'static str {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ if text.parse::<i64>().is_ok() => "an integer",
        _ if text.bytes().all(|b| b.is_ascii_digit() || b == b'-') => "an integer beyond 64 bits",
        _ => "a number with a fraction or an exponent",
    }
}

struct FieldsVisitor<'o, 'a, const N: usize> {
    object: &'o mut Object<'a, N>,
}

impl<'a, const N: usize> Visitor<'a> for FieldsVisitor<'_, 'a, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        let names = self.object.names;
        while let Some(index) = map.next_key_seed(NameSeed { names })? {
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            // A proxy in front of us may believe the first of two equal fields and we the last: neither is safe.
            if self.object.values[index].is_some() {
                return Err(M::Error::custom(format_args!(
                    "the field `{}` is given twice",
                    names.name(index)
                )));
            }
            self.object.values[index] = Some(map.next_value()?);
        }
        Ok(())
    }
}

/// Finds a key among the known names.
struct NameSeed<const N: usize> {
    names: &'static Names<N>,
}

impl<'de, const N: usize> DeserializeSeed<'de> for NameSeed<N> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<const N: usize> Visitor<'_> for NameSeed<N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.names.find(key))
    }
}
