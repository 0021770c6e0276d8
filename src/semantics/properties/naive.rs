//! RFC 9111 §4.2 once more, as it reads, on plain numbers: nothing here is shared with the law itself.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;
use proptest::sample::select;

/// A response as it was received, and how long it has been stored. Instants and spans are in milliseconds, but for what
/// the fields say, which is in seconds.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) status: StatusCode,
    pub(super) request_time: u64,
    delay: u64,
    pub(super) resident: u64,
    s_maxage: Said,
    max_age: Said,
    age: Said,
    date: Said,
    expires: Said,
    last_modified: Said,
    style: usize,
}

#[derive(Clone, Copy, Debug)]
enum Said {
    Nothing,
    Nonsense,
    Number(u64),
}

/// What follows from it, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) lifetime: i128,
    pub(super) initial_age: i128,
    pub(super) age: i128,
    pub(super) fresh: bool,
}

const NOW: u64 = 1_500_000_000;
const NONSENSE: [&str; 4] = ["-1", "1.5", "x", "0x10"];
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn said(numbers: impl Strategy<Value = u64>) -> impl Strategy<Value = Said> {
    prop_oneof![2 => Just(Said::Nothing), 1 => Just(Said::Nonsense), 5 => numbers.prop_map(Said::Number)]
}

pub(super) fn story() -> impl Strategy<Value = Story> {
    let delta = || said(prop_oneof![4 => 0_u64..300, 1 => any::<u64>()]);
    let date = || said(prop_oneof![NOW - 300..NOW + 300, NOW - 900_000_000..NOW + 900_000_000]);
    let times = (NOW * 1000..NOW * 1000 + 2000, 0_u64..20_000, prop_oneof![0_u64..400_000, 0_u64..1 << 42]);
    let fields = (delta(), delta(), delta(), date(), date(), date());
    let edge = proptest::option::of(-1..=1_i128);
    (select(&[200_u16, 203, 301, 404][..]), times, fields, any::<usize>(), edge).prop_map(
        |(
            status,
            (request_time, delay, resident),
            (s_maxage, max_age, age, date, expires, last_modified),
            style,
            edge,
        )| {
            let status = StatusCode::from_u16(status).expect("a status");
            let story = Story {
                status,
                request_time,
                delay,
                resident,
                s_maxage,
                max_age,
                age,
                date,
                expires,
                last_modified,
                style,
            };
            edge.map_or(story.clone(), |beyond| story.at_the_edge(beyond))
        },
    )
}

impl Story {
    /// The same response, so long after it was received that it is about to become stale, or just has.
    fn at_the_edge(mut self, beyond: i128) -> Self {
        self.resident = 0;
        let fresh = self.reading();
        self.resident = u64::try_from(fresh.lifetime - fresh.age + beyond).unwrap_or(0);
        self
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay)
    }

    /// The fields as an origin might write them. With its entity tag the response may be stored however stale it is.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: String| {
            headers.append(name, HeaderValue::from_str(&value).expect("text"));
        };
        add("etag", "\"a\"".to_owned());
        for (name, said) in [("max-age", self.max_age), ("S-MaxAge", self.s_maxage)] {
            self.written(said, delta).into_iter().for_each(|value| add("cache-control", format!("{name}={value}")));
        }
        self.written(self.age, |seconds, _| seconds.to_string()).into_iter().for_each(|value| add("age", value));
        for (name, said) in [("date", self.date), ("expires", self.expires), ("last-modified", self.last_modified)] {
            self.written(said, date).into_iter().for_each(|value| add(name, value));
        }
        headers
    }

    fn written(&self, said: Said, write: impl Fn(u64, usize) -> String) -> Option<String> {
        match said {
            Said::Nothing => None,
            Said::Nonsense => Some(NONSENSE[self.style % NONSENSE.len()].to_owned()),
            Said::Number(seconds) => Some(write(seconds, self.style)),
        }
    }

    pub(super) fn reading(&self) -> Reading {
        let response_time = i128::from(self.request_time) + i128::from(self.delay);
        let lifetime = self.freshness_lifetime(response_time);
        // §4.2.3, line by line.
        let apparent_age = self.date.millis().map_or(0, |date_value| 0.max(response_time - date_value));
        let age_value = self.age.delta().unwrap_or(0);
        let response_delay = response_time - i128::from(self.request_time);
        let corrected_age_value = age_value + response_delay;
        let corrected_initial_age = apparent_age.max(corrected_age_value);
        let resident_time = i128::from(self.resident);
        let current_age = corrected_initial_age + resident_time;
        Reading { lifetime, initial_age: corrected_initial_age, age: current_age, fresh: lifetime > current_age }
    }

    /// §4.2.1: the first that is there, and stale if that is invalid; §4.2.2: else a tenth of the time since
    /// Last-Modified, which is never more than a day here.
    fn freshness_lifetime(&self, response_time: i128) -> i128 {
        let date = self.date.millis().unwrap_or(response_time);
        if !matches!(self.s_maxage, Said::Nothing) {
            self.s_maxage.delta().unwrap_or(0)
        } else if !matches!(self.max_age, Said::Nothing) {
            self.max_age.delta().unwrap_or(0)
        } else if !matches!(self.expires, Said::Nothing) {
            self.expires.millis().map_or(0, |expires| 0.max(expires - date))
        } else {
            let since = self.last_modified.millis().map_or(0, |modified| 0.max(date - modified));
            (since / 10).min(24 * 60 * 60 * 1000)
        }
    }
}

impl Said {
    /// §1.2.2: a number that is too large is 2^31.
    fn delta(self) -> Option<i128> {
        self.millis().map(|millis| millis.min((1 << 31) * 1000))
    }

    fn millis(self) -> Option<i128> {
        match self {
            Self::Number(seconds) => Some(i128::from(seconds) * 1000),
            Self::Nothing | Self::Nonsense => None,
        }
    }
}

fn delta(seconds: u64, style: usize) -> String {
    match style % 3 {
        0 => seconds.to_string(),
        1 => format!("00{seconds}"),
        _ => format!("\"{seconds}\""),
    }
}

fn date(seconds: u64, style: usize) -> String {
    if style.is_multiple_of(2) { imf_fixdate(seconds) } else { asctime(seconds) }
}

/// RFC 9110 §5.6.7.
pub(super) fn imf_fixdate(seconds: u64) -> String {
    let (year, month, day, week_day) = calendar(seconds);
    format!("{week_day}, {day:02} {month} {year:04} {} GMT", time_of_day(seconds))
}

fn asctime(seconds: u64) -> String {
    let (year, month, day, week_day) = calendar(seconds);
    format!("{week_day} {month} {day:2} {} {year:04}", time_of_day(seconds))
}

fn time_of_day(seconds: u64) -> String {
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}")
}

/// Year, month, day of the month and day of the week, counted off one by one from 1 January 1970, a Thursday.
fn calendar(seconds: u64) -> (u64, &'static str, u64, &'static str) {
    let days = seconds / 86_400;
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let (mut year, mut month, mut left) = (1970, 0, days);
    loop {
        let length = match month {
            1 => 28 + u64::from(is_leap(year)),
            3 | 5 | 8 | 10 => 30,
            _ => 31,
        };
        if left < length {
            let week_day = usize::try_from(days % 7).expect("less than seven");
            return (year, MONTHS[month], left + 1, DAYS[week_day]);
        }
        left -= length;
        month += 1;
        if month == MONTHS.len() {
            (year, month) = (year + 1, 0);
        }
    }
}
