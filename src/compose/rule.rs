//! The merge rule of each attribute: the table of the compose specification, as compose 2.40 applies it.

/// How to merge two values of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Maps key by key, lists appended, of two scalars the later.
    Deep,
    /// The later value, even where it is nothing.
    Replace,
    /// `KEY=VALUE` as a list or a map: one map, by key.
    KeyValue,
    /// One text or a list of them: appended, once each. What is before a `=` tells them apart.
    Texts,
    /// One text or a list of them: appended.
    Append,
    /// Names with addresses, of which a name may have several: appended, once each.
    Hosts,
    /// A list whose entries have a key: a later entry takes the place of the earlier one.
    Keyed(Entry),
    /// A list of names, or a map from them.
    Names,
    /// As [`Rule::Names`], where a name alone stands for a condition.
    DependsOn,
    /// One text that is the context, or a map.
    Build,
    /// `id=path` as a list or a map. Once it is a map no list merges with it.
    Ssh,
    /// One text that is the service, or a map.
    Extends,
    /// `all`, or a list.
    Gpus,
    /// Merged where the driver stays the same.
    Logging,
    /// Entries of the later list, each over the earlier one of its subnet.
    Ipam,
}

/// The kind of a list's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Port,
    Volume,
    Device,
    Secret,
    Config,
    EnvFile,
    Expose,
    /// Has no key: `build.secrets`.
    BuildSecret,
}

/// The rule for the attribute at a path from the top of the document.
pub(super) fn rule(path: &[String]) -> Rule {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["services", _, rest @ ..] => of_service(rest),
        ["networks" | "volumes", _, "labels"] => Rule::KeyValue,
        ["networks", _, "ipam", "config"] => Rule::Ipam,
        _ => Rule::Deep,
    }
}

fn of_service(path: &[&str]) -> Rule {
    match path {
        ["command" | "entrypoint"] | ["healthcheck", "test"] | ["ulimits", _] => Rule::Replace,
        ["environment" | "labels" | "annotations" | "sysctls"]
        | ["build", "args" | "labels" | "additional_contexts"]
        | ["deploy", "labels"] => Rule::KeyValue,
        ["cap_add" | "cap_drop" | "dns" | "dns_opt" | "dns_search" | "links" | "profiles" | "tmpfs"]
        | ["build", "tags"]
        | ["networks", _, "aliases" | "link_local_ips"] => Rule::Texts,
        ["label_file"] => Rule::Append,
        ["extra_hosts"] | ["build", "extra_hosts"] => Rule::Hosts,
        ["ports"] => Rule::Keyed(Entry::Port),
        ["volumes"] => Rule::Keyed(Entry::Volume),
        ["devices"] => Rule::Keyed(Entry::Device),
        ["secrets"] => Rule::Keyed(Entry::Secret),
        ["configs"] => Rule::Keyed(Entry::Config),
        ["env_file"] => Rule::Keyed(Entry::EnvFile),
        ["expose"] => Rule::Keyed(Entry::Expose),
        ["build", "secrets"] => Rule::Keyed(Entry::BuildSecret),
        ["networks" | "models"] => Rule::Names,
        ["depends_on"] => Rule::DependsOn,
        ["build"] => Rule::Build,
        ["build", "ssh"] => Rule::Ssh,
        ["extends"] => Rule::Extends,
        ["gpus"] => Rule::Gpus,
        ["logging"] => Rule::Logging,
        _ => Rule::Deep,
    }
}

/// Lists in which compose refuses duplicates and merging does not remove them.
pub(super) fn refuses_twice(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    matches!(
        path.as_slice(),
        [
            "services",
            _,
            "security_opt" | "group_add" | "external_links" | "volumes_from" | "device_cgroup_rules"
        ] | ["services", _, "deploy", "resources", "reservations", "devices", _, "capabilities"]
            | ["volumes", _, "labels"]
    )
}
