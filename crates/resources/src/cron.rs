//! Schedules as people write them: cron expressions with five or six fields, `@daily` and its like, `@every 1m30s`.
//!
//! A [`Schedule`] is pure: [`Schedule::next`] says when it comes after a given moment, and nothing here looks at a clock.
//!
//! - Fields: second (optional, 0 when left out), minute, hour, day of month, month, day of week. A field is a list of
//!   `*`, `?`, `n`, `a-b`, each with an optional `/step`; `n/step` goes on to the field's end. Months and week days have
//!   English names of three letters; Sunday is 0.
//! - When both days are restricted, either one suffices; otherwise both must match.
//! - `TZ=Area/City ` or `CRON_TZ=Area/City ` in front sets the time zone.
//!
//! INVARIANT: a schedule comes at every second whose wall clock matches. An hour that daylight saving leaves out has no
//! second to come at, and one that is there twice has twice as many.
//!
//! COMPAT(dapr/kit cron/parser.go, spec.go, constantdelay.go): the grammar and the texts of its errors; `@every` counts whole
//! seconds, at least one. Unlike there, a zone that is not followed by a blank is an error and not a crash.

#[cfg(test)]
mod tests;

use crate::go::duration;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Span, Timestamp, Zoned};

/// Years after which a schedule that has not come is taken never to come.
const HORIZON: i16 = 5;
/// Longest text that is looked at, in bytes.
const LONGEST: usize = 1024;

/// When something is due, again and again.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// This long after the last time, counted in whole seconds; at least one.
    Every(SignedDuration),
    /// Whenever the wall clock of a zone matches.
    Calendar(Box<Calendar>),
}

/// Which seconds match.
#[derive(Debug, Clone, PartialEq)]
pub struct Calendar {
    second: Set,
    minute: Set,
    hour: Set,
    day: Set,
    month: Set,
    weekday: Set,
    zone: TimeZone,
}

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Schedule {
    /// `local` is the zone of a schedule that names none; named zones are looked up in `zones`.
    ///
    /// # Errors
    /// A text that is no schedule.
    pub fn parse(text: &str, local: &TimeZone, zones: &TimeZoneDatabase) -> Result<Self, Error> {
        if text.len() > LONGEST {
            return Err(Error(format!("a schedule has at most {LONGEST} bytes")));
        }
        if text.is_empty() {
            return Err(Error("empty spec string".to_owned()));
        }
        let named = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="));
        let (zone, text) = match named {
            None => (local.clone(), text),
            Some(rest) => {
                let (name, rest) = rest
                    .split_once(' ')
                    .ok_or_else(|| Error(format!("no schedule behind the time zone {rest}")))?;
                let zone = zones
                    .get(name)
                    .map_err(|error| Error(format!("provided bad location {name}: {error}")))?;
                (zone, rest.trim())
            }
        };
        if text.starts_with('@') {
            return descriptor(text, zone);
        }
        let mut fields: Vec<&str> = text.split_whitespace().collect();
        match fields.len() {
            6 => {}
            5 => fields.insert(0, "0"),
            found => {
                return Err(Error(format!(
                    "expected 5 to 6 fields, found {found}: [{}]",
                    fields.join(" ")
                )));
            }
        }
        let mut sets = fields
            .iter()
            .zip(FIELDS)
            .map(|(text, field)| Set::parse(text, field));
        let mut next = || sets.next().expect("six fields were counted");
        Ok(Self::Calendar(Box::new(Calendar {
            second: next()?,
            minute: next()?,
            hour: next()?,
            day: next()?,
            month: next()?,
            weekday: next()?,
            zone,
        })))
    }

    /// The first time after `moment`; `None` when there is none within the next years.
    pub fn next(&self, moment: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(pause) => {
                let part = SignedDuration::from_nanos(moment.subsec_nanosecond().into());
                moment.checked_add(*pause).ok()?.checked_sub(part).ok()
            }
            Self::Calendar(calendar) => calendar.next(moment),
        }
    }
}

impl Calendar {
    fn next(&self, moment: Timestamp) -> Option<Timestamp> {
        let mut at = after(moment.as_second(), 1)?.to_zoned(self.zone.clone());
        let last_year = at.year().saturating_add(HORIZON);
        while at.year() <= last_year {
            let jump = if !self.month.has(at.month()) {
                let first = at.date().first_of_month();
                first.checked_add(Span::new().months(1)).ok()?
            } else if !self.is_day(&at) {
                at.date().tomorrow().ok()?
            } else {
                let Some(wait) = self.wait(&at) else {
                    return Some(at.timestamp());
                };
                let second = at.timestamp().as_second();
                let mut then = second.checked_add(wait)?;
                // Clocks that are set change what the seconds up to there are called.
                if let Some(change) = self.zone.following(at.timestamp()).next() {
                    let change = change.timestamp().as_second();
                    if change > second {
                        then = then.min(change);
                    }
                }
                at = Timestamp::from_second(then).ok()?.to_zoned(self.zone.clone());
                continue;
            };
            let next = self.zone.to_zoned(jump.at(0, 0, 0, 0)).ok()?;
            // Always onwards, whatever a zone does with its midnights.
            at = if next > at {
                next
            } else {
                after(at.timestamp().as_second(), 3600)?.to_zoned(self.zone.clone())
            };
        }
        None
    }

    fn is_day(&self, at: &Zoned) -> bool {
        let weekday = at.weekday().to_sunday_zero_offset();
        let (day, weekday) = (self.day.has(at.day()), self.weekday.has(weekday));
        if self.day.any || self.weekday.any {
            day && weekday
        } else {
            day || weekday
        }
    }

    /// Seconds up to where the next field may match; `None` when all match already.
    fn wait(&self, at: &Zoned) -> Option<i64> {
        let (minute, second) = (i64::from(at.minute()), i64::from(at.second()));
        if !self.hour.has(at.hour()) {
            Some(3600 - minute * 60 - second)
        } else if !self.minute.has(at.minute()) {
            Some(60 - second)
        } else if !self.second.has(at.second()) {
            Some(1)
        } else {
            None
        }
    }
}

fn after(second: i64, seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(second.checked_add(seconds)?).ok()
}

/// One field's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Set {
    bits: u64,
    /// Written as a star: no restriction was meant.
    any: bool,
}

struct Field {
    min: u32,
    max: u32,
    /// Of the numbers from `min` on.
    names: &'static [&'static str],
}

const FIELDS: [&Field; 6] = [&SECOND, &SECOND, &HOUR, &DAY, &MONTH, &WEEKDAY];
/// Of seconds and minutes.
const SECOND: Field = field(0, 59, &[]);
const HOUR: Field = field(0, 23, &[]);
const DAY: Field = field(1, 31, &[]);
const MONTH: Field = field(
    1,
    12,
    &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
);
const WEEKDAY: Field = field(0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]);

const fn field(min: u32, max: u32, names: &'static [&'static str]) -> Field {
    Field { min, max, names }
}

impl Field {
    fn all(&self) -> Set {
        Set {
            any: true,
            ..Set::of(self.min, self.max, 1)
        }
    }

    fn first(&self) -> Set {
        Set::of(self.min, self.min, 1)
    }

    fn number(&self, text: &str) -> Result<u32, Error> {
        let named = (self.min..)
            .zip(self.names)
            .find(|(_, name)| name.eq_ignore_ascii_case(text));
        match named {
            Some((number, _)) => Ok(number),
            None => number(text),
        }
    }
}

impl Set {
    /// `first..=last` are within 0..=63.
    fn of(first: u32, last: u32, step: u32) -> Self {
        let numbers = (first..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        let bits = numbers.fold(0, |bits, number| bits | 1_u64.checked_shl(number).unwrap_or(0));
        Self { bits, any: false }
    }

    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.bits & 1_u64.checked_shl(number).unwrap_or(0) != 0)
    }

    fn parse(text: &str, field: &Field) -> Result<Self, Error> {
        let mut set = Self { bits: 0, any: false };
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let range = Self::range(range, field)?;
            set.bits |= range.bits;
            set.any |= range.any;
        }
        Ok(set)
    }

    fn range(text: &str, field: &Field) -> Result<Self, Error> {
        let mut slashes = text.split('/');
        let (range, step) = (slashes.next().unwrap_or_default(), slashes.next());
        let mut hyphens = range.split('-');
        let (low, high) = (hyphens.next().unwrap_or_default(), hyphens.next());
        let star = matches!(low, "*" | "?");
        let (first, mut last) = if star {
            (field.min, field.max)
        } else {
            let first = field.number(low)?;
            let last = match high {
                Some(high) => field.number(high)?,
                None => first,
            };
            if hyphens.next().is_some() {
                return Err(Error(format!("too many hyphens: {text}")));
            }
            (first, last)
        };
        let stride = match step {
            None => 1,
            Some(step) => {
                let step = number(step)?;
                if slashes.next().is_some() {
                    return Err(Error(format!("too many slashes: {text}")));
                }
                if high.is_none() {
                    last = field.max;
                }
                step
            }
        };
        let (min, max) = (field.min, field.max);
        if first < min {
            return Err(Error(format!(
                "beginning of range ({first}) below minimum ({min}): {text}"
            )));
        }
        if last > max {
            return Err(Error(format!(
                "end of range ({last}) above maximum ({max}): {text}"
            )));
        }
        if first > last {
            return Err(Error(format!(
                "beginning of range ({first}) beyond end of range ({last}): {text}"
            )));
        }
        if stride == 0 {
            return Err(Error(format!(
                "step of range should be a positive number: {text}"
            )));
        }
        Ok(Self {
            any: star && stride == 1,
            ..Self::of(first, last, stride)
        })
    }
}

fn number(text: &str) -> Result<u32, Error> {
    let number: i64 = text
        .parse()
        .map_err(|_| Error(format!("failed to parse int from {text}: {text:?} is no number")))?;
    u32::try_from(number).map_err(|_| {
        if number < 0 {
            Error(format!("negative number ({number}) not allowed: {text}"))
        } else {
            Error(format!(
                "failed to parse int from {text}: the number is too large"
            ))
        }
    })
}

fn descriptor(text: &str, zone: TimeZone) -> Result<Schedule, Error> {
    let (day, month, weekday, hour) = match text {
        "@yearly" | "@annually" => (DAY.first(), MONTH.first(), WEEKDAY.all(), HOUR.first()),
        "@monthly" => (DAY.first(), MONTH.all(), WEEKDAY.all(), HOUR.first()),
        "@weekly" => (DAY.all(), MONTH.all(), WEEKDAY.first(), HOUR.first()),
        "@daily" | "@midnight" => (DAY.all(), MONTH.all(), WEEKDAY.all(), HOUR.first()),
        "@hourly" => (DAY.all(), MONTH.all(), WEEKDAY.all(), HOUR.all()),
        _ => {
            let Some(pause) = text.strip_prefix("@every ") else {
                return Err(Error(format!("unrecognized descriptor: {text}")));
            };
            let nanoseconds = duration::parse(pause)
                .map_err(|error| Error(format!("failed to parse duration {text}: {error}")))?;
            let seconds = SignedDuration::from_nanos(nanoseconds).as_secs().max(1);
            return Ok(Schedule::Every(SignedDuration::from_secs(seconds)));
        }
    };
    Ok(Schedule::Calendar(Box::new(Calendar {
        second: SECOND.first(),
        minute: SECOND.first(),
        hour,
        day,
        month,
        weekday,
        zone,
    })))
}
