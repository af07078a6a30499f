//! Expectations were recorded from Go's own functions.

use super::{boolean, duration, format_duration, quantity, quote};
use std::time::Duration;

#[test]
fn durations() {
    for (text, expect) in [
        ("0", Ok(0)),
        ("5s", Ok(5_000_000_000)),
        ("1h2m3.5s", Ok(3_723_500_000_000)),
        ("-1.5h", Ok(-5_400_000_000_000)),
        ("+300ms", Ok(300_000_000)),
        ("1us1µs1μs", Ok(3_000)),
        (".5s", Ok(500_000_000)),
        ("1.s", Ok(1_000_000_000)),
        ("0.3333333333333333333h", Ok(1_200_000_000_000)),
        ("9223372036854775807ns", Ok(i64::MAX)),
        ("-9223372036854775808ns", Ok(i64::MIN)),
        ("", Err("time: invalid duration \"\"")),
        ("-", Err("time: invalid duration \"-\"")),
        (".s", Err("time: invalid duration \".s\"")),
        ("10", Err("time: missing unit in duration \"10\"")),
        ("3d", Err("time: unknown unit \"d\" in duration \"3d\"")),
        ("5 s", Err("time: unknown unit \" s\" in duration \"5 s\"")),
        ("x\"", Err("time: invalid duration \"x\\\"\"")),
        (
            "1é",
            Err("time: unknown unit \"\\xc3\\xa9\" in duration \"1\\xc3\\xa9\""),
        ),
        (
            "9223372036854775808ns",
            Err("time: invalid duration \"9223372036854775808ns\""),
        ),
        ("99999999999h", Err("time: invalid duration \"99999999999h\"")),
    ] {
        let found = super::duration::parse(text).map_err(|error| error.0);
        assert_eq!(found, expect.map_err(str::to_owned), "{text:?}");
    }
    for (nanoseconds, expect) in [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (3_300_000_000, "3.3s"),
        (60_000_000_000, "1m0s"),
        (245_000_000_000, "4m5s"),
        (245_001_000_000, "4m5.001s"),
        (18_367_001_000_000, "5h6m7.001s"),
        (480_000_000_001, "8m0.000000001s"),
        (-1_500_000, "-1.5ms"),
        (i64::MAX, "2562047h47m16.854775807s"),
        (i64::MIN, "-2562047h47m16.854775808s"),
    ] {
        let found = super::duration::format(nanoseconds);
        assert_eq!(found, expect);
        assert_eq!(super::duration::parse(&found), Ok(nanoseconds));
    }
    assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
    assert!(duration("-1s").is_err());
    assert_eq!(format_duration(Duration::from_secs(5400)), "1h30m0s");
    assert_eq!(format_duration(Duration::MAX), "2562047h47m16.854775807s");
}

#[test]
fn booleans() {
    for text in ["1", "t", "T", "TRUE", "true", "True"] {
        assert_eq!(boolean(text), Ok(true));
    }
    for text in ["0", "f", "F", "FALSE", "false", "False"] {
        assert_eq!(boolean(text), Ok(false));
    }
    for text in ["", "yes", "tRUE", " true"] {
        assert!(boolean(text).is_err(), "{text:?}");
    }
}

#[test]
fn quantities() {
    for (text, expect) in [
        ("1048576", Some(1 << 20)),
        ("4Mi", Some(4 << 20)),
        ("512k", Some(512_000)),
        ("1.5G", Some(1_500_000_000)),
        ("1.5Gi", Some(3 << 29)),
        ("0.3", Some(1)),
        ("2e3", Some(2000)),
        ("1E", Some(1_000_000_000_000_000_000)),
        ("1Ei", Some(1 << 60)),
        ("16Ei", None),
        ("", None),
        ("Mi", None),
        ("-1", None),
        ("4 Mi", None),
        ("4mi", None),
        ("1e99", None),
        ("1.0000000000000000000000000000000000000001", None),
    ] {
        assert_eq!(quantity::parse(text).ok(), expect, "{text:?}");
    }
}

#[test]
fn quotes() {
    for (text, expect) in [
        ("plain", r#""plain""#),
        ("a\"b\\c", r#""a\"b\\c""#),
        ("\n\t\r\u{7}\0\u{7f}", r#""\n\t\r\a\x00\x7f""#),
        ("é…\u{2028}\u{a0}", "\"é…\\u2028\\u00a0\""),
    ] {
        assert_eq!(quote::quote(text), expect);
        assert_eq!(quote::unquote(expect).as_deref(), Some(text));
    }
    for (literal, expect) in [
        ("`a\\nb`", Some("a\\nb")),
        ("'x'", Some("x")),
        ("'xy'", None),
        ("'\\''", Some("'")),
        ("\"\\x41\\101\\u00e9\\U0001F600\"", Some("AAé😀")),
        ("\"\\'\"", None),
        ("\"a\"b\"", None),
        ("\"", None),
        ("'", None),
        ("", None),
        ("\"open", None),
        ("plain", None),
        ("\"\\ud800\"", None),
    ] {
        assert_eq!(quote::unquote(literal).as_deref(), expect, "{literal}");
    }
}
