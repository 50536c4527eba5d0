//! Edits, deletions and reactions: what they make of an earlier message.
//!
//! Pure: the earlier message in, its next state out. Each amendment is also a message of the room's log, so that who
//! is there sees it happen and who comes back gets it; the log shows the earlier message in its newest state. Who applies it, and
//! where, is told in `room/amend.rs` and `keeper/amend.rs`.

use ecow::{EcoString, eco_format};
use outspoke_protocol::{Body, Details, ErrorCode, Kind, Message, Publisher, Reactions, Refusal, Timestamp};

/// Different reactions to one message.
const REACTIONS_MAX: usize = 32;
/// Users with the same reaction to one message.
const REACTORS_MAX: usize = 1000;
/// Longest reaction, in bytes: some emoji are sequences of many characters.
const REACTION_BYTES_MAX: usize = 64;

/// What is to be done to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Edit(Body),
    Delete,
    React { reaction: EcoString, withdraw: bool },
}

impl Change {
    /// A reaction, if it is one.
    ///
    /// # Errors
    /// It is empty, too long, or not printable.
    pub(crate) fn react(reaction: &str, withdraw: bool) -> Result<Self, Refusal> {
        let printable = !reaction.trim().is_empty() && !reaction.chars().any(char::is_control);
        if !printable || reaction.len() > REACTION_BYTES_MAX {
            let detail =
                eco_format!("a reaction is an emoji or a word of at most {REACTION_BYTES_MAX} bytes");
            return Err(Refusal::new(ErrorCode::BadRequest, detail));
        }
        Ok(Self::React { reaction: reaction.into(), withdraw })
    }

    /// The message that tells of it.
    pub(crate) fn told(&self) -> (Kind, Body, bool) {
        match self {
            Self::Edit(body) => (Kind::Edit, body.clone(), false),
            Self::Delete => (Kind::Delete, Body::Empty, false),
            Self::React { reaction, withdraw } => (Kind::Reaction, Body::Text(reaction.clone()), *withdraw),
        }
    }

    /// What a message that tells of a change says.
    pub(crate) fn told_by(message: &Message) -> Option<Self> {
        match (&message.kind, &message.body) {
            (Kind::Edit, body) => Some(Self::Edit(body.clone())),
            (Kind::Delete, _) => Some(Self::Delete),
            (Kind::Reaction, Body::Text(reaction)) => {
                let withdraw = message.details.as_ref().is_some_and(|details| details.withdrawn);
                Some(Self::React { reaction: reaction.clone(), withdraw })
            }
            _ => None,
        }
    }

    /// The message after it; `None` when nothing changes. Who `moderates` may delete what others have said.
    ///
    /// # Errors
    /// The message cannot be changed like that, or not by this user.
    pub(crate) fn apply(
        &self,
        message: &Message,
        by: Option<&Publisher>,
        moderates: bool,
        now: Timestamp,
    ) -> Result<Option<Message>, Refusal> {
        if !message.kind.is_said() {
            return Err(not_found("what has this offset is no message that can be changed"));
        }
        if message.details.as_ref().is_some_and(|details| details.deleted.is_some()) {
            return match self {
                Self::Delete => Ok(None),
                _ => Err(not_found("the message was deleted")),
            };
        }
        match self {
            Self::Edit(body) => {
                check_author(message, by)?;
                if std::mem::discriminant(body) != std::mem::discriminant(&message.body) {
                    let detail = "a text is edited to a text (`content`), data to data (`data`)";
                    return Err(Refusal::new(ErrorCode::BadRequest, detail));
                }
                Ok((*body != message.body).then(|| {
                    let details = Details { edited: Some(now), ..details_of(message) };
                    Message { body: body.clone(), details: Some(Box::new(details)), ..message.clone() }
                }))
            }
            Self::Delete => {
                if !moderates {
                    check_author(message, by)?;
                }
                Ok(Some(deleted(message, now)))
            }
            Self::React { reaction, withdraw } => {
                let Some(by) = by else {
                    return Err(Refusal::new(ErrorCode::Forbidden, "only users react"));
                };
                let mut details = details_of(message);
                if !react(&mut details.reactions, reaction, by, *withdraw)? {
                    return Ok(None);
                }
                Ok(Some(Message { details: Some(Box::new(details)), ..message.clone() }))
            }
        }
    }
}

/// A message without what it said.
pub(crate) fn deleted(message: &Message, now: Timestamp) -> Message {
    let details = Details { deleted: Some(now), reactions: Vec::new(), ..details_of(message) };
    Message { body: Body::Empty, details: Some(Box::new(details)), ..message.clone() }
}

fn details_of(message: &Message) -> Details {
    message.details.as_deref().cloned().unwrap_or_default()
}

/// `None`: the application, which may change everything.
fn check_author(message: &Message, by: Option<&Publisher>) -> Result<(), Refusal> {
    let Some(by) = by else { return Ok(()) };
    if message.from.as_ref().is_some_and(|from| from.user == by.user) {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::Forbidden, "only who said it may change it"))
}

/// Adds or takes back a reaction. Returns whether that changed anything.
fn react(
    reactions: &mut Vec<Reactions>,
    reaction: &EcoString,
    by: &Publisher,
    withdraw: bool,
) -> Result<bool, Refusal> {
    let known = reactions.iter().position(|held| held.reaction == *reaction);
    let Some(index) = known else {
        if withdraw {
            return Ok(false);
        }
        if reactions.len() >= REACTIONS_MAX {
            let detail =
                eco_format!("there are {REACTIONS_MAX} different reactions already: use one of them");
            return Err(Refusal::new(ErrorCode::Forbidden, detail));
        }
        reactions.push(Reactions { reaction: reaction.clone(), users: vec![by.user.clone()] });
        return Ok(true);
    };
    let users = &mut reactions[index].users;
    let place = users.iter().position(|user| *user == by.user);
    match (place, withdraw) {
        (Some(place), true) => {
            users.remove(place);
            if users.is_empty() {
                reactions.remove(index);
            }
            Ok(true)
        }
        (None, false) if users.len() >= REACTORS_MAX => {
            let detail = eco_format!("{REACTORS_MAX} users have this reaction already");
            Err(Refusal::new(ErrorCode::Forbidden, detail))
        }
        (None, false) => {
            users.push(by.user.clone());
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// There is no such message, for one reason or another.
pub(crate) fn not_found(detail: impl Into<EcoString>) -> Refusal {
    Refusal::new(ErrorCode::MessageNotFound, detail)
}
