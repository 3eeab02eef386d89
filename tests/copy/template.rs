//! Templates of both kinds.

use std::fs;

use expect_test::expect;

use super::Trees;
use crate::support::run;

#[test]
fn names_that_are_set_are_replaced_once_and_all_else_stays() {
    let trees = Trees::new();
    trees.write(
        "src/a",
        "{{A}} {{ A }} ${A} $A {{{A}}} {{B}} {{NOT}}\r\nno newline at the end {{L}}|{{Q}}|{{E}}|",
    );
    let env = [("A", "1"), ("B", "{{A}}"), ("L", "l1\nl2"), ("Q", "it's \"q\" \\1 & /"), ("E", "")];
    trees.done(&["-T"], &env);
    assert_eq!(
        trees.read("dst/a"),
        "1 {{ A }} ${A} $A {1} {{A}} {{NOT}}\r\nno newline at the end l1\nl2|it's \"q\" \\1 & /||"
    );
    // Without being asked to, nothing is.
    trees.done(&[], &env);
    assert_eq!(fs::read(trees.path("dst/a")).unwrap(), fs::read(trees.path("src/a")).unwrap());
}

#[test]
fn binary_files_and_those_not_meant_are_copied_as_they_are() {
    let trees = Trees::new();
    let binary = b"{{A}}\0{{A}}";
    let latin = b"{{A}} \xe9";
    let mut large = vec![b'x'; 400_000];
    large.extend(b"{{A}}\0");
    trees.write("src/binary", binary);
    trees.write("src/latin", latin);
    trees.write("src/large", &large);
    trees.write("src/page.html", "{{A}}");
    trees.write("src/app.js", "{{A}}");
    for option in ["-T", "-J"] {
        trees.done(&[option, "--template-glob", "*.html", "--template-glob", "[bl]*"], &[("A", "1")]);
        assert_eq!(fs::read(trees.path("dst/binary")).unwrap(), binary);
        assert_eq!(fs::read(trees.path("dst/latin")).unwrap(), latin);
        assert!(fs::read(trees.path("dst/large")).unwrap() == large);
        assert_eq!((trees.read("dst/page.html").as_str(), trees.read("dst/app.js").as_str()), ("1", "{{A}}"));
    }
}

#[test]
fn large_texts_are_replaced_bit_by_bit() {
    let trees = Trees::new();
    let line = "some text {{NAME}} ö {{OTHER}} {{{NAME}}}\n";
    let text = line.repeat(60_000);
    trees.write("src/large", &text);
    trees.done(&["-T"], &[("NAME", "a longer value"), ("OTHER", "")]);
    let expected = "some text a longer value ö  {a longer value}\n".repeat(60_000);
    assert!(trees.read("dst/large") == expected);
    let before = trees.inode("dst/large");
    let said = trees.done(&["-T"], &[("NAME", "a longer value"), ("OTHER", "")]);
    assert_eq!((said.as_str(), trees.inode("dst/large")), ("copy: 0 files copied, 1 unchanged\n", before));
}

#[test]
fn values_may_be_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let trees = Trees::new();
    trees.write("src/a", "<{{V}}>");
    let mut command = trees.command(&["-T", "src", "dst"], &[]);
    command.env("V", std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    assert_eq!(crate::support::run(command).code, 0);
    assert_eq!(fs::read(trees.path("dst/a")).unwrap(), b"<\xff\xfe>");
}

#[test]
fn names_that_are_not_set_may_be_errors_or_nothing() {
    let trees = Trees::new();
    trees.write("src/a", "{{SET}}\n{{GONE}} {{#if}} {{ x }}\n");
    trees.write("src/d/b", "\n\n{{ALSO}} {{GONE}} {{GONE}}");
    let run =
        trees.copy(&["-T", "--undefined", "error", "src", "dst", "--", "touch", "ran"], &[("SET", "1")]);
    expect![[r#"
        error: src/a:2: {{GONE}} is not set
        error: src/d/b:3: {{ALSO}} is not set
        error: src/d/b:3: {{GONE}} is not set
    "#]]
    .assert_eq(&run.stderr);
    assert_eq!(run.code, 1);
    assert!(trees.list("dst").is_empty() && !trees.there("ran"));
    trees.done(&["-T", "--undefined", "empty"], &[("SET", "1")]);
    assert_eq!(
        (trees.read("dst/a").as_str(), trees.read("dst/d/b").as_str()),
        ("1\n {{#if}} {{ x }}\n", "\n\n  ")
    );
    trees.done(&["-T", "--undefined", "error"], &[("SET", "1"), ("GONE", "g"), ("ALSO", "{{GONE}}")]);
    assert_eq!(trees.read("dst/d/b"), "\n\n{{GONE}} g g");
}

#[test]
fn jinja_templates_have_defaults_loops_and_includes() {
    let trees = Trees::new();
    trees.write(
        "src/conf.html",
        "{{ NAME }} {{NAME}} {{ PORT | default(\"80\") }} {{ MARKUP }}\n{% for it in LIST | split(',') %}[{{ it }}]{% endfor %}\n{% include 'parts/x' %}",
    );
    trees.write("src/parts/x", "part {{ NAME | upper }}\n\n");
    trees.write("src/plain", "no braces\n");
    let env = [("NAME", "n"), ("LIST", "a,b"), ("MARKUP", "<&'\">")];
    trees.done(&["-J"], &env);
    assert_eq!(trees.read("dst/conf.html"), "n n 80 <&'\">\n[a][b]\npart N\n\n");
    assert_eq!(trees.read("dst/parts/x"), "part N\n\n");
    assert_eq!(trees.done(&["-J"], &env), "copy: 0 files copied, 3 unchanged\n");
    // What was not rendered keeps its time, what was is as new as its variables.
    assert_eq!(trees.modified("dst/plain"), trees.modified("src/plain"));
}

#[test]
fn large_binary_files_are_not_loaded_for_jinja() {
    let trees = Trees::new();
    trees.write("src/text", format!("{{{{ A }}}}\n{}", "line\n".repeat(50_000)));
    trees.write("src/large", "text\n");
    std::fs::File::options().append(true).open(trees.path("src/large")).unwrap().set_len(1 << 30).unwrap();
    // A gigabyte is more than the memory.
    let mut shell = std::process::Command::new("sh");
    let program = env!("CARGO_BIN_EXE_conlink");
    shell.args(["-c", "ulimit -v 600000; exec \"$0\" copy -J src dst", program]).env("A", "1");
    shell.current_dir(trees.dir.path());
    let ended = run(shell);
    assert_eq!(ended.stderr, "copy: 2 files copied, 0 unchanged\n");
    assert_eq!(trees.read("dst/text"), format!("1\n{}", "line\n".repeat(50_000)));
}

#[test]
fn mistakes_in_jinja_templates_are_all_placed_before_anything_is_written() {
    let trees = Trees::new();
    trees.write("src/fine", "{{ A }}");
    trees.write("src/undefined", "one\n  {{ A }} {{ NOPE }}\n");
    trees.write("src/syntax", "{% if A %}\n");
    trees.write("src/include", "{% include 'd/broken' %}");
    trees.write("src/d/broken", "\n\n{{ MISSING }}");
    trees.write("src/escape", "{% include '../secret' %}");
    trees.write("secret", "secret");
    trees.write("dst/fine", "old");
    let run = trees.copy(&["-J", "src", "dst", "--", "touch", "ran"], &[("A", "1")]);
    expect![[r#"
        error: src/escape:1:4: invalid operation: `../secret` is not a path in the tree
        error: src/d/broken:3:4: undefined value: `MISSING` is undefined
        error: src/syntax:1:11: syntax error: unexpected end of input, expected end of block
        error: src/undefined:2:14: undefined value: `NOPE` is undefined
        error: src/d/broken:3:4: undefined value: `MISSING` is undefined
    "#]]
    .assert_eq(&run.stderr);
    assert_eq!((run.code, trees.list("dst").join(" ").as_str()), (1, "fine"));
    assert_eq!(trees.read("dst/fine"), "old");
    assert!(!trees.there("ran"));
}
