//! Invalid answers of a container engine.

use super::*;

fn answer_of(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    answer_of("200 OK", body.as_ref())
}

/// Answers in chunks, those before `end`.
fn chunks(parts: &[&[u8]], end: &[u8]) -> Vec<u8> {
    let mut all = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for it in parts {
        all.extend([format!("{:x}\r\n", it.len()).as_bytes(), it, b"\r\n"].concat());
    }
    [&all, end].concat()
}

/// Answers that are wrong whatever was asked for.
fn always_wrong() -> Vec<(&'static str, Vec<u8>)> {
    let page = b"<html>\nerror: All links connected\n</html>";
    vec![
        ("nothing", Vec::new()),
        ("no HTTP", b"\xff\xfe\x00\n\n".to_vec()),
        ("a page", answer_of("500 Internal Server Error", page)),
        ("a page that is fine", ok(page)),
        ("an empty body", ok("")),
        ("null", ok("null")),
        ("a number", ok("1e999")),
        ("a text", ok("\"All links connected\"")),
        ("invalid UTF-8", ok(b"{\"Id\":\"\xff\xff\"}")),
        ("deep nesting", ok("[".repeat(100_000))),
        ("more that was promised", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n[]".to_vec()),
        ("a length that is none", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n[]".to_vec()),
        ("a cut chunk", chunks(&[b"[{\"Id\":"], b"ff\r\n\"ab")),
        ("a chunk without a length", chunks(&[], b"zz\r\n[]\r\n")),
    ]
}

/// A list with one container, of which something is wrong.
fn listed(key: &str, value: Value) -> Vec<u8> {
    let mut it = json!({"Id": id("p-h-7"), "Names": ["/p-h-7"], "State": "running", "Labels": Docker::labels("p-h-7")});
    it[key] = value;
    ok(json!([it]).to_string())
}

/// Nobody was told that all is well.
#[track_caller]
fn assert_not_well(world: &World, what: &str) {
    let health = world.conlink(&["healthcheck"]);
    assert_eq!(health.code, 1, "{what}: {}{}", health.stdout, world.log());
    let log = world.log();
    assert!(!log.lines().any(|it| it.ends_with("All links connected")), "{what}: {log}");
}

/// Another container is wired, and then all is well.
#[track_caller]
fn assert_wires(world: &World, what: &str) {
    world.run("p-h-1");
    let expected = "engine `p`: connected, 1 node, 1 link\n";
    world.within(what, |it| it.conlink(&["healthcheck"]).stdout == expected);
    world.kill("p-h-1");
}

#[test]
fn an_invalid_list_of_containers_is_reported_and_not_used() {
    let Some(mut world) = World::new("hostile lists", NETWORK) else { return };
    let mut cases = always_wrong();
    cases.extend([
        ("an object", ok("{}")),
        ("a list of nulls", ok("[null]")),
        ("an id that is a number", listed("Id", json!(7))),
        ("names that are a text", listed("Names", json!("p-h-7"))),
        ("labels that are a list", listed("Labels", json!([1]))),
    ]);
    for (what, answer) in cases {
        world.docker().raw.insert("list".to_owned(), answer);
        world.start();
        world.within(what, |it| it.log().contains("docker: connection lost, trying again: "));
        assert_not_well(&world, what);
        world.docker().raw.clear();
        assert_wires(&world, what);
    }
}

#[test]
fn a_container_with_an_invalid_id_is_an_error_of_its_own() {
    let Some(mut world) = World::new("hostile ids", NETWORK) else { return };
    let ids = [json!(null), json!("../events"), json!("a\nAll links connected")];
    let entry = |(number, id): (usize, &Value)| {
        let name = format!("p-h-{}", number + 7);
        json!({"Id": id, "Names": [format!("/{name}")], "State": "running", "Labels": Docker::labels(&name)})
    };
    let list: Value = ids.iter().enumerate().map(entry).collect();
    world.docker().raw.insert("list".to_owned(), ok(list.to_string()));
    world.start();
    world.within("each is told of", |it| {
        let log = it.log();
        (7..10).all(|number| log.contains(&format!("error: container p-h-{number}: inspect ")))
    });
    assert_not_well(&world, "no usable id");
    world.docker().raw.clear();
    // An event of no shape that is known: everything is listed again.
    world.docker().tell_text(b"{}\n");
    assert_wires(&world, "no usable id");
}

#[test]
fn an_invalid_inspection_is_an_error_of_its_container() {
    let Some(mut world) = World::new("hostile inspections", NETWORK) else { return };
    world.start();
    world.within("it has listened", |it| it.status()["state"] == "connected");
    let raw = always_wrong();
    let lies: Vec<(&str, Value)> = vec![
        ("/Id", json!(null)),
        ("/Id", json!(id("q-x-1"))),
        ("/State", json!(null)),
        ("/State/Pid", json!(null)),
        ("/State/Pid", json!(0)),
        ("/State/Pid", json!(-1)),
        ("/State/Pid", json!(1_u64 << 31)),
        ("/State/Pid", json!(1e300)),
        ("/State/Pid", json!("7")),
        ("/State/Running", json!("yes")),
        ("/Config/Labels", json!([])),
        ("/HostConfig", json!(7)),
    ];
    let count = raw.len() + lies.len();
    let names: Vec<String> = (1..=count).map(|it| format!("p-h-{}", it + 1)).collect();
    {
        let mut docker = world.docker();
        let mut hostile = names.iter().map(|it| id(it));
        for (_, answer) in raw {
            docker.raw.insert(hostile.next().unwrap(), answer);
        }
        for (place, value) in lies {
            let lie = move |_: usize, it: &mut Value| *it.pointer_mut(place).unwrap() = value.clone();
            docker.lies.insert(hostile.next().unwrap(), Box::new(lie));
        }
    }
    names.iter().for_each(|it| world.run(it));
    world.run("p-h-1");
    let is_connected = |it: &Value| it["state"] == "connected";
    world.within("the good one is wired", |it| {
        it.status()["nodes"].as_array().unwrap().iter().any(|it| it["name"] == "p-h-1" && is_connected(it))
    });
    for name in &names {
        world.within(name, |it| it.log().contains(&format!("error: container {name}: inspect ")));
    }
    assert_not_well(&world, "inspections");
    let status = world.status();
    let nodes = status["nodes"].as_array().unwrap();
    assert_eq!((nodes.len(), nodes.iter().filter(|it| is_connected(it)).count()), (count + 1, 1), "{status}");
    world.docker().raw.clear();
    world.docker().lies.clear();
    world.within("all are wired", |it| it.conlink(&["healthcheck"]).code == 0);
}

#[test]
fn an_invalid_answer_to_the_request_for_events_is_reported() {
    let Some(mut world) = World::new("hostile answers for events", NETWORK) else { return };
    for (what, answer) in always_wrong() {
        world.docker().raw.insert("events".to_owned(), answer);
        world.start();
        world.within(what, |it| it.log().contains("docker: connection lost, trying again: "));
        world.docker().raw.clear();
        assert_wires(&world, what);
    }
}

#[test]
fn an_invalid_event_hides_no_container() {
    let Some(mut world) = World::new("hostile events", NETWORK) else { return };
    let deep = [b"[".repeat(100_000), b"\n".to_vec()].concat();
    let cases: [(&str, &[u8]); 13] = [
        ("an event cut short", b"{\"Type\":\"container\",\"Act\n"),
        ("half a list", b"[\n"),
        ("a list", b"[]\n"),
        ("null", b"null\n"),
        ("a number", b"-1e999\n"),
        ("an empty object", b"{}\n"),
        ("invalid UTF-8", b"{\"Action\":\"\xff\"}\n"),
        ("deep nesting", &deep),
        ("an action that is a number", b"{\"Action\":7}\n"),
        ("an actor that is a text", b"{\"Action\":\"start\",\"Actor\":\"p-h-1\"}\n"),
        ("no id", b"{\"Action\":\"start\",\"Actor\":{\"ID\":null}}\n"),
        ("an action of no kind", b"\n{\"Action\":\"start\\n\",\"Actor\":{\"ID\":\"ab\"}}\n"),
        ("an event without an end", &[b'x'; 3 << 20]),
    ];
    for (what, event) in cases {
        world.start();
        world.within("it has listened", |it| it.status()["state"] == "connected");
        // Its own event is the one that cannot be read.
        world.add(&id("p-h-1"), "p-h-1");
        world.docker().tell_text(event);
        let expected = "engine `p`: connected, 1 node, 1 link\n";
        world.within(what, |it| it.conlink(&["healthcheck"]).stdout == expected);
        world.kill("p-h-1");
    }
}

#[test]
fn an_event_with_an_invalid_id_is_ignored() {
    let Some(mut world) = World::new("hostile ids in events", NETWORK) else { return };
    world.start();
    world.within("it has listened", |it| it.status()["state"] == "connected");
    for id in ["", "../events", "a\nAll links connected", "%2e%2e"] {
        world.docker().tell("start", id);
    }
    world.run("p-h-1");
    world.within("it is wired", |it| it.conlink(&["healthcheck"]).code == 0);
    let requests = world.docker().requests.clone();
    let usual = |it: &&String| {
        !it.ends_with("/events") && !it.ends_with("/_ping") && !it.ends_with("/containers/json")
    };
    let inspected: Vec<&String> = requests.iter().filter(usual).collect();
    assert!(inspected.iter().all(|it| it.contains(&id("p-h-1"))), "{inspected:?}");
}
