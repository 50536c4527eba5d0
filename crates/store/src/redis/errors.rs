//! What Redis's errors mean to the contract.

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

use super::options::Target;
use crate::StoreError;

/// Whether the server has said so itself, and not merely vanished.
pub(super) fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed)
}

/// Of an error after which nothing is written.
pub(super) fn refused(error: &RedisError) -> StoreError {
    let text = error.to_string();
    if !is_answer(error) {
        return StoreError::Unavailable(format!("the connection to Redis is lost: {text}"));
    }
    // Older servers hide the code of a script's error in its text.
    let says = |word: &str| error.code() == Some(word) || text.contains(&format!("{word} "));
    if says("OOM") {
        let cure = "raise maxmemory, or keep less history";
        return StoreError::Full(format!("Redis has no memory left: {cure} ({text})"));
    }
    if says("MISCONF") {
        let cure = "its disk is full or broken; its log says more";
        return StoreError::Full(format!("Redis cannot write to its disk: {cure} ({text})"));
    }
    if says("READONLY") {
        return StoreError::Unavailable(format!("Redis is a replica: point `url` at the primary ({text})"));
    }
    if says("NOPERM") || says("NOAUTH") {
        return StoreError::Unavailable(format!("Redis's user lacks a right ({text})"));
    }
    if says("LOADING") {
        return StoreError::Unavailable("Redis is starting and still reads its data".into());
    }
    StoreError::Unavailable(format!("Redis answers: {text}"))
}

/// Of an error while connecting: names the setting and the cure.
pub(super) fn cannot_connect(error: &RedisError, target: &Target) -> StoreError {
    let (place, text) = (target.place(), error.to_string());
    let kind = error.kind();
    let denied = ["WRONGPASS", "NOAUTH", "invalid password", "AUTH"].iter().any(|word| text.contains(word));
    let says = if kind == ErrorKind::AuthenticationFailed || denied {
        format!(
            "Redis at {place} does not accept user and password: correct them in the setting `url` ({text})"
        )
    } else if kind == ErrorKind::Server(ServerErrorKind::BusyLoading) {
        format!("Redis at {place} is starting and still reads its data")
    } else if text.contains("DB index") || text.contains("database") {
        format!("Redis at {place} has no such database: correct its number in the setting `url` ({text})")
    } else if is_answer(error) {
        format!("Redis at {place} does not let us in: {text}")
    } else {
        format!(
            "Redis cannot be reached at {place}: check that it runs, and host and port in the setting `url` ({text})"
        )
    };
    StoreError::Unavailable(says)
}
