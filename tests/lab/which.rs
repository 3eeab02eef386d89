//! Which lab a command is about.

use std::process::Command;

use crate::lab::Lab;
use crate::support::Run;

const ONE: &str = "services: {a: {command: sleep 1000}}";

/// Two labs: `here`, of the folder of that name, and `other`.
fn two_labs(what: &str) -> Option<Lab> {
    let mut lab = Lab::empty(what)?;
    lab.write("here/compose.yaml", ONE);
    lab.write("other/compose.yaml", ONE);
    lab.write("empty/keep", "");
    for folder in ["here", "other"] {
        assert_eq!(in_folder(&lab, folder, &["up"]).code, 0);
    }
    lab.name = "other".to_owned();
    Some(lab)
}

fn in_folder(lab: &Lab, folder: &str, words: &[&str]) -> Run {
    let mut command = lab.world.conlink(&[&["lab"], words].concat());
    command.current_dir(lab.world.path(folder));
    lab.world.run(command)
}

fn names(lab: &Lab) -> Vec<String> {
    in_folder(lab, ".", &["list", "-q"]).stdout.lines().map(str::to_owned).collect()
}

#[test]
fn down_ends_the_lab_of_this_folder_or_of_a_name_and_no_other() {
    let Some(lab) = two_labs("lab down and names") else { return };
    assert_eq!(in_folder(&lab, "here", &["down"]).code, 0);
    assert_eq!(names(&lab), ["other"]);
    // `other` is the only one now, and still not meant here.
    let run = in_folder(&lab, "here", &["down"]);
    let said = "error: lab `here` of the compose file in this folder is not running; running labs: other\n\
                hint: `conlink lab down <NAME>` ends a lab of another folder\n";
    assert_eq!((run.code, run.stderr.as_str()), (1, said));
    let run = in_folder(&lab, "empty", &["down"]);
    assert_eq!(run.code, 1, "{run:?}");
    let run = in_folder(&lab, "here", &["down", "no-such-lab"]);
    let said = "error: lab `no-such-lab` is not running; running labs: other\n";
    assert_eq!((run.code, run.stderr.as_str()), (1, said));
    assert_eq!(names(&lab), ["other"]);
    // A reading command may use it.
    assert_eq!(in_folder(&lab, "empty", &["exec", "a", "hostname"]).stdout, "a\n");
    assert_eq!(in_folder(&lab, "empty", &["down", "other"]).code, 0);
    assert!(names(&lab).is_empty());
    let run = in_folder(&lab, "here", &["down"]);
    assert_eq!(run.stderr, "error: no lab is running\nhint: `conlink lab up` starts one\n");
}

#[test]
fn every_command_takes_a_name_or_a_compose_file() {
    let Some(lab) = two_labs("names of labs") else { return };
    for which in [&["--name", "here"][..], &["-n", "here"], &["--file", "../here/compose.yaml"]] {
        for (command, words) in [("exec", &["a", "true"][..]), ("status", &[]), ("logs", &["a"])] {
            let run = in_folder(&lab, "empty", &[&[command], which, words].concat());
            assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{command} {which:?}");
        }
    }
    let run = in_folder(&lab, "empty", &["down", "-f", "../here/compose.yaml"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert_eq!(names(&lab), ["other"]);
}

#[test]
fn down_refuses_a_lab_of_the_same_name_in_another_folder() {
    let Some(mut lab) = Lab::empty("lab down in two folders") else { return };
    lab.name = "same".to_owned();
    for folder in ["one", "two"] {
        lab.write(&format!("{folder}/compose.yaml"), &format!("name: same\n{ONE}"));
    }
    lab.write("empty/keep", "");
    let said = format!(
        "error: lab `same` was started with the files in {}\nhint: `conlink lab down same` ends it anyway\n",
        lab.world.path("one").canonicalize().unwrap().display()
    );
    let refused = || {
        for (folder, words) in [("two", &["down"][..]), ("empty", &["down", "-f", "../two/compose.yaml"])] {
            let run = in_folder(&lab, folder, words);
            assert_eq!((run.code, run.stderr.as_str()), (1, said.as_str()), "{folder} {words:?}");
        }
        assert_eq!(names(&lab), ["same"]);
    };
    lab.world.sh("ln -s one link");
    for (folder, words) in [
        ("link", &["down"][..]),
        ("two", &["down", "-f", "../one/compose.yaml"]),
        ("two", &["down", "same"]),
        ("empty", &["down", "-n", "same"]),
    ] {
        assert_eq!(in_folder(&lab, "one", &["up"]).code, 0);
        refused();
        let run = in_folder(&lab, folder, words);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{folder} {words:?}");
        assert!(names(&lab).is_empty());
    }
    assert_eq!(in_folder(&lab, "one", &["up"]).code, 0);
    lab.signal("KILL", lab.keeper().unwrap());
    lab.until_dead();
    refused();
    assert_eq!(in_folder(&lab, "one", &["down"]).code, 0);
}

/// What bash offers for the last word of $LINE, with the script of `conlink completions bash`. Readline splits words at
/// colons, too.
const PRESS_TAB: &str = r#"
conlink() { "$BINARY" "$@"; }
. <(conlink completions bash)
COMP_LINE=$LINE COMP_POINT=${#LINE}
read -ra COMP_WORDS < <(sed 's/:/ : /g' <<<"$LINE")
[[ $LINE == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
_conlink_with_names conlink "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
echo "${COMPREPLY[*]}"
"#;

#[test]
fn the_tab_key_offers_names_of_labs_nodes_and_links() {
    let Some(lab) = Lab::empty("names in completions") else { return };
    let link = "x-network: {links: [{bridge: lan, ip: 10.0.0.1/24}, {bridge: wan, dev: eth1}]}";
    let compose = format!("services:\n  web: {{scale: 2, {link}}}\n  router: {{}}\n");
    lab.write("test/compose.yaml", &compose);
    assert_eq!(in_folder(&lab, "test", &["up"]).code, 0);
    for (line, offered) in [
        ("conlink lab exec ", "web-1 web-2 router"),
        ("conlink lab logs -f r", "router"),
        ("conlink lab status --name ", "test"),
        ("conlink lab down t", "test"),
        ("conlink diff ", "test"),
        ("conlink link down router web-2:", "eth0 eth1"),
        ("conlink link down -n other web-1", ""),
        ("conlink lab dow", "down"),
    ] {
        let mut command = Command::new("bash");
        command.args(["-c", PRESS_TAB]).current_dir(lab.world.path("test"));
        command.env("BINARY", &lab.world.binary).env("LINE", line);
        let run = lab.world.run(command);
        assert_eq!((run.stdout.trim_end(), run.stderr.as_str()), (offered, ""), "{line}");
    }
}

#[test]
fn a_lab_of_another_folder_is_not_replaced() {
    let Some(lab) = two_labs("labs of one name") else { return };
    let run = in_folder(&lab, "here", &["up", "-n", "other"]);
    let said = format!(
        "error: lab `other` is running with the files in {}\n\
         hint: end it with `conlink lab down other`, or choose another --name\n",
        lab.world.path("other").canonicalize().unwrap().display()
    );
    assert_eq!((run.code, run.stderr.as_str()), (1, said.as_str()));
    // Another path to the same folder is the same folder.
    lab.world.sh("ln -s other link");
    for (folder, words) in [
        ("other", &["up"][..]),
        ("link", &["up", "-n", "other"]),
        ("here", &["up", "-f", "../other/compose.yaml"]),
    ] {
        let run = in_folder(&lab, folder, words);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{folder} {words:?}");
    }
    // Nor is what its keeper leaves when it is killed.
    lab.signal("KILL", lab.keeper().unwrap());
    lab.until_dead();
    for words in [&["up", "-n", "other"][..], &["run", "-n", "other", "--", "true"]] {
        let run = in_folder(&lab, "here", words);
        let said = said.replace("is running with", "was started with").replace("end it", "remove it");
        assert_eq!((run.code, run.stderr.as_str()), (1, said.as_str()), "{words:?}");
    }
    assert_eq!(in_folder(&lab, "link", &["up", "-n", "other"]).code, 0);
    assert_eq!(in_folder(&lab, "here", &["down", "here"]).code, 0);
}
