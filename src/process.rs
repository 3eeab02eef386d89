//! Starts programs. No other module does.

mod capability;
mod child;
mod exec;
mod filter;
mod foreground;
mod handed_on;
pub mod node;
mod program;
pub mod rights;
mod sealed;
mod socket;

pub use capability::{Capability, has_capability};
pub use child::{Came, Child, ChildOutput, ChildSignal, Signals, exec, status_text};
pub use exec::exec_with;
pub use filter::{Filtered, filter};
pub use foreground::Foreground;
pub use handed_on::raise_file_limit;
pub use program::{Error, Program, Running, SYSTEM_PATH, find, is_executable};
pub use sealed::run_sealed;
pub use socket::connect;
