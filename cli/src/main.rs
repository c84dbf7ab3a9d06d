//! The `freshline` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    freshline_cli::main()
}
