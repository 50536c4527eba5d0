//! What Redis's errors mean to who runs it.

pub(super) const REPLICA: &str = "it is a replica: point `url` at the master, or set `sentinel_master`";

/// What a server has said, and what to do about it.
pub(super) fn said(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let cure = match text.split(' ').next().unwrap_or_default() {
        "WRONGPASS" | "NOAUTH" => "correct user and password in `url`",
        "NOPERM" => "let this user publish and subscribe to channels that begin with the prefix",
        "LOADING" => "it is starting and still reads its data",
        "MOVED" => "the slot is another node's now",
        "CLUSTERDOWN" => "the cluster has no master for every slot",
        // What servers before 6 say.
        _ if text.contains("invalid password") || text.contains("AUTH <password> called") => {
            "correct the password in `url`"
        }
        _ if text.contains("cluster support disabled") => "it is no cluster: do not set `cluster`",
        _ if text.contains("unknown command") => "sharded publish and subscribe needs Redis 7",
        _ => return format!("Redis says: {text}"),
    };
    format!("Redis says: {text}; {cure}")
}
