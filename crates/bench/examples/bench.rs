//! The load generator as a program of its own: what `outspoke bench` runs, without the server around it.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(flatten)]
    args: outspoke_bench::Args,
}

fn main() -> anyhow::Result<ExitCode> {
    outspoke_bench::run(Cli::parse().args)
}
