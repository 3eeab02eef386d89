//! From file names to a network, or to what is wrong with it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use crate::config::{Diagnostic, Env, FileId, Input, Sources, load, tidy};
use crate::network::{Defaults, Network, resolve};
use crate::tools::conlink::Files;

/// What the files describe, with all that is wrong with them.
pub(in crate::tools) struct Described {
    pub(in crate::tools) network: Network,
    pub(in crate::tools) sources: Arc<Sources>,
    pub(in crate::tools) diagnostics: Vec<Diagnostic>,
    /// In the order of merging.
    pub(in crate::tools) compose_files: Vec<FileId>,
}

/// How a file is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tools) enum Role {
    Compose,
    Network,
}

impl Files {
    /// Every file with its role, in the order of merging.
    pub(in crate::tools) fn list(&self) -> Vec<(PathBuf, Role)> {
        let compose = self.compose_files.iter().map(|it| (it.clone(), Role::Compose));
        let network = self.network_files.iter().map(|it| (it.clone(), Role::Network));
        compose.chain(network).filter(|(path, _)| !path.as_os_str().is_empty()).collect()
    }

    pub(in crate::tools) fn defaults(&self, project: &str) -> Defaults {
        Defaults {
            bridge_mode: self.default_bridge_mode.into(),
            mtu: self.default_mtu,
            keep_veth_offload: self.keep_veth_offload,
            // What the machine has, the engine asks when it starts.
            ovs: false,
            project: project.to_owned(),
        }
    }
}

/// Reads the files and resolves what they say. An error is a file that cannot be read.
pub(in crate::tools) fn describe(
    files: &[(PathBuf, Role)],
    defaults: Defaults,
    env: &Env,
) -> anyhow::Result<Described> {
    let mut compose_files = Vec::new();
    let mut sources = Sources::default();
    let mut inputs = Vec::new();
    let mut unreadable = Vec::new();
    for (path, role) in files {
        match std::fs::read(path).with_context(|| format!("read {}", path.display())) {
            Ok(bytes) => {
                let file = sources.add(path.display().to_string(), bytes);
                inputs.push(match role {
                    Role::Compose => {
                        compose_files.push(file);
                        Input::Compose(file)
                    }
                    Role::Network => Input::Network(file),
                });
            }
            Err(error) => unreadable.push(format!("{error:#}")),
        }
    }
    if !unreadable.is_empty() {
        anyhow::bail!(unreadable.join("\nerror: "));
    }
    let (config, mut diagnostics) = load(&sources, &inputs, env);
    let sources = Arc::new(sources);
    let (network, found) = resolve(config, sources.clone(), defaults);
    diagnostics.extend(found);
    tidy(&mut diagnostics);
    Ok(Described { network, sources, diagnostics, compose_files })
}
