use std::fmt::Write;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn read_all(text: &str) -> (Sources, Vec<Node>, Vec<Diagnostic>) {
    let mut sources = Sources::default();
    let file = sources.add("f", text);
    let mut diagnostics = Vec::new();
    let documents = super::documents(&sources, file, &mut diagnostics);
    (sources, documents, diagnostics)
}

/// Every scalar with its place and the text there, then what is wrong.
fn dump(text: &str) -> String {
    let (sources, documents, diagnostics) = read_all(text);
    let mut out = String::new();
    for document in &documents {
        dump_node(&sources, document, "", &mut out);
    }
    for it in &diagnostics {
        let place = it.span.map(|it| sources.place(it)).unwrap_or_default();
        writeln!(out, "{place} {}", it.message).unwrap();
        for (span, text) in &it.notes {
            writeln!(out, "  {} {text}", sources.place(*span)).unwrap();
        }
    }
    out
}

fn dump_node(sources: &Sources, node: &Node, path: &str, out: &mut String) {
    let tag = node.tag.as_ref().map(|it| format!("{it} ")).unwrap_or_default();
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            entries.iter().for_each(|(key, it)| dump_node(sources, it, &format!("{path}.{}", key.text), out));
        }
        Value::List(items) if !items.is_empty() => {
            items
                .iter()
                .enumerate()
                .for_each(|(at, it)| dump_node(sources, it, &format!("{path}[{at}]"), out));
        }
        _ => {
            let place = sources.place(node.span);
            let text = sources.slice(node.span);
            writeln!(out, "{place} {path} {tag}{} {text:?}", node.to_json()).unwrap();
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
fn check(text: &str, expected: Expect) {
    expected.assert_eq(&dump(text));
}

#[test]
fn places_are_right_after_crlf_byte_order_mark_and_wide_characters() {
    check(
        "\u{feff}a: é\r\nßß: [x, \"😀y\"] # c\r\nc:\r\n  - |\r\n    t\r\n  - z  # d\r\n",
        expect![[r#"
            f:1:4 .a "é" "é"
            f:2:6 .ßß[0] "x" "x"
            f:2:9 .ßß[1] "😀y" "\"😀y\""
            f:5:5 .c[0] "t\n" "t"
            f:6:5 .c[1] "z" "z"
        "#]],
    );
}

#[test]
fn collections_end_with_their_last_value() {
    let (sources, documents, _) = read_all("a:\n- b: 1\n  c: 2\n# x\n\n- d: 3\n\n# y\ne: {f: 4}\n");
    let slice = |node: &Node| sources.slice(node.span).to_owned();
    let list = documents[0].get("a").unwrap();
    assert_eq!(slice(list), "- b: 1\n  c: 2\n# x\n\n- d: 3");
    let Value::List(items) = &list.value else { panic!() };
    assert_eq!((slice(&items[0]), slice(&items[1])), ("b: 1\n  c: 2".to_owned(), "d: 3".to_owned()));
    assert_eq!(slice(documents[0].get("e").unwrap()), "{f: 4}");
}

#[test]
fn aliases_and_merge_keys_keep_the_place_of_the_value() {
    check(
        "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: &z [*x, {<<: [{c: 4}, *x], c: 5}]\nw: *z\nq: {\"<<\": 6}\n",
        expect![[r#"
            f:1:11 .x.a 1 "1"
            f:1:17 .x.b 2 "2"
            f:2:16 .y.b 3 "3"
            f:1:11 .y.a 1 "1"
            f:1:11 .z[0].a 1 "1"
            f:1:17 .z[0].b 2 "2"
            f:3:34 .z[1].c 5 "5"
            f:1:11 .z[1].a 1 "1"
            f:1:17 .z[1].b 2 "2"
            f:1:11 .w[0].a 1 "1"
            f:1:17 .w[0].b 2 "2"
            f:3:34 .w[1].c 5 "5"
            f:1:11 .w[1].a 1 "1"
            f:1:17 .w[1].b 2 "2"
            f:5:11 .q.<< 6 "6"
        "#]],
    );
}

#[test]
fn tags_are_kept_but_for_those_of_yaml_itself() {
    check(
        "a: !override [1]\nb: !reset\nc: !!str 1\nd: !!int \"2\"\ne: ! 3\nf: &x !y [&z !w {a: &q !v b}]\n",
        expect![[r#"
            f:1:15 .a[0] 1 "1"
            f:2:10 .b !reset null ""
            f:3:10 .c "1" "1"
            f:4:10 .d 2 "\"2\""
            f:5:6 .e "3" "3"
            f:6:27 .f[0].a !v "b" "b"
        "#]],
    );
}

#[test]
fn json_is_read_as_json_has_it() {
    check(
        "{\n\t\"a\\/b\": \"\\ud83d\\ude00 \\\\ud83d\\u00e9\",\n\t\"c\":[1,\t-2.5e1,true,null],\"d\":\"\\/\"\n}\n",
        expect![[r#"
            f:2:10 .a/b "😀 \\ud83dé" "\"\\ud83d\\ude00 \\\\ud83d\\u00e9\""
            f:3:7 .c[0] 1 "1"
            f:3:10 .c[1] -25.0 "-2.5e1"
            f:3:17 .c[2] true "true"
            f:3:22 .c[3] null "null"
            f:3:32 .d "/" "\"\\/\""
        "#]],
    );
}

#[test]
fn mistakes_in_a_document_are_all_told() {
    check(
        "a: 1\nb: {c: 1, c: 2}\n\"a\": 3\n? [x]\n: 4\n<<: 5\nd: {{index}}\ne: 6\n",
        expect![[r#"
            f:1:4 .a 1 "1"
            f:2:8 .b.c 1 "1"
            f:7:4 .d {} "{{index}}"
            f:8:4 .e 6 "6"
            f:2:11 key `c` is given twice
              f:2:5 first here
            f:3:1 key `a` is given twice
              f:1:1 first here
            f:4:3 a key is a string, not a list
            f:7:5 a key is a string, not a mapping
            f:6:5 `<<` takes a mapping or a list of mappings, not a number
        "#]],
    );
}

#[test]
fn broken_syntax_says_where_and_what() {
    let texts = [
        "a:\n\tb: 1\n",
        "a: b: c\n",
        "a: \"x\nb: 1\n",
        "a: [1, 2\nb: 3\n",
        "a: [1\n",
        "a: {b: 1\n",
        "a: 1\n  b: 2\n",
        "a:\n  b: 1\n c: 2\n",
        "- a\nb: 1\n",
        "a: *x\n",
        "a: \"\\q\"\n",
        "a: \"\\ud83d\"\n",
        "a\nb: 1\n",
        "a: @x\n",
        "a: 'x\n",
        "%YAML x\n---\n",
        "}",
        "a: !x!y z\n",
        "a: &x [*x]\n",
        "a: 1\n... b\n",
    ];
    let told: String = texts.iter().map(|it| format!("{it:?} {}", dump(it))).collect();
    expect![[r#"
        "a:\n\tb: 1\n" f:2:1 this is not YAML: a tab cannot indent
        "a: b: c\n" f:1:5 this is not YAML: `:` begins a value where none can be
        "a: \"x\nb: 1\n" f:1:4 this is not YAML: the quotes that begin here are not closed in their line, and the next is not indented
        "a: [1, 2\nb: 3\n" f:2:2 this is not YAML: `:` begins a value where none can be
        "a: [1\n" f:2:1 this is not YAML: expected `,` or `]`
        "a: {b: 1\n" f:2:1 this is not YAML: expected `,` or `}`
        "a: 1\n  b: 2\n" f:2:4 this is not YAML: `:` begins a value where none can be
        "a:\n  b: 1\n c: 2\n" f:3:2 this is not YAML: this fits neither the mapping before it nor one of its values
        "- a\nb: 1\n" f:2:1 this is not YAML: this fits neither the list before it nor one of its items
        "a: *x\n" f:1:4 this is not YAML: no anchor of this name comes before this alias
        "a: \"\\q\"\n" f:1:4 this is not YAML: these quotes hold a `\` that escapes nothing known
        "a: \"\\ud83d\"\n" f:1:4 this is not YAML: these quotes hold an escape of no character
        "a\nb: 1\n" f:2:2 this is not YAML: `:` begins a value where none can be
        "a: @x\n" f:1:4 this is not YAML: a string without quotes cannot begin so
        "a: 'x\n" f:1:4 this is not YAML: the quotes that begin here are never closed
        "%YAML x\n---\n" f:1:1 this is not YAML: scanning a YAML directive, did not find expected version number
        "}" f:1:1 this is not YAML: this closes nothing
        "a: !x!y z\n" f:1:4 this is not YAML: no `%TAG` line declares the first part of this tag
        "a: &x [*x]\n" f:1:8 this alias is inside of what it stands for
        "a: 1\n... b\n" f:2:5 this is not YAML: only a comment can follow `...`
    "#]].assert_eq(&told);
}

#[test]
fn every_document_is_read_and_anchors_end_with_theirs() {
    check("", expect![[""]]);
    check("# nothing\n", expect![[""]]);
    check(
        "a: &x 1\n---\nb: 2\n---\n",
        expect![[r#"
        f:1:7 .a 1 "1"
        f:3:4 .b 2 "2"
        f:5:1  null ""
    "#]],
    );
    check(
        "a: &x 1\n---\nb: *x\n",
        expect![[r#"
        f:3:4 no anchor of this name comes before this alias
    "#]],
    );
}

#[test]
fn alias_bombs_are_refused() {
    let mut wide = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, of) in ('b'..='z').zip('a'..) {
        writeln!(wide, "{name}: &{name} [{}]", vec![format!("*{of}"); 9].join(",")).unwrap();
    }
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 1000].join(","));
    let merges = format!("{wide}q: {{k: {{<<: {{k: *z}}}}}}\n");
    for bomb in [wide, long, merges] {
        let (_, documents, diagnostics) = read_all(&bomb);
        assert!(documents.is_empty());
        assert_eq!(diagnostics[0].message, "the aliases of this document unfold to too much");
    }
}

#[test]
fn depth_has_a_limit() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(read_all(&nested(100)).1.len(), 1);
    for deep in [nested(102), nested(20_000), "- ".repeat(20_000), "{a: ".repeat(5_000)] {
        let (_, documents, diagnostics) = read_all(&deep);
        assert!(documents.is_empty() && !diagnostics.is_empty());
    }
}

/// Pieces that syntax is made of: their mixtures reach more than random characters do.
fn yamlish() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b:",
        ": ",
        "- ",
        "\n",
        "\n  ",
        "\r\n",
        "\t",
        "{",
        "}",
        "[",
        "]",
        ",",
        "&x ",
        "*x",
        "<<: ",
        "!reset ",
        "!!int ",
        "\"",
        "'",
        "\\",
        "\\ud83d",
        "\\ude00",
        "|",
        ">",
        "#",
        " #",
        "---\n",
        "...\n",
        "? ",
        "é",
        "😀",
        "\u{feff}",
        "%",
        "@",
        "0777",
        "1_0",
        "~",
        "${",
        "}",
        "$",
        "{{",
        "}}",
        "links:\n",
        "x-network:\n",
        "\0",
        "\u{85}",
        "\u{2028}",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|it| it.concat())
}

fn has_sound_places(sources: &Sources, node: &Node) -> bool {
    let text = sources.text(node.span.file);
    let sound = |it: Span| it.start <= it.end && text.get(it.start..it.end).is_some();
    sound(node.span)
        && match &node.value {
            Value::List(items) => items.iter().all(|it| has_sound_places(sources, it)),
            Value::Map(entries) => {
                entries.iter().all(|(key, it)| sound(key.span) && has_sound_places(sources, it))
            }
            _ => true,
        }
}

fn check_any(text: &str) {
    let (sources, documents, diagnostics) = read_all(text);
    assert!(documents.iter().all(|it| has_sound_places(&sources, it)), "{text:?}");
    for it in diagnostics {
        it.render(&sources, true);
        it.to_json(&sources);
    }
}

#[test]
fn the_number_of_values_has_a_limit() {
    let mut sources = Sources::default();
    let file = sources.add("f", "a: [1, 2, {b: 3}]\n");
    // Keys, the list, both mappings, and three numbers.
    assert!(read(&sources, file, 8, &mut Vec::new()).is_ok());
    let error = read(&sources, file, 7, &mut Vec::new()).unwrap_err();
    assert_eq!(
        (sources.place(error.span.unwrap()).as_str(), error.message.as_str()),
        ("f:1:15", "the file has more than 7 values")
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        check_any(&text);
    }

    #[test]
    fn any_mixture_of_syntax_is_read_or_refused(text in yamlish()) {
        check_any(&text);
    }

    #[test]
    fn json_of_any_text_is_that_text(text in any::<String>()) {
        for it in [serde_json::json!({"k": text}).to_string(), ascii(&text)] {
            let (_, documents, _) = read_all(&it);
            prop_assert_eq!(documents.first().and_then(|it| it.get("k")).map(|it| it.value.clone()), Some(Value::Text(text.clone())));
        }
    }
}

/// `{"k": text}` with an escape for each character.
fn ascii(text: &str) -> String {
    let escaped: String = text.encode_utf16().map(|it| format!("\\u{it:04x}")).collect();
    format!("{{\"k\":\"{escaped}\"}}")
}
