//! The web chat as bytes.
