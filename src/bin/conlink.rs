//! The one binary: which tool it is, [`conlink::main`] decides.

use std::process::ExitCode;

fn main() -> ExitCode {
    conlink::main(std::env::args_os().collect())
}
