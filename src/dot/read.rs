//! Parses the JSON of `--show-config` into a [`Diagram`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use crate::dot::replica::{Replicas, first};
use crate::dot::text::scalar;
use crate::dot::{Diagram, Fact, Link, Node, NodeKind, Segment, SegmentKind};

/// A part of the JSON that `--show-config` would not print, or an unknown service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path, such as `services.web.links[0].ip`; empty for the whole.
    pub path: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// The diagram of the output of `--show-config`, ours or the reference tool's. The error lists all mistakes.
pub fn read(shown: &Value, replicas: &Replicas) -> Result<Diagram, Vec<Problem>> {
    let mut reader = Reader::new(replicas);
    reader.whole(shown);
    if reader.problems.is_empty() { Ok(reader.finish()) } else { Err(reader.problems) }
}

/// A link without the indices of its node and segment.
struct Draft {
    segment: Option<SegmentKey>,
    link: Link,
}

/// Sort key: bridges first, then devices; for equal names the engine's first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct SegmentKey {
    is_device: bool,
    name: String,
    /// A bridge is the same in all places; devices in different places are different.
    device_on_host: bool,
}

impl SegmentKey {
    fn bridge(name: &str) -> Self {
        Self { is_device: false, name: name.to_owned(), device_on_host: false }
    }
}

struct Reader<'a> {
    replicas: &'a Replicas,
    segments: BTreeMap<SegmentKey, Segment>,
    nodes: Vec<Node>,
    drafts: Vec<Draft>,
    /// Link ids in use.
    ids: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn new(replicas: &'a Replicas) -> Self {
        Self {
            replicas,
            segments: BTreeMap::new(),
            nodes: Vec::new(),
            drafts: Vec::new(),
            ids: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    fn wrong(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push(Problem { path: path.to_owned(), message: message.into() });
    }

    fn expected(&mut self, path: &str, what: &str, found: &Value) {
        let mut text = found.to_string();
        if text.chars().count() > 40 {
            text = text.chars().take(40).chain(['…']).collect();
        }
        self.wrong(path, format!("expected {what}, found `{text}`"));
    }

    /// A map; None if it is null or missing.
    fn map<'v>(&mut self, value: Option<&'v Value>, path: &str) -> Option<&'v Map<String, Value>> {
        match value {
            None | Some(Value::Null) => None,
            Some(Value::Object(it)) => Some(it),
            Some(other) => {
                self.expected(path, "an object", other);
                None
            }
        }
    }

    fn list<'v>(&mut self, value: Option<&'v Value>, path: &str) -> &'v [Value] {
        match value {
            None | Some(Value::Null) => &[],
            Some(Value::Array(it)) => it,
            Some(other) => {
                self.expected(path, "a list", other);
                &[]
            }
        }
    }

    /// A text, or a number as text; None if it is null or missing.
    fn text(&mut self, from: &Map<String, Value>, key: &str, path: &str) -> Option<String> {
        let value = from.get(key).filter(|it| !it.is_null())?;
        let text = scalar(value);
        if text.is_none() {
            self.expected(&format!("{path}.{key}"), "a text", value);
        }
        text
    }

    /// One or several texts.
    fn texts(&mut self, from: &Map<String, Value>, key: &str, path: &str) -> Vec<String> {
        match from.get(key) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => {
                let mut texts = Vec::new();
                for (at, item) in items.iter().enumerate() {
                    match scalar(item) {
                        Some(it) => texts.push(it),
                        None => self.expected(&format!("{path}.{key}[{at}]"), "a text", item),
                    }
                }
                texts
            }
            Some(_) => self.text(from, key, path).into_iter().collect(),
        }
    }

    fn whole(&mut self, shown: &Value) {
        let Some(top) = self.map(Some(shown), "") else {
            if shown.is_null() {
                self.expected("", "the object that `conlink --show-config` prints", shown);
            }
            return;
        };
        if !["bridges", "tunnels", "containers", "services"].iter().any(|it| top.contains_key(*it)) {
            let what = "an object with `bridges`, `tunnels`, `containers` or `services`, as `conlink --show-config` \
                        prints it";
            self.expected("", what, shown);
            return;
        }
        for (name, bridge) in self.map(top.get("bridges"), "bridges").into_iter().flatten() {
            self.bridge(Some(name), bridge, &format!("bridges.{name}"));
        }
        self.owners(top.get("services"), NodeKind::Service);
        self.owners(top.get("containers"), NodeKind::Container);
        self.tunnels(top.get("tunnels"));
        self.replicas_of_known_services(top.get("services"));
    }

    fn replicas_of_known_services(&mut self, services: Option<&Value>) {
        let known: Vec<&String> =
            services.and_then(Value::as_object).map(|it| it.keys().collect()).unwrap_or_default();
        for asked in self.replicas.services() {
            if known.iter().any(|it| *it == asked) {
                continue;
            }
            let all: Vec<String> = known.iter().map(|it| format!("`{it}`")).collect();
            let there_are = match all.len() {
                0 => "there are none".to_owned(),
                1..=12 => format!("there are {}", all.join(", ")),
                _ => format!("there are {}, …", all.get(..12).unwrap_or_default().join(", ")),
            };
            self.wrong("", format!("--replicas: no service is named `{asked}`; {there_are}"));
        }
    }

    /// Adds a bridge, from its own entry or from a link.
    fn bridge(&mut self, key: Option<&str>, value: &Value, path: &str) -> Option<SegmentKey> {
        let (name, mode, facts) = match value {
            Value::Object(it) => {
                let name = self.text(it, "bridge", path).or_else(|| key.map(str::to_owned));
                let mode = self.text(it, "mode", path).unwrap_or_default();
                let own = it.iter().filter(|(key, _)| !["bridge", "mode"].contains(&key.as_str()));
                let facts = own
                    .filter_map(|(key, it)| Some(Fact { name: key.clone(), values: vec![scalar(it)?] }))
                    .collect();
                (name, mode, facts)
            }
            Value::String(it) => (Some(it.clone()), String::new(), Vec::new()),
            other => {
                self.expected(path, "a bridge", other);
                return None;
            }
        };
        let Some(name) = name else {
            self.wrong(path, "the bridge has no name: `bridge` is missing");
            return None;
        };
        let found = SegmentKey::bridge(&name);
        let segment = self.segments.entry(found.clone()).or_insert_with(|| Segment {
            kind: SegmentKind::Bridge { mode: String::new() },
            name,
            on_host: false,
            facts: Vec::new(),
        });
        if let SegmentKind::Bridge { mode: old } = &mut segment.kind
            && old.is_empty()
        {
            *old = mode;
        }
        if segment.facts.is_empty() {
            segment.facts = facts;
        }
        Some(found)
    }

    /// Services or containers.
    fn owners(&mut self, value: Option<&Value>, kind: NodeKind) {
        let all = if kind == NodeKind::Service { "services" } else { "containers" };
        let mut entries: Vec<(&String, &Value)> =
            self.map(value, all).map(|it| it.iter().collect()).unwrap_or_default();
        entries.sort_by_key(|(name, _)| *name);
        for (name, entry) in entries {
            let path = format!("{all}.{name}");
            let entry = self.map(Some(entry), &path);
            let links = self.list(entry.and_then(|it| it.get("links")), &format!("{path}.links"));
            let commands = self.list(entry.and_then(|it| it.get("commands")), &format!("{path}.commands"));
            let commands: Vec<String> = commands.iter().filter_map(command).collect();
            let facts = if commands.is_empty() {
                Vec::new()
            } else {
                vec![Fact { name: "command".to_owned(), values: commands }]
            };
            let count = Some(name).filter(|_| kind == NodeKind::Service);
            let count = count.and_then(|it| self.replicas.count(it));
            let instances: Vec<Option<u32>> =
                count.map_or_else(|| vec![None], |count| (1..=count).map(Some).collect());
            for replica in instances {
                let links = match (replica, kind) {
                    (Some(it), _) => self.replicas.links(name, it, links),
                    (None, NodeKind::Service) => first(name, links),
                    (None, _) => links.to_vec(),
                };
                self.nodes.push(Node { kind, name: name.clone(), replica, facts: facts.clone() });
                for (at, link) in links.iter().enumerate() {
                    self.link(link, &format!("{path}.links[{at}]"));
                }
            }
        }
    }

    /// A link of the last node.
    fn link(&mut self, value: &Value, path: &str) {
        let Some(entry) = self.map(Some(value), path) else {
            if value.is_null() {
                self.expected(path, "a link", value);
            }
            return;
        };
        let kind = self.text(entry, "type", path).unwrap_or_else(|| "veth".to_owned());
        let dev = self.text(entry, "dev", path).unwrap_or_else(|| "eth0".to_owned());
        let mode = self.text(entry, "mode", path);
        let vlanid = self.text(entry, "vlanid", path);
        let outer = self.text(entry, "outer-dev", path);
        let base = self.text(entry, "base", path);
        let has_parent = matches!(kind.as_str(), "vlan" | "ipvlan" | "macvlan" | "ipvtap" | "macvtap");
        let on_host = match base.as_deref() {
            Some(base) => base == "host",
            None => has_parent,
        };
        // The reference tool accepts and ignores `bridge` for other types.
        let is_bridged = !has_parent && kind != "dummy";
        let bridge = match entry.get("bridge").filter(|it| is_bridged && !it.is_null()) {
            Some(it) => self.bridge(None, it, &format!("{path}.bridge")),
            None => None,
        };
        let segment = match (bridge, &outer) {
            (Some(bridge), _) => {
                if on_host && let Some(it) = self.segments.get_mut(&bridge) {
                    it.on_host = true;
                }
                Some(bridge)
            }
            (None, Some(parent)) if has_parent => Some(self.device(parent, on_host)),
            (None, _) => None,
        };
        let at = self.nodes.len().saturating_sub(1);
        let owner = self.nodes.last().map(|it| (it.name.clone(), it.kind, it.replica));
        let (name, node_kind, replica) = owner.unwrap_or((String::new(), NodeKind::Container, None));
        let is_veth = segment.is_some() && !has_parent;
        let outer = match outer {
            Some(it) if is_veth => it,
            _ if is_veth => outer_name(&name, node_kind, replica, &dev),
            _ => String::new(),
        };
        let shown_kind = match (kind.as_str(), &vlanid, &mode) {
            ("vlan", Some(id), _) => format!("vlan {id}"),
            (kind, _, Some(mode)) if has_parent => format!("{kind} {mode}"),
            (kind, _, _) => kind.to_owned(),
        };
        let addrs = self.texts(entry, "ip", path);
        let forwards = self.forwards(entry.get("forward"), &format!("{path}.forward"));
        let netem = self.texts(entry, "netem", path).join(" ");
        let netem_in = self.texts(entry, "netem-in", path).join(" ");
        let nat = self.text(entry, "nat", path);
        let mut marks = Vec::new();
        marks.extend(Some(&netem).filter(|it| !it.is_empty()).map(|it| format!("netem {it}")));
        marks.extend(Some(&netem_in).filter(|it| !it.is_empty()).map(|it| format!("netem-in {it}")));
        marks.extend(forwards.iter().map(|it| format!("forward {it}")));
        marks.extend(nat.as_ref().map(|it| format!("nat {it}")));
        let mut facts = Vec::new();
        let mut fact = |name: &str, values: Vec<String>| {
            let values: Vec<String> = values.into_iter().filter(|it| !it.is_empty()).collect();
            if !values.is_empty() {
                facts.push(Fact { name: name.to_owned(), values });
            }
        };
        fact("interface", vec![dev.clone()]);
        fact("type", vec![shown_kind.clone()]);
        fact("ip", addrs.clone());
        fact("mac", self.text(entry, "mac", path).into_iter().collect());
        fact("mtu", self.text(entry, "mtu", path).into_iter().collect());
        fact("outer interface", vec![outer.clone()]);
        fact("route", self.texts(entry, "route", path));
        fact("netem", vec![netem]);
        fact("netem-in", vec![netem_in]);
        fact("forward", forwards);
        fact("nat", nat.into_iter().collect());
        fact("ethtool", self.texts(entry, "ethtool", path));
        let owner = match replica {
            Some(index) => format!("{name} {index}"),
            None => name,
        };
        let id = self.unused_id(format!("{owner}:{dev}"));
        let link = Link {
            id,
            node: at,
            segment: None,
            dev,
            outer,
            kind: shown_kind,
            is_tunnel: false,
            addrs,
            marks,
            facts,
        };
        self.drafts.push(Draft { segment, link });
    }

    fn device(&mut self, name: &str, on_host: bool) -> SegmentKey {
        let key = SegmentKey { is_device: true, name: name.to_owned(), device_on_host: on_host };
        self.segments.entry(key.clone()).or_insert_with(|| Segment {
            kind: SegmentKind::Device,
            name: name.to_owned(),
            on_host,
            facts: Vec::new(),
        });
        key
    }

    /// `8080→80/tcp`, from `[8080, 80, "tcp"]` or `8080:80/tcp`.
    fn forwards(&mut self, value: Option<&Value>, path: &str) -> Vec<String> {
        let of_text = |it: &str| it.replacen(':', "→", 1);
        let all = match value {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::String(it)) => return vec![of_text(it)],
            Some(it) => self.list(Some(it), path),
        };
        let mut forwards = Vec::new();
        for (at, it) in all.iter().enumerate() {
            let parts: Option<Vec<String>> = it.as_array().and_then(|it| it.iter().map(scalar).collect());
            match (parts.as_deref(), it.as_str()) {
                (Some([outer, inner, protocol]), _) => forwards.push(format!("{outer}→{inner}/{protocol}")),
                (_, Some(text)) => forwards.push(of_text(text)),
                _ => self.expected(&format!("{path}[{at}]"), "[OUTER, INNER, PROTOCOL]", it),
            }
        }
        forwards
    }

    /// Adds the tunnels as links of the remote hosts.
    fn tunnels(&mut self, value: Option<&Value>) {
        let mut remotes: BTreeMap<String, usize> = BTreeMap::new();
        let mut read = Vec::new();
        for (at, value) in self.list(value, "tunnels").iter().enumerate() {
            let path = format!("tunnels[{at}]");
            let Some(entry) = self.map(Some(value), &path) else { continue };
            let kind = self.text(entry, "type", &path).unwrap_or_else(|| "tunnel".to_owned());
            let remote = self.text(entry, "remote", &path);
            let vni = self.text(entry, "vni", &path).unwrap_or_default();
            let bridge = entry.get("bridge").filter(|it| !it.is_null());
            let (Some(remote), Some(bridge)) = (remote, bridge) else {
                self.wrong(&path, "expected `remote` and `bridge`");
                continue;
            };
            let segment = self.bridge(None, bridge, &format!("{path}.bridge"));
            remotes.entry(remote.clone()).or_default();
            let netem = self.texts(entry, "netem", &path).join(" ");
            let mut facts = vec![
                Fact { name: "type".to_owned(), values: vec![kind.clone()] },
                Fact { name: "vni".to_owned(), values: vec![vni.clone()] },
                Fact { name: "remote".to_owned(), values: vec![remote.clone()] },
            ];
            for key in ["local", "dstport", "ttl", "mtu", "mac", "netem"] {
                let values = self.texts(entry, key, &path);
                if !values.is_empty() {
                    facts.push(Fact { name: key.to_owned(), values });
                }
            }
            let outer = format!("{kind}-{vni}");
            let id = self.unused_id(format!("{outer}:{remote}"));
            let marks = Some(netem).filter(|it| !it.is_empty()).map(|it| format!("netem {it}"));
            let link = Link {
                id,
                node: 0,
                segment: None,
                dev: String::new(),
                outer,
                kind: format!("{kind} {vni}").trim_end().to_owned(),
                is_tunnel: true,
                addrs: Vec::new(),
                marks: marks.into_iter().collect(),
                facts,
            };
            read.push((remote, Draft { segment, link }));
        }
        for (remote, number) in &mut remotes {
            *number = self.nodes.len();
            let (kind, name) = (NodeKind::Remote, remote.clone());
            self.nodes.push(Node { kind, name, replica: None, facts: Vec::new() });
        }
        // A stable sort by node keeps the order of the configuration.
        read.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (remote, mut draft) in read {
            draft.link.node = remotes.get(&remote).copied().unwrap_or_default();
            self.drafts.push(draft);
        }
    }

    fn unused_id(&mut self, wanted: String) -> String {
        let mut id = wanted.clone();
        let mut count = 1;
        while !self.ids.insert(id.clone()) {
            count += 1;
            id = format!("{wanted}#{count}");
        }
        id
    }

    fn finish(self) -> Diagram {
        let numbers: BTreeMap<&SegmentKey, usize> =
            self.segments.keys().enumerate().map(|(at, key)| (key, at)).collect();
        let links = self
            .drafts
            .into_iter()
            .map(|it| Link { segment: it.segment.and_then(|it| numbers.get(&it).copied()), ..it.link })
            .collect();
        Diagram { segments: self.segments.into_values().collect(), nodes: self.nodes, links }
    }
}

/// The default name of a link's outer end. A long name contains the container's id, which is unknown here.
fn outer_name(owner: &str, kind: NodeKind, replica: Option<u32>, dev: &str) -> String {
    let name = match kind {
        NodeKind::Service => format!("{owner}_{}-{dev}", replica.unwrap_or(1)),
        NodeKind::Container | NodeKind::Remote => format!("{owner}-{dev}"),
    };
    if name.len() <= crate::addr::IfName::MAX {
        return name;
    }
    format!("c…-{}", dev.chars().take(5).collect::<String>())
}

/// The command of an entry of `commands`, with spaces between arguments.
fn command(entry: &Value) -> Option<String> {
    match entry.get("command")? {
        Value::Array(items) => Some(items.iter().filter_map(scalar).collect::<Vec<_>>().join(" ")),
        other => scalar(other),
    }
}
