//! Databases and message services for tests: real servers as real processes on loopback, each with its own data folder and a free port.
//!
//! Made for doing harm: every service can be paused, continued, killed and started again on the same port and
//! data. Whatever happens to the test, its processes end with their guard, by their ids. The programs come from
//! the system's packages; `cargo xtask deps` names them and `cargo xtask test` installs them where it may.

mod balancer;
mod envoy;
mod etcd;
mod haproxy;
mod nats;
mod nginx;
mod postgres;
mod redis;
mod server;
mod shared;

pub use balancer::Upstream;
pub use envoy::Envoy;
pub use etcd::Etcd;
pub use haproxy::Haproxy;
pub use nats::Nats;
pub use nginx::Nginx;
pub use postgres::Postgres;
pub use redis::{Redis, RedisCluster, RedisSentinel};
#[cfg(target_os = "linux")]
pub(crate) use server::{in_path, program};
pub use shared::{Shared, Slot};
