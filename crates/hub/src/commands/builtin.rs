//! The commands that every hub has, unless it was built without: what they are called and what they take.

use super::{Argument, ArgumentKind, CommandSpec};

/// A command that the hub itself does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    Help,
    Join,
    Kick,
    Leave,
    Me,
    Msg,
    Nick,
    Shrug,
    Topic,
    Who,
}

impl Builtin {
    pub(super) const ALL: [Self; 10] = [
        Self::Help,
        Self::Join,
        Self::Kick,
        Self::Leave,
        Self::Me,
        Self::Msg,
        Self::Nick,
        Self::Shrug,
        Self::Topic,
        Self::Who,
    ];

    pub(super) fn spec(self) -> CommandSpec {
        match self {
            Self::Help => CommandSpec::new("help", "says which commands there are, or how one is used")
                .argument(Argument::new("command", ArgumentKind::Command).optional()),
            Self::Join => CommandSpec::new("join", "goes into a room").argument(Argument::room("room")),
            Self::Kick => CommandSpec::new(
                "kick",
                "takes a user out of this room, and keeps them out for so many seconds",
            )
            .argument(Argument::user("user"))
            .argument(Argument::new("seconds", ArgumentKind::Word).optional()),
            Self::Leave => CommandSpec::new("leave", "goes out of this room, or of another one")
                .argument(Argument::room("room").optional()),
            Self::Me => CommandSpec::new("me", "says what you do").argument(Argument::text("text")),
            Self::Msg => CommandSpec::new("msg", "says something to one user alone")
                .argument(Argument::user("user"))
                .argument(Argument::text("text")),
            Self::Nick => {
                CommandSpec::new("nick", "changes the name that others see").argument(Argument::text("name"))
            }
            Self::Shrug => CommandSpec::new("shrug", "says something with a shrug")
                .argument(Argument::text("text").optional()),
            Self::Topic => {
                CommandSpec::new("topic", "shows the room's topic, or sets it (\"\" takes it away)")
                    .argument(Argument::text("text").optional())
            }
            Self::Who => CommandSpec::new("who", "says who is in this room, or in another one")
                .argument(Argument::room("room").optional()),
        }
    }
}
