use super::*;
use outrigger_component::registry::Registry;
use outrigger_testkit::setup::setup;

#[tokio::test]
async fn faults_name_the_file_and_never_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let broken = write("broken", "{\"a\": \"hunter2\" hunter2}");
    let list = write("list", "[\"hunter2\"]");
    let twice = write("twice", r#"{"a:b": "hunter2", "a": {"b": "hunter2"}}"#);
    let missing = folder.path().join("missing").to_str().unwrap().to_owned();
    let mut registry = Registry::default();
    registry.secret("local.file", Store::build);
    for (path, expected) in [
        (String::new(), "missing local secrets file in metadata"),
        (missing, "cannot read secretsFile"),
        (broken, "is not a JSON object (line 1, column"),
        (list, "is not a JSON object"),
        (twice, "holds secret \"a:b\" twice"),
    ] {
        let build = registry
            .secret_stores()
            .build("local.file", "v1", setup(&[("secretsFile", &path)]));
        let error = build.await.err().expect("must fail");
        assert_eq!(error.kind, Kind::Invalid);
        assert!(
            error.message.contains(expected) && !error.message.contains("hunter2"),
            "{}",
            error.message
        );
    }
}
