use super::Schedule;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

fn parse(text: &str) -> Result<Schedule, String> {
    Schedule::parse(text, &TimeZone::UTC, &TimeZoneDatabase::bundled()).map_err(|error| error.to_string())
}

/// The next times after `moment`, as UTC.
fn times(text: &str, moment: &str, count: usize) -> Vec<String> {
    let schedule = parse(text).unwrap();
    let mut at: Timestamp = moment.parse().unwrap();
    let mut times = Vec::new();
    while times.len() < count {
        match schedule.next(at) {
            Some(next) => {
                assert!(next > at, "{text}: {next} after {at}");
                at = next;
                times.push(next.to_string());
            }
            None => {
                times.push("never".to_owned());
                break;
            }
        }
    }
    times
}

#[test]
fn comes_when_the_wall_clock_matches() {
    for (text, moment, expected) in [
        (
            "* * * * *",
            "2026-02-03T04:05:06.7Z",
            &["2026-02-03T04:06:00Z", "2026-02-03T04:07:00Z"][..],
        ),
        (
            "* * * * * *",
            "2026-02-03T04:05:06.7Z",
            &["2026-02-03T04:05:07Z", "2026-02-03T04:05:08Z"],
        ),
        (
            "*/20 * * * * *",
            "2026-12-31T23:59:40Z",
            &["2027-01-01T00:00:00Z", "2027-01-01T00:00:20Z"],
        ),
        (
            "15/20 * * * * *",
            "2026-01-01T00:00:00Z",
            &[
                "2026-01-01T00:00:15Z",
                "2026-01-01T00:00:35Z",
                "2026-01-01T00:00:55Z",
                "2026-01-01T00:01:15Z",
            ],
        ),
        (
            "0 30 8-9,17 * * MON-fri",
            "2026-11-20T17:30:00Z",
            &[
                "2026-11-23T08:30:00Z",
                "2026-11-23T09:30:00Z",
                "2026-11-23T17:30:00Z",
            ],
        ),
        (
            "0 0 1 jan,Jul ?",
            "2026-03-03T00:00:00Z",
            &["2026-07-01T00:00:00Z", "2027-01-01T00:00:00Z"],
        ),
        // Both days restricted: either suffices.
        (
            "0 0 13 * FRI",
            "2026-11-01T00:00:00Z",
            &[
                "2026-11-06T00:00:00Z",
                "2026-11-13T00:00:00Z",
                "2026-11-20T00:00:00Z",
            ],
        ),
        // A star with a step restricts.
        (
            "0 0 */10 * */6",
            "2026-11-01T00:00:00Z",
            &[
                "2026-11-07T00:00:00Z",
                "2026-11-08T00:00:00Z",
                "2026-11-11T00:00:00Z",
            ],
        ),
        (
            "0 0 29 2 *",
            "2026-03-01T00:00:00Z",
            &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
        ),
        ("0 0 31 2 *", "2026-03-01T00:00:00Z", &["never"]),
        ("@hourly", "2026-11-01T10:00:00Z", &["2026-11-01T11:00:00Z"]),
        ("@daily", "2026-11-01T10:00:00Z", &["2026-11-02T00:00:00Z"]),
        ("@midnight", "2026-11-01T10:00:00Z", &["2026-11-02T00:00:00Z"]),
        ("@weekly", "2026-11-04T10:00:00Z", &["2026-11-08T00:00:00Z"]),
        ("@monthly", "2026-11-04T10:00:00Z", &["2026-12-01T00:00:00Z"]),
        ("@yearly", "2026-11-04T10:00:00Z", &["2027-01-01T00:00:00Z"]),
        ("@annually", "2026-11-04T10:00:00Z", &["2027-01-01T00:00:00Z"]),
        (
            "@every 1m30s",
            "2026-11-04T10:00:00.75Z",
            &["2026-11-04T10:01:30Z", "2026-11-04T10:03:00Z"],
        ),
        (
            "@every 10ms",
            "2026-11-04T10:00:00.75Z",
            &["2026-11-04T10:00:01Z"],
        ),
        ("@every 1999ms", "2026-11-04T10:00:00Z", &["2026-11-04T10:00:01Z"]),
        ("@every -5s", "2026-11-04T10:00:00Z", &["2026-11-04T10:00:01Z"]),
        // Zones: winter and summer, a skipped hour, a doubled hour, a zone that sets its clocks at midnight.
        (
            "TZ=Europe/Rome 0 9 * * *",
            "2026-03-28T00:00:00Z",
            &["2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z"],
        ),
        (
            "CRON_TZ=America/New_York  30 2 * * *",
            "2026-03-07T12:00:00Z",
            &["2026-03-09T06:30:00Z"],
        ),
        (
            "CRON_TZ=America/New_York 30 1 * * *",
            "2026-11-01T00:00:00Z",
            &[
                "2026-11-01T05:30:00Z",
                "2026-11-01T06:30:00Z",
                "2026-11-02T06:30:00Z",
            ],
        ),
        (
            "TZ=Asia/Kolkata @daily",
            "2026-11-04T10:00:00Z",
            &["2026-11-04T18:30:00Z"],
        ),
        (
            "TZ=America/Sao_Paulo 0 0 * * *",
            "2018-11-03T12:00:00Z",
            &["2018-11-05T02:00:00Z"],
        ),
        (
            "TZ=America/Sao_Paulo 0 1 4 11 *",
            "2018-11-03T12:00:00Z",
            &["2018-11-04T03:00:00Z"],
        ),
        (
            "TZ=Australia/Lord_Howe */15 2 * * *",
            "2026-10-03T15:00:00Z",
            &[
                "2026-10-03T15:30:00Z",
                "2026-10-03T15:45:00Z",
                "2026-10-04T15:00:00Z",
            ],
        ),
        (
            "TZ=Pacific/Apia 0 12 30 12 *",
            "2011-12-29T00:00:00Z",
            &["2012-12-29T22:00:00Z"],
        ),
    ] {
        assert_eq!(
            times(text, moment, expected.len()),
            expected,
            "{text} after {moment}"
        );
    }
}

/// A schedule found by stepping second by second must be the one that is computed.
#[test]
fn agrees_with_stepping() {
    let start: Timestamp = "2026-03-28T23:58:00Z".parse().unwrap();
    for text in [
        "*/7 */9 * * * *",
        "TZ=Europe/Rome 30 59 1-3 * * *",
        "TZ=Europe/Rome 0 0 2,3 28,29 3 *",
        "TZ=Asia/Kathmandu 15 */45 5 * * SUN",
    ] {
        let schedule = parse(text).unwrap();
        let Schedule::Calendar(calendar) = &schedule else {
            panic!("{text}")
        };
        let mut expected = schedule.next(start);
        for second in 1..3 * 3600 {
            let at = Timestamp::from_second(start.as_second() + second).unwrap();
            let zoned = at.to_zoned(calendar.zone.clone());
            let matches = calendar.month.has(zoned.month())
                && calendar.is_day(&zoned)
                && calendar.wait(&zoned).is_none();
            assert_eq!(matches, expected == Some(at), "{text} at {zoned}");
            if matches {
                expected = schedule.next(at);
            }
        }
    }
}

#[test]
fn what_is_no_schedule() {
    for (text, expected) in [
        ("", "empty spec string"),
        ("* * * *", "expected 5 to 6 fields, found 4: [* * * *]"),
        (
            "* * * * * * *",
            "expected 5 to 6 fields, found 7: [* * * * * * *]",
        ),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("* 24 * * *", "end of range (24) above maximum (23): 24"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        (
            "5-3 * * * *",
            "beginning of range (5) beyond end of range (3): 5-3",
        ),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        (
            "* * * * monday",
            "failed to parse int from monday: \"monday\" is no number",
        ),
        (
            "99999999999 * * * *",
            "failed to parse int from 99999999999: the number is too large",
        ),
        ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
        ("@reboot", "unrecognized descriptor: @reboot"),
        ("@every", "unrecognized descriptor: @every"),
        (
            "@every soon",
            "failed to parse duration @every soon: time: invalid duration \"soon\"",
        ),
        ("TZ=Europe/Rome", "no schedule behind the time zone Europe/Rome"),
        ("TZ=Europe/Rome ", "expected 5 to 6 fields, found 0: []"),
    ] {
        assert_eq!(parse(text).unwrap_err(), expected, "{text}");
    }
    let zone = parse("TZ=Nowhere/Land * * * * *").unwrap_err();
    assert!(zone.starts_with("provided bad location Nowhere/Land: "), "{zone}");
    assert!(parse(&"*".repeat(5000)).unwrap_err().contains("1024"));
}

/// Any text ends in a schedule or an error, and a schedule comes after the moment it is asked for. Cheap and seeded; the fuzz
/// target goes further.
#[test]
fn mutations_never_panic() {
    let seeds = [
        "*/7 0-23/2 1,15 * MON-FRI",
        "TZ=Europe/Rome 0 30 2 29 2 ?",
        "@every 1h2m3s",
    ];
    let alphabet = b"*?-,/0123456789 LWJANSUN@TZ=:.hms";
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below.max(1) as u64).unwrap()
    };
    let start: Timestamp = "2026-03-28T23:58:00Z".parse().unwrap();
    let mut schedules = 0;
    for round in 0..4000 {
        let mut bytes = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            let byte = alphabet[next(alphabet.len())];
            match next(3) {
                0 => bytes.insert(at, byte),
                1 if !bytes.is_empty() => drop(bytes.remove(at)),
                _ if !bytes.is_empty() => bytes[at] = byte,
                _ => {}
            }
        }
        let text = String::from_utf8(bytes).unwrap();
        let Ok(schedule) = parse(&text) else { continue };
        schedules += 1;
        let mut at = start;
        for _ in 0..3 {
            let Some(next) = schedule.next(at) else { break };
            assert!(next > at, "{text}: {next} after {at}");
            at = next;
        }
    }
    assert!(schedules > 200, "{schedules}");
}
