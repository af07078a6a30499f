use super::Flags;
use std::time::Duration;

fn parse(line: &str) -> Result<Flags, clap::Error> {
    Flags::parse_from_args(line.split_whitespace().map(Into::into))
}

#[test]
fn all_spellings_of_a_flag_mean_the_same() {
    for line in ["--app-id a", "--app-id=a", "-app-id a", "-app-id=a"] {
        assert_eq!(parse(line).expect(line).app_id, "a", "{line}");
    }
}

#[test]
fn booleans_take_a_value_only_behind_an_equals_sign() {
    for (line, expected) in [
        ("", false),
        ("--enable-profiling", true),
        ("--enable-profiling=true", true),
        ("--enable-profiling=false", false),
        ("--enable-profiling=0", false),
        ("-enable-profiling --app-id x", true),
    ] {
        assert_eq!(parse(line).expect(line).enable_profiling, expected, "{line}");
    }
    assert!(parse("--enable-profiling=perhaps").is_err());
    assert_eq!(parse("").expect("empty").enable_api_logging, None);
    assert_eq!(
        parse("--enable-api-logging=false")
            .expect("flag")
            .enable_api_logging,
        Some(false)
    );
}

#[test]
fn numbers_durations_and_lists() {
    let flags = parse(
        "-app-max-concurrency -1 --app-binding-options-timeout=1m0s --resources-path a,b --resources-path c",
    )
    .expect("parses");
    assert_eq!(flags.app_max_concurrency, -1);
    assert_eq!(flags.app_binding_options_timeout, Duration::from_secs(60));
    assert_eq!(flags.resources_path, ["a", "b", "c"]);
    assert_eq!(
        parse("--max-body-size -1")
            .expect("negative")
            .max_body_size
            .as_deref(),
        Some("-1")
    );
}

#[test]
fn unknown_flags_are_usage_errors() {
    let error = parse("--no-such-flag").expect_err("unknown");
    assert_eq!(error.exit_code(), 2);
}
