//! What runs in the server, and calling it.

use std::sync::LazyLock;

use ::redis::{Cmd, Script, ToRedisArgs};

/// A script that is loaded into the server when it is first missed there.
pub(super) type Lua = LazyLock<Script>;

pub(super) static APPEND: Lua = LazyLock::new(|| Script::new(include_str!("lua/append.lua")));
pub(super) static FACTS: Lua = LazyLock::new(|| Script::new(include_str!("lua/facts.lua")));
pub(super) static RANGE: Lua = LazyLock::new(|| Script::new(include_str!("lua/range.lua")));
pub(super) static SCAN: Lua = LazyLock::new(|| Script::new(include_str!("lua/scan.lua")));
pub(super) static TRIM: Lua = LazyLock::new(|| Script::new(include_str!("lua/trim.lua")));
pub(super) static RESTORE: Lua = LazyLock::new(|| Script::new(include_str!("lua/restore.lua")));
pub(super) static DROP: Lua = LazyLock::new(|| Script::new(include_str!("lua/drop.lua")));

/// A command, and the script it calls if it calls one.
pub(super) struct Call {
    pub(super) cmd: Cmd,
    pub(super) script: Option<&'static Script>,
}

impl Call {
    pub(super) fn command(name: &str) -> Self {
        Self { cmd: ::redis::cmd(name), script: None }
    }

    pub(super) fn script(lua: &'static Lua, keys: &[String]) -> Self {
        let script: &'static Script = lua;
        let mut cmd = ::redis::cmd("EVALSHA");
        cmd.arg(script.get_hash()).arg(keys.len()).arg(keys);
        Self { cmd, script: Some(script) }
    }

    pub(super) fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        self.cmd.arg(argument);
        self
    }
}
