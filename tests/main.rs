//! The one integration binary.

#![expect(clippy::disallowed_methods, reason = "tests run programs: the binary under test, `ip`, `tc`")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attach;
mod compose;
mod conlink;
mod copy;
mod dependencies;
mod dhcp;
mod diagnostics;
mod docker;
mod events;
mod golden;
mod kernel;
mod lab;
mod layers;
mod mdc;
mod model;
mod net2dot;
mod netns;
mod pages;
mod pipework;
mod plan;
mod resolve_deps;
mod schema;
mod service;
mod status;
mod support;
mod wait;
