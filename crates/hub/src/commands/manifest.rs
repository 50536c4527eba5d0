//! The commands as JSON: what a client needs to complete them while its user types.

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::{Argument, CommandSpec};

impl Serialize for CommandSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut command = serializer.serialize_struct("CommandSpec", 4)?;
        command.serialize_field("name", &self.name)?;
        command.serialize_field("usage", &self.usage())?;
        command.serialize_field("summary", &self.summary)?;
        command.serialize_field("arguments", &self.arguments)?;
        command.end()
    }
}

impl Serialize for Argument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut argument = serializer.serialize_struct("Argument", 3)?;
        argument.serialize_field("name", &self.name)?;
        argument.serialize_field("kind", self.kind.name())?;
        argument.serialize_field("optional", &self.optional)?;
        argument.end()
    }
}

/// Every command in the order of their names.
pub(super) fn manifest<'a>(specs: impl Iterator<Item = &'a CommandSpec>) -> Bytes {
    let specs: Vec<&CommandSpec> = specs.collect();
    let json = serde_json::to_vec(&specs).expect("texts and truth values are always JSON");
    Bytes::from(json)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn manifest_says_how_each_command_is_used_and_what_may_complete_it() {
        let spec = CommandSpec::new("invite", "asks a user into a room")
            .argument(Argument::user("user"))
            .argument(Argument::room("room").optional());
        let json: serde_json::Value = serde_json::from_slice(&manifest([&spec].into_iter())).unwrap();
        let expected = serde_json::json!([{
            "name": "invite",
            "usage": "/invite USER [ROOM]",
            "summary": "asks a user into a room",
            "arguments": [
                { "name": "user", "kind": "user", "optional": false },
                { "name": "room", "kind": "room", "optional": true },
            ],
        }]);
        assert_eq!(json, expected);
    }
}
