//! The grammar by examples, and by compose's own answers.

use proptest::prelude::*;

use super::project::{Written, is_written_by_mdc, mode_variable};
use super::*;

fn env() -> Env {
    Env::from([("SHELL_A".to_owned(), "from-shell".to_owned())])
}

/// `NAME=value` of every variable, in order of names.
fn evaluated(text: &str) -> String {
    let (statements, bad) = parse(text);
    if !bad.is_empty() {
        return bad
            .iter()
            .map(|it| format!("{}..{} {it}", it.at.start, it.at.end))
            .collect::<Vec<_>>()
            .join("; ");
    }
    let (variables, Findings { bad, .. }) = evaluate(&statements, &env());
    let values = variables.iter().map(|(name, it)| format!("{name}={}", it.value));
    let bad = bad.iter().map(|it| format!("line {}: {}", it.line, it.message));
    values.chain(bad).collect::<Vec<_>>().join("|")
}

#[test]
fn every_form_of_the_grammar() {
    for (text, expected) in [
        ("", ""),
        ("A=1", "A=1"),
        ("A=1\r\nB=2\r\n", "A=1|B=2"),
        ("\n  # c\n\t A = 1 \n#x", "A=1"),
        ("A: 1\n", "A=1"),
        ("A=\nB=2\n", "A=|B=2"),
        ("export A=1\nexport\tB=2\n", "A=1|B=2"),
        ("exportA=1\n", "exportA=1"),
        ("SHELL_A\nNOT_THERE\n", "SHELL_A=from-shell"),
        ("SHELL_A=file\nB=$SHELL_A\n", "B=from-shell|SHELL_A=from-shell"),
        ("A=1\nA=${A}2\n", "A=12"),
        ("1A=x\na.b-c[0]=y\né=z\n", "1A=x|a.b-c[0]=y|é=z"),
        ("A=b c # d\n", "A=b c"),
        ("A=b#c\n", "A=b#c"),
        ("A=b\t# c\n", "A=b\t# c"),
        ("A= # only\n", "A=# only"),
        ("A=\\$SHELL_A\n", "A=\\from-shell"),
        ("A=$$x\n", "A=$x"),
        ("A='x $SHELL_A \\' \\\\ \\n'\n", "A=x $SHELL_A ' \\\\ \\n"),
        ("A='one\ntwo'\nB=3\n", "A=one\ntwo|B=3"),
        ("A=\"a\\tb\\\\c\\\"d\\$e $SHELL_A\"\n", "A=a\tb\\c\"d$e from-shell"),
        ("A=\"\\0101\\c\\x41\\q\"\n", "A=A\\c\\x41\\q"),
        ("A=\"a\"b\nC=1\n", "A=a|C=1"),
        ("A=\"${NONE:-x}${SHELL_A:+y}\"\n", "A=xy"),
        ("A=$(date) $ 5\n", "A=$(date) $ 5"),
    ] {
        assert_eq!(evaluated(text), expected, "{text:?}");
    }
}

/// `tests/data/env-file/cases.jsonl` is what `docker compose --env-file FILE config --environment` (2.40.3) says of each
/// text where the environment has `SHELL_A=from-shell`.
#[test]
fn every_answer_of_compose_is_ours() {
    let mut count = 0;
    for line in include_str!("../../tests/data/env-file/cases.jsonl").lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = case["text"].as_str().unwrap();
        let (statements, bad) = parse(text.strip_prefix('\u{feff}').unwrap_or(text));
        let (variables, Findings { bad: bad_values, .. }) = evaluate(&statements, &env());
        let fails = !bad.is_empty() || !bad_values.is_empty();
        assert_eq!(fails, case["error"].is_string(), "{line}: {bad:?} {bad_values:?}");
        if !fails {
            // Compose's answer has the whole environment in it, which this test leaves out.
            let ours = variables.iter().filter(|(name, _)| *name != "SHELL_A");
            let ours: serde_json::Map<_, _> =
                ours.map(|(name, it)| (name.clone(), it.value.clone().into())).collect();
            assert_eq!(serde_json::Value::Object(ours), case["values"], "{line}");
        }
        count += 1;
    }
    assert_eq!(count, 78);
}

#[test]
fn mistakes_are_told_with_their_places() {
    for (text, expected) in [
        (
            "A$=1\nB=1\n!=2\n",
            "1..2 `$` cannot be in the name of a variable; 9..10 `!` cannot be in the name of a variable",
        ),
        ("A B=1\n", "0..3 the variable name `A B` contains a space"),
        ("x y\n", "0..3 the variable name `x y` contains a space"),
        ("A='b\nC=1\n", "2..4 the value begins with `'` and has no `'` at its end"),
        ("A=\"b", "2..4 the value begins with `\"` and has no `\"` at its end"),
        ("D=\"a\" \"b\"\n", "6..7 `\"` cannot be in the name of a variable"),
        ("\nA=${B\n", "line 2: `${` is never closed"),
        ("A=${B:?say b}\n", "line 1: variable `B` is not set: say b"),
        ("A\0=1", "1..2 `\\u{0}` cannot be in the name of a variable"),
    ] {
        assert_eq!(evaluated(text), expected, "{text:?}");
    }
}

#[test]
fn lines_are_those_of_statements() {
    let (statements, _) = parse("A='1\n2'\n\nB=1\nA=2 # x\n");
    let (variables, _) = evaluate(&statements, &Env::new());
    assert_eq!(variables["A"].lines, [1, 5]);
    assert_eq!(variables["B"].lines, [4]);
}

#[test]
fn what_is_quoted_reads_back() {
    for value in [
        "",
        "plain/./x:y,z",
        "with space",
        "$HOME",
        "a#b",
        " #",
        "it's",
        "\"q\"",
        "a\\",
        "a\\b",
        "~/x",
        "*?[",
        "a'b\"c\\d$e",
        "line\nbreak",
        "é",
        "`",
        "`x y`",
        "a!b",
        "tab\t",
    ] {
        let text = quoted(value).unwrap();
        assert_eq!(evaluated(&format!("A={text}\n")), format!("A={value}"), "{text}");
    }
    assert_eq!(quoted("plain").unwrap(), "plain");
    assert_eq!(quoted("a b").unwrap(), "'a b'");
    assert_eq!(quoted("it's").unwrap(), "\"it's\"");
    assert_eq!(quoted("'`"), None);
}

fn project() -> ProjectEnv {
    ProjectEnv {
        command: Some(vec!["./mdc".into(), "a,b".into(), "up".into(), "-d".into()]),
        modes: vec![
            EnvMode {
                name: "a".into(),
                path: "./modes/a".into(),
                files: vec![
                    EnvFile { path: "./modes/a/env".into(), content: b"A=1".to_vec() },
                    EnvFile { path: "./modes/a/.env".into(), content: b"\xef\xbb\xbfB=2\r\nC=3\n".to_vec() },
                ],
            },
            EnvMode { name: "node-1".into(), path: "./modes/node-1".into(), files: vec![] },
        ],
        compose_files: vec!["./modes/a/compose.yaml".into()],
        dir: "/p/.".into(),
        as_reference: false,
    }
}

fn text(written: &Written) -> String {
    String::from_utf8(written.bytes.clone()).unwrap()
}

#[test]
fn the_file_has_the_references_form() {
    let written = project().write().unwrap();
    assert_eq!(
        text(&written),
        "### mdc command line: ./mdc a,b up -d\n\
         MDC_MODE_a=enabled\n\
         ### mdc begin mode a (./modes/a/env)\nA=1\n### mdc end mode a (./modes/a/env)\n\
         ### mdc begin mode a (./modes/a/.env)\nB=2\r\nC=3\n\n### mdc end mode a (./modes/a/.env)\n\
         MDC_MODE_node_1=enabled\n\
         MDC_MODE_node__=enabled\n\
         COMPOSE_FILE=./.compose-empty.yaml:./modes/a/compose.yaml\n\
         COMPOSE_DIR=/p/.\n\
         COMPOSE_PROFILES=MODE_a,MODE_node-1\n\
         MDC_MODE_DIRS=\"./modes/a,./modes/node-1\"\n\
         MDC_MODE_NAMES=\"a,node-1\"\n"
    );
    assert!(is_written_by_mdc(&written.bytes));
    assert_eq!(written.origin(4), Some(("./modes/a/env", 1)));
    assert_eq!(written.origin(8), Some(("./modes/a/.env", 2)));
    assert_eq!((written.origin(2), written.origin(3), written.origin(5)), (None, None, None));
}

#[test]
fn compatible_mode_writes_what_the_reference_writes() {
    let written = ProjectEnv { as_reference: true, ..project() }.write().unwrap();
    assert_eq!(
        text(&written),
        "### mdc command line: ./mdc a,b up -d\n\
         ### mdc begin mode a (./modes/a/env)\nMDC_MODE_a=enabled\nA=1\n### mdc end mode a (./modes/a/env)\n\
         ### mdc begin mode a (./modes/a/.env)\nMDC_MODE_a=enabled\nB=2\r\nC=3\n\n### mdc end mode a (./modes/a/.env)\n\
         COMPOSE_FILE=./.compose-empty.yaml:./modes/a/compose.yaml\n\
         COMPOSE_DIR=/p/.\n\
         COMPOSE_PROFILES=MODE_a,MODE_node-1\n\
         MDC_MODE_DIRS=\"./modes/a,./modes/node-1\"\n"
    );
}

#[test]
fn the_command_line_is_one_line_and_sets_nothing() {
    let command =
        ["mdc", "a b", "run", "-e", "X=it's\nEVIL=1", "sh -c", "", "a|b"].map(str::to_owned).to_vec();
    let written = ProjectEnv { command: Some(command), ..project() }.write().unwrap();
    assert!(text(&written).starts_with(
        "### mdc command line: mdc 'a b' run -e $'X=it\\'s\\nEVIL=1' 'sh -c' '' 'a|b'\nMDC_MODE_a=enabled\n"
    ));
    let written = ProjectEnv { command: None, ..project() }.write().unwrap();
    assert!(text(&written).starts_with("### mdc command line: not written down\n"));
}

#[test]
fn paths_are_quoted_where_they_need_it() {
    let project = ProjectEnv {
        modes: vec![EnvMode { name: "a".into(), path: "my modes/a$b".into(), files: vec![] }],
        compose_files: vec!["my modes/a:b/compose.yaml".into()],
        dir: "/it's here".into(),
        ..project()
    };
    let written = project.write().unwrap();
    let variables = evaluate(&parse(&text(&written)).0, &Env::new()).0;
    assert_eq!(variables["COMPOSE_FILE"].value, "./.compose-empty.yaml;my modes/a:b/compose.yaml");
    assert_eq!(variables["COMPOSE_PATH_SEPARATOR"].value, ";");
    assert_eq!(variables["COMPOSE_DIR"].value, "/it's here");
    assert_eq!(variables["MDC_MODE_DIRS"].value, "my modes/a$b");
    let bad = ProjectEnv { dir: "/it's `here`".into(), ..project }.write().unwrap_err();
    assert_eq!(bad.len(), 1, "{bad:?}");
}

#[test]
fn variables_of_modes_are_named_as_documented() {
    assert_eq!(mode_variable("node1"), "MDC_MODE_node1");
    assert_eq!(mode_variable("a.b-é"), "MDC_MODE_a_b__");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "([A-Z ='\"\\\\$#:{}\n\r\0-]|\\PC|export ){0,40}") {
        let (statements, bad) = parse(&text);
        let (_, _) = evaluate(&statements, &env());
        prop_assert!(bad.iter().all(|it| it.at.start <= it.at.end && it.at.end <= text.len()));
    }

    #[test]
    fn any_value_is_quoted_to_be_read_as_it_is(value in "([a-z '\"\\\\$#`\n]|\\PC){0,20}") {
        // Compose trims what is no ASCII white space too.
        if let Some(text) = quoted(&value) {
            let read = evaluate(&parse(&format!("A={text}\n")).0, &Env::new()).0;
            prop_assert_eq!(&read["A"].value, &value, "{}", text);
        }
    }
}
