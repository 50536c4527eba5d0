//! The `outspoke` binary: hands over to [`outspoke::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    outspoke::cli::main()
}
