//! The JSON Schema for editors: it accepts everything that the tool accepts, and refuses most of what the tool refuses.

use std::fs;
use std::path::Path;

use conlink::config::{Env, Input, Severity, Sources, documents, load, schema};
use conlink::network::{Defaults, resolve};
use jsonschema::Validator;
use serde_json::Value;

use crate::support::cases;

fn validators() -> [Validator; 2] {
    [false, true].map(|it| jsonschema::draft202012::options().build(&schema(it)).unwrap())
}

/// A file as a tree of JSON, read by our own loader.
fn json(path: &Path) -> Value {
    let mut sources = Sources::default();
    let file = sources.add("f", fs::read_to_string(path).unwrap());
    documents(&sources, file, &mut Vec::new())[0].to_json()
}

/// Does the tool take the file alone? Variables that it needs are those of the case.
fn is_taken(path: &Path, env: &Env, is_compose: bool) -> bool {
    let mut sources = Sources::default();
    let file = sources.add("f", fs::read_to_string(path).unwrap());
    let input = if is_compose { Input::Compose(file) } else { Input::Network(file) };
    let (config, mut found) = load(&sources, &[input], env);
    found.extend(resolve(config, sources.into(), Defaults::default()).1);
    !found.iter().any(|it| it.severity == Severity::Error)
}

#[test]
fn the_schema_is_one() {
    for it in [false, true] {
        let schema = schema(it);
        assert!(schema["properties"].is_object() && schema["$defs"]["link"].is_object());
        jsonschema::draft202012::meta::validate(&schema).unwrap();
    }
}

#[test]
fn files_that_the_tool_accepts_are_valid() {
    let [network, compose] = validators();
    let (mut taken, mut refused) = (0, 0);
    for case in cases("show-config") {
        let spec: Value = serde_json::from_str(&fs::read_to_string(case.join("case.json")).unwrap()).unwrap();
        let env: Env = serde_json::from_value(spec["env"].clone()).unwrap();
        for (name, validator, is_compose) in
            [("a.yaml", &compose, true), ("b.yaml", &compose, true), ("net.yaml", &network, false)]
        {
            let path = case.join(name);
            if !path.exists() {
                continue;
            }
            if !is_taken(&path, &env, is_compose) {
                refused += 1;
                continue;
            }
            taken += 1;
            let errors: Vec<String> = validator.iter_errors(&json(&path)).map(|it| it.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        }
    }
    assert!(taken > 25 && refused > 10, "{taken} taken, {refused} refused");
}

#[test]
fn examples_in_descriptions_are_valid() {
    fn each(schema: &Value, check: &mut impl FnMut(&Value, &Value)) {
        if let Some(examples) = schema.get("examples").and_then(Value::as_array) {
            examples.iter().for_each(|it| check(schema, it));
        }
        match schema {
            Value::Object(it) => it.values().for_each(|it| each(it, check)),
            Value::Array(it) => it.iter().for_each(|it| each(it, check)),
            _ => {}
        }
    }
    let root = schema(false);
    let mut count = 0;
    each(&root, &mut |schema, example| {
        let mut schema = schema.clone();
        schema["$defs"] = root["$defs"].clone();
        jsonschema::draft202012::validate(&schema, example).unwrap();
        count += 1;
    });
    assert!(count > 10);
}

/// A language server shows these in place of the regular expression, and in the list of properties.
#[test]
fn every_property_has_a_description_and_every_pattern_a_message() {
    fn described(schema: &Value, root: &Value) -> bool {
        schema["description"].is_string()
            || schema["$ref"].as_str().is_some_and(|it| described(root.pointer(&it[1..]).unwrap(), root))
    }
    fn each(schema: &Value, root: &Value, count: &mut usize) {
        if schema["pattern"].is_string() {
            assert!(
                schema["patternErrorMessage"].as_str().is_some_and(|it| it.starts_with("expected ")),
                "{schema}"
            );
            *count += 1;
        }
        if let Some(properties) = schema["properties"].as_object().filter(|_| schema["type"].is_string()) {
            for (name, property) in properties {
                assert!(described(property, root), "{name}");
                *count += 1;
            }
        }
        match schema {
            Value::Object(it) => it.values().for_each(|it| each(it, root, count)),
            Value::Array(it) => it.iter().for_each(|it| each(it, root, count)),
            _ => {}
        }
    }
    let root = schema(false);
    let mut count = 0;
    each(&root, &root, &mut count);
    assert!(count > 40, "{count}");
}

#[test]
fn links_of_every_type_are_valid() {
    let [network, _] = validators();
    for link in [
        r#"{"service": "a", "bridge": "s1"}"#,
        r#"{"container": "a", "bridge": 5, "type": "veth", "ip": ["10.0.0.1/24", "fd00::1/64"], "forward": ["80:80/tcp"], "nat": "10.0.0.9"}"#,
        r#"{"service": "a", "type": "dummy", "base": "local", "mtu": "9000", "mac": "02:00:00:00:00:01"}"#,
        r#"{"service": "a", "type": "vlan", "vlanid": "${VLAN}", "outer-dev": "${DEV:-eth0}"}"#,
        r#"{"service": "a", "type": "macvtap", "mode": "bridge", "outer-dev": "eth0", "base": "conlink"}"#,
        r#"{"service": "a", "type": "ipvlan", "mode": "l3s", "flag": "private", "outer-dev": "eth0", "x-note": [1]}"#,
        r#"{"service": "a", "bridge": "s1", "mode": "bridge", "vlanid": 5}"#,
        r#"{"service": "a", "type": "dummy", "bridge": "s1", "outer-dev": "eth0", "mode": "l2", "vlanid": 5}"#,
        r#"{"service": "a", "type": "${TYPE}", "ip": "10.{{index}}.0.1/24", "bridge": "b", "mode": "$MODE"}"#,
        r#"{"service": "a", "bridge": "s1", "netem": ["delay 1ms"], "ethtool": "--offload rx off", "route": "default via 10.0.0.1"}"#,
        r#"{"service": "a", "bridge": "s1", "dev": "lo0", "outer-dev": "default0", "ip": ["10.0.0.0/31", "10.0.0.255/24", "::2/64", "ff::1/64"]}"#,
        r#"{"service": "a", "bridge": "s1", "required": true, "repair": "false"}"#,
        r#"{"service": "a", "bridge": "s1", "required": "${ALL:-true}", "repair": false}"#,
    ] {
        let document: Value = serde_json::from_str(&format!(r#"{{"links": [{link}]}}"#)).unwrap();
        let errors: Vec<String> = network.iter_errors(&document).map(|it| it.to_string()).collect();
        assert!(errors.is_empty(), "{link}: {errors:#?}");
    }
}

#[test]
fn mistakes_are_invalid() {
    let [network, compose] = validators();
    for document in [
        r#"[]"#,
        r#"{"link": []}"#,
        r#"{"links": {}}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "brige": "s2"}]}"#,
        r#"{"links": [{"bridge": "s1"}]}"#,
        r#"{"links": [{"service": "a", "container": "b", "bridge": "s1"}]}"#,
        r#"{"links": [{"service": "a"}]}"#,
        r#"{"links": [{"service": "a", "type": "veth"}]}"#,
        r#"{"links": [{"service": "a", "type": "vet", "bridge": "s1"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "base": "local"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "ip": "10.0.0.1"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "ip": ["10.0.0.256/24"]}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "ip": "10.0.0.1/33"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "dev": "sixteen_bytes_ab"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "dev": "a/b"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "dev": "lo"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "outer-dev": "all"}]}"#,
        r#"{"links": [{"service": "a", "type": "macvlan", "outer-dev": "lo"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "ip": "0.0.0.0/0"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "ip": ["10.0.0.1/24", "224.0.0.1/24"]}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "ip": "255.255.255.255/32"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "ip": "127.0.0.2/8"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "ip": "::/0"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "ip": "::1/128"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "ip": "FF02::1/64"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "dev": "eth%d"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "dev": "a\u00a0b"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "outer-dev": "a\u001bb"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "required": "yes"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "repair": 1}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "mtu": 67}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "mtu": 1500.5}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "mac": "01:00:00:00:00:01"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "ip": "10.0.0.1/24", "forward": "80:80"}]}"#,
        r#"{"links": [{"service": "a", "bridge": "s1", "netem": {"delay": "1ms"}}]}"#,
        r#"{"links": [{"service": "a", "type": "vlan", "outer-dev": "eth0"}]}"#,
        r#"{"links": [{"service": "a", "type": "vlan", "vlanid": 4095, "outer-dev": "eth0"}]}"#,
        r#"{"links": [{"service": "a", "type": "macvlan"}]}"#,
        r#"{"links": [{"service": "a", "type": "macvlan", "outer-dev": "eth0", "mode": "l2"}]}"#,
        r#"{"links": [{"service": "a", "type": "ipvlan", "outer-dev": "eth0", "mac": "02:00:00:00:00:01"}]}"#,
        r#"{"links": [{"service": "a", "type": "ipvtap", "outer-dev": "eth0", "mode": "bridge"}]}"#,
        r#"{"links": [{"service": "a", "type": "ipvlan", "outer-dev": "eth0", "flag": "passthru"}]}"#,
        r#"{"bridges": [{"mode": "linux"}]}"#,
        r#"{"bridges": [{"bridge": "s1", "mode": "hub"}]}"#,
        r#"{"bridges": [{"bridge": "default", "mode": "linux"}]}"#,
        r#"{"bridges": [{"bridge": "sixteen_bytes_ab", "mode": "ovs"}]}"#,
        r#"{"bridges": [{"bridge": "s1", "mode": "patch", "stp": true}]}"#,
        r#"{"bridges": [{"bridge": "s1", "group-fwd-mask": 1}]}"#,
        r#"{"tunnels": [{"type": "vxlan", "bridge": "s1", "remote": "10.0.0.1"}]}"#,
        r#"{"tunnels": [{"type": "gre", "bridge": "s1", "remote": "10.0.0.1", "vni": 1}]}"#,
        r#"{"tunnels": [{"type": "vxlan", "bridge": "s1", "remote": "10.0.0.1", "vni": 16777216}]}"#,
        r#"{"commands": [{"service": "a"}]}"#,
        r#"{"commands": [{"service": "a", "command": []}]}"#,
        r#"{"commands": [{"command": "id"}]}"#,
    ] {
        let value: Value = serde_json::from_str(document).unwrap();
        assert!(!network.is_valid(&value), "{document}");
        let inside = serde_json::json!({"services": {"a": {"image": "i"}}, "x-network": value});
        assert!(!compose.is_valid(&inside), "{document}");
        // What the schema refuses, the tool must not take.
        let mut sources = Sources::default();
        let file = sources.add("f", document);
        let (config, mut found) = load(&sources, &[Input::Network(file)], &Env::new());
        found.extend(resolve(config, sources.into(), Defaults::default()).1);
        let is_refused = found.iter().any(|it| it.severity == Severity::Error);
        assert!(is_refused, "the tool takes {document}");
    }
}

#[test]
fn a_service_of_a_compose_file_need_not_name_itself() {
    let [_, compose] = validators();
    let link =
        |link: &str| format!(r#"{{"services": {{"a": {{"x-network": {{"links": [{link}]}}}}, "b": null}}}}"#);
    let is_valid = |text: &str| compose.is_valid(&serde_json::from_str(text).unwrap());
    assert!(is_valid(&link(r#"{"bridge": "s1"}"#)));
    assert!(is_valid(&link(r#"{"bridge": "s1", "container": "c"}"#)));
    assert!(!is_valid(&link(r#"{"bridge": "s1", "container": "c", "service": "s"}"#)));
    assert!(!is_valid(&link(r#"{"type": "veth"}"#)));
}
