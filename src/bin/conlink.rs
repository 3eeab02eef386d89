//! The binary; [`conlink::main`] selects the tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    conlink::main(std::env::args_os().collect())
}
