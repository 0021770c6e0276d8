//! Seconds, instants and dates as HTTP writes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An instant in milliseconds since 1970. HTTP speaks in seconds; milliseconds keep the age of an answer that was
/// fetched and reused within one second honest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(u64);

/// A non-negative number of seconds (RFC 9111 §1.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeltaSeconds(u32);

/// From that of 1 January 1970.
const WEEKDAYS: [&[u8; 5]; 7] = [b"Thu, ", b"Fri, ", b"Sat, ", b"Sun, ", b"Mon, ", b"Tue, ", b"Wed, "];
const MONTHS: [&[u8; 5]; 12] = [
    b" Jan ", b" Feb ", b" Mar ", b" Apr ", b" May ", b" Jun ", b" Jul ", b" Aug ", b" Sep ", b" Oct ", b" Nov ",
    b" Dec ",
];
const FEBRUARY: usize = 1;
/// The days of a common year before each month, and before the next year.
const DAYS_BEFORE: [u64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];

// ===== impl Timestamp =====

impl Timestamp {
    pub(crate) const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub(crate) const fn as_millis(self) -> u64 {
        self.0
    }

    /// The span from `earlier` to this instant; zero when `earlier` lies in the future (clocks differ).
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// Parses an HTTP-date in any of its three forms (RFC 9110 §5.6.7).
    pub(crate) fn from_http_date(value: &[u8]) -> Option<Self> {
        if let Some(seconds) = imf_fixdate(value) {
            return Some(Self(seconds * 1000));
        }
        // The obsolete forms, white space around a date, and what is no date at all.
        let text = std::str::from_utf8(value).ok()?;
        let time = httpdate::parse_http_date(text.trim()).ok()?;
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Self(millis(since_epoch)))
    }

    /// Writes an IMF-fixdate (RFC 9110 §5.6.7).
    pub(crate) fn to_http_date(self) -> String {
        // The format has four digits for the year.
        const LAST: u64 = 253_402_300_799_999;
        let time: SystemTime = UNIX_EPOCH + Duration::from_millis(self.0.min(LAST));
        httpdate::fmt_http_date(time)
    }
}

/// The seconds since 1970 of a date in the preferred form, as in `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
fn imf_fixdate(value: &[u8]) -> Option<u64> {
    let date: &[u8; 29] = value.try_into().ok()?;
    if date[16] != b' ' || date[19] != b':' || date[22] != b':' || !date.ends_with(b" GMT") {
        return None;
    }
    let month = MONTHS.iter().position(|name| date[7..12] == **name)?;
    let (day, year) = (number(&date[5..7])?, number(&date[12..16])?);
    let (hour, minute, second) = (number(&date[17..19])?, number(&date[20..22])?, number(&date[23..25])?);
    if year < 1970 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let is_leap_year = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let first = DAYS_BEFORE[month] + u64::from(is_leap_year && month > FEBRUARY);
    let length = DAYS_BEFORE[month + 1] - DAYS_BEFORE[month] + u64::from(is_leap_year && month == FEBRUARY);
    if day == 0 || day > length {
        return None;
    }
    let leap_days = |years: u64| years / 4 - years / 100 + years / 400;
    let days = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969) + first + day - 1;
    let weekday = WEEKDAYS[(days % 7) as usize];
    date.starts_with(weekday).then_some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(digits: &[u8]) -> Option<u64> {
    let add = |number: u64, digit: &u8| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'));
    digits.iter().try_fold(0, add)
}

/// A span in whole milliseconds, saturating.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

// ===== impl DeltaSeconds =====

impl DeltaSeconds {
    /// RFC 9111 §1.2.2: a recipient that cannot represent a value uses 2^31 or its greatest one.
    pub(crate) const MAX: Self = Self(1 << 31);

    pub(crate) const fn new(seconds: u32) -> Self {
        Self(if seconds > Self::MAX.0 { Self::MAX.0 } else { seconds })
    }

    /// Digits only; anything else is no delta-seconds. Too large a number is the greatest one.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        match Self::split_from(value)? {
            (seconds, []) => Some(seconds),
            _ => None,
        }
    }

    /// The digits that an argument begins with, at least one, and what follows them.
    #[inline]
    pub(crate) fn split_from(argument: &[u8]) -> Option<(Self, &[u8])> {
        let mut seconds: u32 = 0;
        let mut rest = argument;
        while let [digit @ b'0'..=b'9', after @ ..] = rest {
            seconds = seconds.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
            rest = after;
        }
        (rest.len() < argument.len()).then_some((Self::new(seconds), rest))
    }

    pub(crate) fn as_duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delta_seconds_take_digits_only_and_saturate() {
        let check = |text: &str, expected: Option<u32>| {
            assert_eq!(DeltaSeconds::parse(text.as_bytes()).map(|s| s.0), expected, "{text:?}");
        };
        check("0", Some(0));
        check("60", Some(60));
        check("0060", Some(60));
        check("2147483648", Some(1 << 31));
        check("2147483649", Some(1 << 31));
        check("99999999999999999999999999", Some(1 << 31));
        check("", None);
        check("-1", None);
        check("+1", None);
        check("1.5", None);
        check("60s", None);
        check(" 60", None);
    }

    #[test]
    fn the_three_date_formats_are_read_and_one_is_written() {
        let expected = Timestamp::from_millis(784_111_777_000);
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(Timestamp::from_http_date(date.as_bytes()), Some(expected), "{date}");
        }
        assert_eq!(expected.to_http_date(), "Sun, 06 Nov 1994 08:49:37 GMT");
        for junk in ["", "0", "-1", "tomorrow", "1994-11-06T08:49:37Z"] {
            assert_eq!(Timestamp::from_http_date(junk.as_bytes()), None, "{junk:?}");
        }
    }

    #[test]
    fn each_day_until_2500_is_read_and_none_besides() {
        let day_of = |second: u64| UNIX_EPOCH + Duration::from_secs(second);
        for second in (0..16_725_225_600).step_by(86_400 - 1) {
            let date = httpdate::fmt_http_date(day_of(second));
            assert_eq!(imf_fixdate(date.as_bytes()), Some(second), "{date}");
        }
        let february = "Thu, 29 Feb 2024 00:00:00 GMT";
        assert!(imf_fixdate(february.as_bytes()).is_some());
        for other in
            ["Thu, 29 Feb 2023", "Wed, 29 Feb 2023", "Mon, 29 Feb 2100", "Fri, 30 Feb 2024", "Fri, 00 Mar 2024"]
        {
            assert_eq!(imf_fixdate(february.replace("Thu, 29 Feb 2024", other).as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_date_past_the_calendar_does_not_panic() {
        assert!(!Timestamp::from_millis(u64::MAX).to_http_date().is_empty());
    }

    #[test]
    fn time_never_runs_below_zero() {
        let early = Timestamp::from_millis(1_000);
        assert_eq!(early.since(early.plus(Duration::from_secs(5))), Duration::ZERO);
    }
}
