use super::{Entry, RunFile, find, parse};
use crate::run::options::Destination;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder with what the run files below name.
fn world() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let base = fs::canonicalize(folder.path()).unwrap();
    for path in ["shop/.dapr/resources", "shop/own", "bank", "common", "more"] {
        fs::create_dir_all(base.join(path)).unwrap();
    }
    for path in ["config.yaml", "shop/.dapr/config.yaml", "bank/config.yaml"] {
        fs::write(base.join(path), "").unwrap();
    }
    (folder, base)
}

fn read(text: &str) -> anyhow::Result<RunFile> {
    let (_folder, base) = world();
    let mut file = parse(
        text,
        Path::new("/f/dapr.yaml"),
        &base,
        Some(base.to_str().unwrap()),
    )?;
    // Paths as the tests write them.
    let short = |path: &mut PathBuf| *path = path.strip_prefix(&base).unwrap().to_owned();
    for Entry { folder, shared, .. } in &mut file.apps {
        short(folder);
        shared
            .config
            .iter_mut()
            .chain(&mut shared.components_path)
            .chain(&mut shared.resources_paths)
            .for_each(short);
    }
    Ok(file)
}

#[test]
fn the_reference_example() {
    let file = read(
        r#"
version: 1
name: shop
common:
  resourcesPath: ./common
  env: {DEBUG: "true", PORT: 0600}
  appProtocol: http
apps:
  - appID: webapp
    appDirPath: shop
    resourcesPath: own
    configFilePath: .dapr/config.yaml
    appPort: 8080
    daprHTTPPort: 3501
    env:
      DEBUG: false
      OWN: x
    command: ["python3", "app.py"]
    appLogDestination: file
  - appDirPath: ~/bank
    resourcesPaths: [../more, ../common]
    daprdLogDestination: console
    enableApiLogging: true
"#,
    )
    .unwrap();
    assert_eq!(file.warnings, Vec::<String>::new());
    assert_eq!(file.name, "shop");
    let [web, bank] = file.apps.as_slice() else {
        panic!("{file:?}")
    };
    assert_eq!(web.single.app_id.as_deref(), Some("webapp"));
    assert_eq!(web.folder, Path::new("shop"));
    assert_eq!(
        (web.single.app_port, web.single.dapr_http_port),
        (Some(8080), Some(3501))
    );
    assert_eq!(web.single.command, ["python3", "app.py"]);
    assert_eq!(web.shared.resources(), [Path::new("shop/own")]);
    assert_eq!(
        web.shared.config.as_deref(),
        Some(Path::new("shop/.dapr/config.yaml"))
    );
    let env: Vec<_> = web
        .shared
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(env, [("DEBUG", "false"), ("OWN", "x"), ("PORT", "0600")]);
    assert_eq!(web.shared.app_log_destination, Some(Destination::File));
    assert_eq!(web.shared.daprd_log_destination, Some(Destination::File));

    assert_eq!(bank.single.app_id.as_deref(), Some("bank"), "the folder's name");
    assert_eq!(bank.shared.resources(), [Path::new("more"), Path::new("common")]);
    assert_eq!(bank.shared.app_protocol.as_deref(), Some("http"));
    assert_eq!(bank.shared.enable_api_logging, Some(true));
    assert_eq!(bank.shared.daprd_log_destination, Some(Destination::Console));
    assert_eq!(bank.shared.app_log_destination, Some(Destination::FileAndConsole));
}

#[test]
fn where_resources_and_configurations_come_from() {
    let cases = [
        (
            "common: {resourcesPath: common, configFilePath: config.yaml}",
            "shop",
            "shop/.dapr/resources",
            "shop/.dapr/config.yaml",
        ),
        (
            "common: {resourcesPath: common, configFilePath: config.yaml}",
            "bank",
            "common",
            "config.yaml",
        ),
        (
            "common: {resourcesPaths: [more, common]}",
            "bank",
            "more,common",
            "",
        ),
        ("", "bank", "", ""),
    ];
    for (common, folder, resources, configuration) in cases {
        let file = read(&format!("version: 1\n{common}\napps: [{{appDirPath: {folder}}}]")).unwrap();
        let shared = &file.apps[0].shared;
        let found: Vec<_> = shared
            .resources()
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(found.join(","), resources, "{common} {folder}");
        let found = shared
            .config
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        assert_eq!(found, configuration, "{common} {folder}");
    }
}

#[test]
fn what_is_not_understood_is_said() {
    let file = read(
        "version: 1\nextra: 1\ncommon:\n  appid: x\n  runtimePath: /opt\napps:\n- appDirPath: bank\n  appport: 1\n  nonsense: 2\n  containerImage: x",
    )
    .unwrap();
    assert_eq!(
        file.warnings,
        [
            "line 2: unknown key extra is ignored",
            "line 4: unknown key appid in common is ignored",
            "line 5: runtimePath in common has no effect: Outrigger is its own sidecar",
            "line 8: unknown key appport in apps[0] is ignored; did you mean appPort?",
            "line 9: unknown key nonsense in apps[0] is ignored",
        ]
    );
}

#[test]
fn refused() {
    let cases = [
        ("", "`version` is missing"),
        ("version: 2\napps: []", "`version: 2` is not known"),
        ("version: 1", "`apps` is missing or empty"),
        ("version: 1\napps: []", "nothing to run"),
        ("version: 1\napps: {appDirPath: bank}", "must be a list"),
        ("version: 1\napps:\n- appID: a", "`appDirPath` is missing"),
        ("version: 1\napps:\n- appDirPath: nowhere", "cannot find"),
        (
            "version: 1\napps:\n- appDirPath: bank\n  resourcesPath: nowhere",
            "nowhere",
        ),
        (
            "version: 1\napps:\n- appDirPath: bank\n  appPort: many",
            "expected a whole number",
        ),
        (
            "version: 1\napps:\n- appDirPath: bank\n  appLogDestination: paper",
            "paper",
        ),
        (
            "version: 1\napps:\n- appDirPath: bank\n  command: ['']",
            "its first word must be a program",
        ),
        (
            "version: 1\napps:\n- {appID: a, appDirPath: bank}\n- {appID: a, appDirPath: shop}",
            "two apps have the appID \"a\"",
        ),
        ("version: [", "line 1"),
    ];
    for (text, expected) in cases {
        let error = format!("{:#}", read(text).unwrap_err());
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn finding_it() {
    let (_folder, base) = world();
    fs::write(base.join("shop/dapr.yaml"), "").unwrap();
    fs::write(base.join("shop/notes.txt"), "").unwrap();
    assert_eq!(find(&base.join("shop")).unwrap(), base.join("shop/dapr.yaml"));
    assert_eq!(find(&base.join("config.yaml")).unwrap(), base.join("config.yaml"));
    for (path, expected) in [
        ("bank", "no dapr.yaml"),
        ("shop/notes.txt", "not a YAML file"),
        ("none.yaml", "cannot find"),
    ] {
        let error = format!("{:#}", find(&base.join(path)).unwrap_err());
        assert!(error.contains(expected), "{path}: {error}");
    }
}
