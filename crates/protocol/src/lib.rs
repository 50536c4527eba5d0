//! The neutral Message, its codes, and the dialects.
