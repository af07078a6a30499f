use super::{Config, Files};
use outrigger_component::binding::{Invoke, OutputBinding as _};
use outrigger_component::error::Kind;
use outrigger_component::setup::Setup;
use outrigger_testkit::setup::setup;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;

async fn build(root: &str) -> Result<Files, String> {
    let plain = setup(&[]);
    let setup = Setup {
        config: Config {
            root_path: root.to_owned(),
        },
        name: plain.name,
        app_id: plain.app_id,
        namespace: plain.namespace,
        metadata: plain.metadata,
        log: plain.log,
        instance: plain.instance,
    };
    Files::build(setup).await.map_err(|error| error.to_string())
}

async fn files(folder: &Path) -> Files {
    build(folder.to_str().unwrap()).await.unwrap()
}

/// The answer as text; `-` for none.
async fn ask(files: &Files, operation: &str, name: &str, data: &str) -> Result<String, (Kind, String)> {
    let invoke = Invoke {
        operation: operation.to_owned(),
        data: data.to_owned().into(),
        metadata: [("fileName", name)]
            .into_iter()
            .filter(|(_, name)| !name.is_empty())
            .collect(),
    };
    match files.invoke(invoke).await {
        Ok(None) => Ok("-".to_owned()),
        Ok(Some(output)) => Ok(String::from_utf8(output.data.to_vec()).unwrap()),
        Err(failed) => Err((failed.error.kind, failed.error.to_string())),
    }
}

#[tokio::test]
async fn a_files_life() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("new/deep");
    let files = files(&root).await;
    assert_eq!(ask(&files, "list", "", "").await.unwrap(), "null");
    for (name, data, stored) in [
        ("plain.txt", "some words", "some words"),
        ("a/b/quoted.txt", r#""a \"text\"""#, r#"a "text""#),
        ("coded", "aGVsbG8=", "hello"),
        ("quoted and coded", r#""aGVs\nbG8=""#, "hello"),
        ("object.json", r#"{"a":1}"#, r#"{"a":1}"#),
        ("plain.txt", "other words", "other words"),
    ] {
        let answer = ask(&files, "create", name, data).await.unwrap();
        assert_eq!(answer, serde_json::json!({"fileName": name}).to_string());
        assert_eq!(ask(&files, "get", name, "").await.unwrap(), stored, "{name}");
    }
    let listed: Vec<String> = serde_json::from_str(&ask(&files, "list", "", "").await.unwrap()).unwrap();
    let root = fs::canonicalize(&root).unwrap();
    let path = |name: &str| root.join(name).to_str().unwrap().to_owned();
    let all = [
        "a/b/quoted.txt",
        "coded",
        "object.json",
        "plain.txt",
        "quoted and coded",
    ];
    assert_eq!(listed, all.map(path));
    let listed = ask(&files, "list", "a/b", "").await.unwrap();
    assert_eq!(listed, serde_json::json!([path("a/b/quoted.txt")]).to_string());
    assert_eq!(ask(&files, "delete", "a/b/quoted.txt", "").await.unwrap(), "-");
    let (kind, text) = ask(&files, "get", "a/b/quoted.txt", "").await.unwrap_err();
    assert_eq!(
        (kind, text),
        (
            Kind::NotFound,
            format!("file not found: {}", path("a/b/quoted.txt"))
        )
    );
    for (operation, name, expected) in [
        ("delete", "gone", Kind::NotFound),
        ("delete", "", Kind::Invalid),
        ("list", "coded", Kind::Invalid),
        ("list", "gone", Kind::NotFound),
        ("create", "a", Kind::Invalid),
        ("move", "coded", Kind::Invalid),
        ("get", "a\0b", Kind::Invalid),
    ] {
        let found = ask(&files, operation, name, "x").await;
        assert_eq!(
            found.as_ref().unwrap_err().0,
            expected,
            "{operation} {name}: {found:?}"
        );
    }
    // A name of its own when none is given.
    let answer = ask(&files, "create", "", "x").await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let name = answer["fileName"].as_str().unwrap();
    assert_eq!(
        (name.len(), fs::read(root.join(name)).unwrap()),
        (36, b"x".to_vec())
    );
}

#[tokio::test]
async fn nothing_leads_out() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("root");
    let files = files(&root).await;
    fs::write(folder.path().join("secret"), "no").unwrap();
    symlink("../secret", root.join("up")).unwrap();
    symlink(folder.path().join("secret"), root.join("away")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("/inside", root.join("in")).unwrap();
    for name in [
        "../secret",
        "/../../secret",
        "a/../../secret",
        "up",
        "away",
        "up/../../secret",
    ] {
        let found = ask(&files, "get", name, "").await;
        assert_eq!(found.as_ref().unwrap_err().0, Kind::NotFound, "{name}: {found:?}");
    }
    let (_, text) = ask(&files, "get", "loop", "").await.unwrap_err();
    assert!(text.contains("too many symbolic links"), "{text}");
    // What is written through such names stays inside.
    assert_eq!(
        ask(&files, "create", "../x/../y", "1").await.unwrap(),
        r#"{"fileName":"y"}"#
    );
    assert_eq!(
        ask(&files, "create", "up", "2").await.unwrap(),
        r#"{"fileName":"secret"}"#
    );
    assert_eq!(
        ask(&files, "create", "in/z", "3").await.unwrap(),
        r#"{"fileName":"inside/z"}"#
    );
    assert_eq!(fs::read_to_string(folder.path().join("secret")).unwrap(), "no");
    assert_eq!(fs::read_to_string(root.join("secret")).unwrap(), "2");
}

#[tokio::test]
async fn folders_that_cannot_be() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    symlink("/proc", folder.path().join("link")).unwrap();
    let below = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let refused = "failed to parse metadata: property rootPath points to a disallowed location";
    for (root, expected) in [
        (
            String::new(),
            "failed to parse metadata: property rootPath must not be empty",
        ),
        (
            below("file"),
            "failed to parse metadata: property rootPath represents a file and not a directory",
        ),
        ("/proc".to_owned(), refused),
        ("/sys/kernel/../x".to_owned(), refused),
        ("/boot/x/y".to_owned(), refused),
        ("/var/run/secrets/x".to_owned(), refused),
        (below("link/x"), refused),
    ] {
        assert_eq!(build(&root).await.err().as_deref(), Some(expected), "{root}");
    }
}
