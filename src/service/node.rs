//! Replicas of services as nodes of a lab.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::service::Service;
use crate::words::{listed, near};

/// One replica of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The container name of compose: `container_name`, otherwise `PROJECT-SERVICE-INDEX`. Unique.
    pub name: String,
    /// `h1` if the service has one replica, otherwise `h1-2`. Unique.
    pub short: String,
    pub service: Arc<Service>,
    /// From 1.
    pub index: u32,
    /// The service's `hostname`, otherwise `short`.
    pub hostname: String,
}

/// A name that is not the name of exactly one node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    #[error("no node is named `{word}`{}", suggestion(near))]
    Unknown { word: String, near: Option<String> },
    #[error("`{word}` is ambiguous: expected {}", listed(&texts(nodes)))]
    Ambiguous {
        word: String,
        /// The names of the nodes.
        nodes: Vec<String>,
    },
}

fn texts(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn suggestion(near: &Option<String>) -> String {
    near.as_ref().map(|it| format!("; did you mean `{it}`?")).unwrap_or_default()
}

/// All replicas in the order of starting: dependencies first, otherwise in the order of the files.
/// The engine's own service has no node.
pub fn nodes(services: &[Arc<Service>], project: &str) -> Vec<Node> {
    let mut nodes = Vec::new();
    for service in in_order(services).into_iter().filter(|it| !it.is_engine) {
        for index in 1..=service.replicas {
            let indexed = || format!("{}-{index}", service.name);
            let short = if service.replicas == 1 { service.name.clone() } else { indexed() };
            nodes.push(Node {
                name: service.container_name.clone().unwrap_or_else(|| format!("{project}-{}", indexed())),
                hostname: String::new(),
                short,
                service: service.clone(),
                index,
            });
        }
    }
    tell_apart(&mut nodes);
    for it in &mut nodes {
        let name = it.service.hostname.as_ref().unwrap_or(&it.short);
        it.hostname = name.get(..MAX_HOSTNAME).unwrap_or(name).to_owned();
    }
    nodes
}

/// The longest host name of `sethostname` (`__NEW_UTS_LEN`), in bytes.
const MAX_HOSTNAME: usize = 64;

/// Makes short names unique: a service may have the name of another's replica, such as `h-2`. Then the index is added.
fn tell_apart(nodes: &mut [Node]) {
    loop {
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        nodes.iter().for_each(|it| *count.entry(&it.short).or_default() += 1);
        let is_same = |it: &Node| it.short == it.service.name && count.get(it.short.as_str()) > Some(&1);
        let same: Vec<usize> = (0..).zip(&*nodes).filter(|(_, it)| is_same(it)).map(|(at, _)| at).collect();
        if same.is_empty() {
            return;
        }
        for at in same {
            if let Some(it) = nodes.get_mut(at) {
                it.short = format!("{}-{}", it.service.name, it.index);
            }
        }
    }
}

/// Services, each after its dependencies. A cycle, which is reported elsewhere, is cut.
fn in_order(services: &[Arc<Service>]) -> Vec<Arc<Service>> {
    let by_name: BTreeMap<&str, &Arc<Service>> = services.iter().map(|it| (it.name.as_str(), it)).collect();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut ordered = Vec::new();
    for service in services {
        let mut way: Vec<(&Arc<Service>, usize)> = Vec::new();
        if seen.insert(&service.name) {
            way.push((service, 0));
        }
        while let Some((at, next)) = way.last_mut() {
            let dependency = at.depends_on.get(*next);
            *next += 1;
            match dependency {
                Some(it) => {
                    if let Some(it) = by_name.get(it.service.as_str())
                        && seen.insert(&it.name)
                    {
                        way.push((it, 0));
                    }
                }
                None => ordered.extend(way.pop().map(|(it, _)| it.clone())),
            }
        }
    }
    ordered
}

/// Finds a node by its container name, which takes precedence; by its service, for the first replica; or by
/// `SERVICE-INDEX`.
pub fn find<'a>(nodes: &'a [Node], word: &str) -> Result<&'a Node, NotFound> {
    if let Some(it) = nodes.iter().find(|it| it.name == word) {
        return Ok(it);
    }
    let is_named = |it: &Node| {
        it.short == word
            || it.index == 1 && it.service.name == word
            || word.strip_prefix(it.service.name.as_str()).and_then(|it| it.strip_prefix('-'))
                == Some(it.index.to_string().as_str())
    };
    let found: Vec<&Node> = nodes.iter().filter(|it| is_named(it)).collect();
    match found.as_slice() {
        [it] => Ok(it),
        [] => {
            let names =
                nodes.iter().flat_map(|it| [it.short.as_str(), it.service.name.as_str(), it.name.as_str()]);
            let near = near(word, &names.collect::<Vec<_>>()).map(str::to_owned);
            Err(NotFound::Unknown { word: word.to_owned(), near })
        }
        several => Err(NotFound::Ambiguous {
            word: word.to_owned(),
            nodes: several.iter().map(|it| it.name.clone()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::sample;

    fn names(nodes: &[Node]) -> Vec<String> {
        nodes.iter().map(|it| format!("{} {} {}", it.name, it.short, it.hostname)).collect()
    }

    #[test]
    fn replicas_are_named_as_compose_names_containers() {
        let services = sample(
            "services:\n  a: {}\n  b: {scale: 2, hostname: h}\n  c: {container_name: own}\n  d: {scale: 0}\n  conlink: {image: conlink}\n",
        );
        let expected = ["p-a-1 a a", "p-b-1 b-1 h", "p-b-2 b-2 h", "own c c"];
        assert_eq!(names(&nodes(&services, "p")), expected);
        assert_eq!(nodes(&services, "p")[2].index, 2);
    }

    #[test]
    fn dependencies_come_first_and_the_rest_stays_in_order() {
        let services = sample(
            "services:\n  a: {depends_on: [d, c]}\n  b: {}\n  c: {}\n  d: {network_mode: 'service:e'}\n  e: {}\n",
        );
        let order: Vec<String> = nodes(&services, "p").into_iter().map(|it| it.short).collect();
        assert_eq!(order, ["e", "d", "c", "a", "b"]);
    }

    #[test]
    fn short_names_are_unique() {
        let services =
            sample("services:\n  h: {scale: 2}\n  h-2: {}\n  h-2-1: {}\n  x: {container_name: h-1}\n");
        let expected =
            ["p-h-1 h-1 h-1", "p-h-2 h-2 h-2", "p-h-2-1 h-2-1 h-2-1", "p-h-2-1-1 h-2-1-1 h-2-1-1", "h-1 x x"];
        assert_eq!(names(&nodes(&services, "p")), expected);
    }

    #[test]
    fn a_long_host_name_is_cut() {
        let services = sample(&format!("services:\n  {}: {{}}\n", "x".repeat(100)));
        let nodes = nodes(&services, "p");
        assert_eq!((nodes[0].short.len(), nodes[0].hostname.len()), (100, 64));
    }

    #[test]
    fn nodes_are_found_by_any_of_their_names() {
        let services = sample(
            "services:\n  h1: {}\n  web: {scale: 12}\n  x: {container_name: box}\n  web-2: {}\n  none: {scale: 0}\n",
        );
        let nodes = nodes(&services, "p");
        let found = |word: &str| match find(&nodes, word) {
            Ok(it) => it.name.clone(),
            Err(error) => error.to_string(),
        };
        for (word, expected) in [
            ("h1", "p-h1-1"),
            ("h1-1", "p-h1-1"),
            ("p-h1-1", "p-h1-1"),
            ("web", "p-web-1"),
            ("web-1", "p-web-1"),
            ("web-12", "p-web-12"),
            ("p-web-12", "p-web-12"),
            ("box", "box"),
            ("x", "box"),
            ("x-1", "box"),
            ("web-2-1", "p-web-2-1"),
            ("web-2", "`web-2` is ambiguous: expected `p-web-2` or `p-web-2-1`"),
            ("web-01", "no node is named `web-01`; did you mean `web-1`?"),
            ("wbe", "no node is named `wbe`; did you mean `web`?"),
            ("h2", "no node is named `h2`; did you mean `h1`?"),
            ("p-x-1", "no node is named `p-x-1`; did you mean `p-h1-1`?"),
            ("none", "no node is named `none`"),
            ("", "no node is named ``"),
        ] {
            assert_eq!(found(word), expected, "{word}");
        }
        assert_eq!(find(&[], "a").unwrap_err().to_string(), "no node is named `a`");
    }
}
