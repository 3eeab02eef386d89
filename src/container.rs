//! Containers, as an engine reports them.

/// A container of the engine: its full id (64 hexadecimal digits).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

impl ContainerId {
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 characters, as engines print it.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// A container as the engine lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: ContainerId,
    /// Without the leading `/`.
    pub name: String,
    /// Label `com.docker.compose.project`.
    pub project: Option<String>,
    /// Label `com.docker.compose.project.working_dir`.
    pub working_dir: Option<String>,
    /// Label `com.docker.compose.service`.
    pub service: Option<String>,
    /// Label `com.docker.compose.container-number`, else 1.
    pub index: u32,
}
