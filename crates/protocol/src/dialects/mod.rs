//! The wire formats that ship. A new one is a folder here and a line in [`standard`].

use std::sync::Arc;

use crate::Dialect;

pub mod gohub;
pub mod native;
mod shared;

pub use shared::{SERVER_TYPES, custom_kind};

/// Every dialect of this crate; the first is what a client gets that names none.
#[must_use]
pub fn standard() -> Vec<Arc<dyn Dialect>> {
    vec![Arc::new(native::Native), Arc::new(gohub::Gohub), Arc::new(native::NativeBinary)]
}
