//! The `outspoke` binary: hands over to [`outspoke::cli`].

use std::process::ExitCode;

// Measured to hold less memory per idle connection than the system's allocator, and not to fragment over months.
// The libraries leave the choice to their embedder.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    outspoke::cli::main()
}
