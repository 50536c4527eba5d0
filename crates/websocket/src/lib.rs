//! RFC 6455 frames and handshake, RFC 7692 compression: bytes in, frames out, no I/O.
