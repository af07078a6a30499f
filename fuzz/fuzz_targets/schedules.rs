//! Schedules: any text, from any moment.
//!
//! Input: eight bytes of a moment, then the text. What is a schedule comes after the moment, again and again and never twice at
//! once; what comes of a calendar is a whole second.
#![no_main]

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use libfuzzer_sys::fuzz_target;
use outrigger_resources::cron::Schedule;

/// Moments that are tried: 1900 to 2100.
const FIRST: i64 = -2_208_988_800;
const LAST: i64 = 4_102_444_800;

fuzz_target!(|input: ([u8; 8], &str)| {
    let (moment, text) = input;
    let zones = TimeZoneDatabase::bundled();
    let Ok(schedule) = Schedule::parse(text, &TimeZone::UTC, &zones) else {
        return;
    };
    let span = LAST - FIRST;
    let second = FIRST + i64::from_le_bytes(moment).rem_euclid(span);
    let mut at = Timestamp::from_second(second).expect("within the range of timestamps");
    for _ in 0..8 {
        let Some(next) = schedule.next(at) else { return };
        assert!(next > at, "{text}: {next} after {at}");
        assert_eq!(next.subsec_nanosecond(), 0, "{text}: {next}");
        // Nothing was left out: just before it, it is still to come.
        let before = Timestamp::from_second(next.as_second() - 1).expect("it is in range");
        if matches!(schedule, Schedule::Calendar(_)) && before >= at {
            assert_eq!(schedule.next(before), Some(next), "{text}");
        }
        at = next;
    }
});
