//! Starting programs: the only module that does.

mod exec;
mod program;

pub use exec::exec_with;
pub use program::{Error, Program, SYSTEM_PATH, find};
