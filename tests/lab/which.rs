//! Which lab a command is about.

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
    assert_eq!(in_folder(&lab, "here", &["down", "here"]).code, 0);
}
