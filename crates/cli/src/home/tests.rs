use super::{DEFAULTS, Home};
use outrigger_sidecar::config::Environment;
use std::fs;
use std::path::{Path, PathBuf};

fn environment(variables: &'static [(&'static str, &'static str)]) -> Environment {
    let lookup = move |name: &str| {
        variables
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    };
    Environment::new(lookup, "/work/dir".to_owned(), "host".to_owned(), 1)
}

#[test]
fn the_flag_wins_over_the_variable_over_the_user() {
    let user = environment(&[("HOME", "/home/me")]);
    let both = environment(&[("HOME", "/home/me"), ("OUTRIGGER_HOME", "relative")]);
    let nothing = environment(&[]);
    let cases = [
        (None, &user, "/home/me/.outrigger"),
        (None, &both, "/work/dir/relative"),
        (Some("/else/where"), &both, "/else/where"),
        (Some("x"), &nothing, "/work/dir/x"),
    ];
    for (given, environment, expected) in cases {
        let home = Home::find(given.map(PathBuf::from), environment).unwrap();
        assert_eq!(home.path(), Path::new(expected));
    }
    let error = Home::find(None, &nothing).unwrap_err();
    assert!(error.to_string().contains("--home"), "{error}");
}

#[test]
fn own_resources_win_over_the_built_in_ones() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path().to_owned());
    let defaults = home.resources().unwrap();
    for (name, text) in DEFAULTS {
        assert_eq!(fs::read_to_string(defaults.join(name)).unwrap(), text);
    }
    fs::write(defaults.join("pubsub.yaml"), "broken").unwrap();
    assert_eq!(home.resources().unwrap(), defaults);
    assert_eq!(
        fs::read_to_string(defaults.join("pubsub.yaml")).unwrap(),
        DEFAULTS[1].1
    );

    fs::create_dir(home.components()).unwrap();
    assert_eq!(home.resources().unwrap(), home.components());
}

#[test]
fn the_sidecar_is_called_daprd() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path().to_owned());
    let program = home.sidecar().unwrap();
    assert_eq!(program.path, folder.path().join("bin/daprd"));
    assert_eq!(home.sidecar().unwrap(), program);
    assert_eq!(fs::read_dir(folder.path().join("bin")).unwrap().count(), 1);
}
