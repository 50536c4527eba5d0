//! How the server is: what a commit survives, and whether all is well.

use std::collections::HashMap;

use ::redis::RedisError;

use super::errors;
use super::link::{Link, Links};
use super::options::Target;
use super::read;
use super::scripts::Call;
use crate::remote::walk;
use crate::{Health, Store, StoreError, VerifyReport};

/// The oldest that has everything we use: `XTRIM` with `MINID`.
const VERSION_MIN: (u32, u32) = (6, 2);

/// What a server is and is set to.
#[derive(Debug)]
pub(super) struct Server {
    info: HashMap<String, String>,
    /// `appendfsync`, if we may see it.
    fsync: Option<String>,
}

impl Server {
    pub(super) async fn of(link: &Link) -> Result<Self, RedisError> {
        // Sections one by one: several at once came with Redis 7.
        let mut info = HashMap::new();
        for section in ["server", "persistence", "replication", "memory"] {
            let text: String = match link {
                Link::Server(_) => link.call(&Call::command("INFO").arg(section)).await?,
                // Of the cluster's nodes one, which stands for all: they are expected to be set up alike.
                Link::Cluster(_) => cluster_info(link, section).await?,
            };
            let pairs = text.lines().filter_map(|line| line.split_once(':'));
            info.extend(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())));
        }
        // Hosted servers often forbid this.
        let fsync = match link {
            Link::Server(_) => {
                link.call::<Vec<String>>(&Call::command("CONFIG").arg("GET").arg("appendfsync")).await
            }
            Link::Cluster(_) => Ok(Vec::new()),
        };
        let fsync = match fsync {
            Ok(pair) => pair.into_iter().nth(1),
            Err(error) if errors::is_answer(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { info, fsync })
    }

    fn says(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    /// Whether this server can be used at all.
    pub(super) fn check(&self, target: &Target) -> Result<(), StoreError> {
        let version = self.says("redis_version");
        let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if !version.is_empty() && found < VERSION_MIN {
            let place = target.place();
            return Err(StoreError::Unavailable(format!(
                "Redis at {place} is {version}: 6.2 or newer is needed"
            )));
        }
        Ok(())
    }

    /// Whether a commit survives less than a crash of the server's machine, or that cannot be told.
    pub(super) fn is_weak(&self) -> bool {
        self.evicts() || self.says("aof_enabled") != "1" || self.fsync.as_deref() != Some("always")
    }

    /// Whether it throws data away when memory is short.
    fn evicts(&self) -> bool {
        let policy = self.says("maxmemory_policy");
        let volatile = policy.is_empty() || policy == "noeviction" || policy.starts_with("volatile-");
        // Nothing of a log has a time to live, so what is volatile is not ours.
        !volatile && self.says("maxmemory") != "0"
    }

    /// What a commit survives, in a sentence.
    pub(super) fn durability(&self) -> String {
        if self.evicts() {
            return format!(
                "weaker than promised: Redis drops whole logs when its memory is short (maxmemory-policy {}); set it to \
                 noeviction",
                self.says("maxmemory_policy")
            );
        }
        if self.says("aof_enabled") != "1" {
            return "weaker than promised: a crash of Redis loses everything since its last snapshot, because `appendonly` \
                    is no; set appendonly to yes and appendfsync to always"
                .to_owned();
        }
        match self.fsync.as_deref() {
            Some("always") => "a commit survives a crash of Redis and of its machine, but not the loss of its disk".to_owned(),
            Some("everysec") => "weaker than promised: a crash of Redis's machine loses up to the last second (two when its \
                                 disk is slow), because `appendfsync` is everysec; set it to always"
                .to_owned(),
            Some(other) => format!(
                "weaker than promised: a crash of Redis's machine loses what the system had not yet written, about the last \
                 30 seconds, because `appendfsync` is {other}; set it to always"
            ),
            None => "unknown: Redis does not say what `appendfsync` is (CONFIG GET is not allowed, or it is a cluster). Unless \
                     it is always, a crash of its machine loses a second or more"
                .to_owned(),
        }
    }

    /// What is wrong; empty when all is well.
    fn detail(&self) -> &'static str {
        if self.says("loading") == "1" {
            "Redis is starting and still reads its data"
        } else if self.says("role") == "slave" {
            "Redis is a replica, which takes no writes: point the setting `url` at the primary"
        } else if self.says("aof_enabled") == "1" && self.says("aof_last_write_status") == "err" {
            "Redis cannot write to its disk: it is full or broken; its log says more"
        } else {
            ""
        }
    }
}

async fn cluster_info(link: &Link, section: &str) -> Result<String, RedisError> {
    let answers: ::redis::Value = link.call(&Call::command("INFO").arg(section)).await?;
    let first = match answers {
        ::redis::Value::Map(mut nodes) if !nodes.is_empty() => nodes.swap_remove(0).1,
        other => other,
    };
    Ok(::redis::from_redis_value(first)?)
}

pub(super) async fn health(links: &Links) -> Result<Health, StoreError> {
    let server = match links.connect_reader().await {
        Ok(link) => tokio::time::timeout_at(links.deadline(), Server::of(&link)).await,
        Err(error) => return Ok(unwell(links, &error)),
    };
    match server {
        Ok(Ok(server)) => {
            let detail = server.detail();
            let durability = server.durability();
            Ok(Health { writable: detail.is_empty(), detail: detail.to_owned(), durability })
        }
        Ok(Err(error)) => {
            links.forget_reader().await;
            Ok(unwell(links, &errors::refused(&error)))
        }
        Err(_) => {
            links.forget_reader().await;
            Ok(unwell(links, &links.too_slow()))
        }
    }
}

fn unwell(links: &Links, error: &StoreError) -> Health {
    let durability = links.durability().unwrap_or_else(|| "unknown until Redis can be reached".to_owned());
    Health { writable: false, detail: error.to_string(), durability }
}

pub(super) async fn verify(store: &dyn Store, links: &Links) -> Result<VerifyReport, StoreError> {
    let mut report = walk::verify_logs(store).await?;
    for tenant in store.tenants().await? {
        for space in read::spaces(links, &tenant).await? {
            verify_facts(links, (&tenant, &space), &mut report).await?;
        }
    }
    Ok(report)
}

async fn verify_facts(
    links: &Links,
    family: (&str, &str),
    report: &mut VerifyReport,
) -> Result<(), StoreError> {
    let [names, values, _] = links.keys.facts(family);
    let counts = [Call::command("ZCARD").arg(names), Call::command("HLEN").arg(values)];
    let counts: Vec<u64> = links.ask_all(&counts).await?;
    report.facts += counts[0];
    if counts[0] != counts[1] {
        let (tenant, space) = family;
        let (names, values) = (counts[0], counts[1]);
        report
            .problems
            .push(format!("facts {space:?} of tenant {tenant:?} have {names} names and {values} values"));
    }
    Ok(())
}
