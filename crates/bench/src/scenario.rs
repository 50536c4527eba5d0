//! The cases: each takes its arguments and gives a report.

pub(crate) mod churn;
pub(crate) mod echo;
pub(crate) mod hostile;
pub(crate) mod idle;
pub(crate) mod recover;
pub(crate) mod relay;
pub(crate) mod slow;
pub(crate) mod window;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod faults;
