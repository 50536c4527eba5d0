//! Services for tests, databases and load balancers: real servers as real processes on loopback, each with its own
//! folder and a free port.
//!
//! Made for doing harm: every database can be paused, continued, killed and started again on the same port and
//! data. Whatever happens to the test, its processes end with their guard, by their ids. The programs come from
//! the system's packages; `cargo xtask deps` names them and `cargo xtask test` installs them where it may.

mod balancer;
mod envoy;
mod haproxy;
mod nginx;
mod postgres;
mod redis;
mod server;
mod shared;

pub use balancer::Upstream;
pub use envoy::Envoy;
pub use haproxy::Haproxy;
pub use nginx::Nginx;
pub use postgres::Postgres;
pub use redis::{Redis, RedisCluster};
pub use shared::{Shared, Slot};
