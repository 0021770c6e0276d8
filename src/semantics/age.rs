//! How old a response is (RFC 9111 §4.2.3), in the RFC's words.

use std::time::Duration;

use http::HeaderMap;
use http::header;

use super::cache_control::ListMembers;
use super::time::{DeltaSeconds, Timestamp};

/// `corrected_initial_age`: the age that the response had when it was received.
pub(crate) fn corrected_initial_age(
    headers: &HeaderMap,
    request_time: Timestamp,
    response_time: Timestamp,
) -> Duration {
    let apparent_age = date_value(headers).map_or(Duration::ZERO, |date_value| response_time.since(date_value));
    let response_delay = response_time.since(request_time);
    let corrected_age_value = age_value(headers) + response_delay;
    apparent_age.max(corrected_age_value)
}

/// `current_age`: the age now.
pub(crate) fn current_age(corrected_initial_age: Duration, response_time: Timestamp, now: Timestamp) -> Duration {
    let resident_time = now.since(response_time);
    corrected_initial_age.saturating_add(resident_time)
}

/// §5.1: a list, against the grammar, is read as its first member; a value that is no delta-seconds is ignored.
fn age_value(headers: &HeaderMap) -> Duration {
    headers
        .get(header::AGE)
        .and_then(|value| ListMembers::new(value.as_bytes()).next())
        .and_then(DeltaSeconds::parse)
        .map_or(Duration::ZERO, DeltaSeconds::as_duration)
}

/// The Date field, if there is a valid one.
pub(crate) fn date_value(headers: &HeaderMap) -> Option<Timestamp> {
    Timestamp::from_http_date(headers.get(header::DATE)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000_000_000);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn initial_age(age: Option<&str>, date_before: Option<u64>, delay: u64) -> u64 {
        let mut headers = HeaderMap::new();
        if let Some(age) = age {
            headers.insert("age", HeaderValue::from_str(age).unwrap());
        }
        let response_time = NOW.plus(seconds(delay));
        if let Some(before) = date_before {
            let date = Timestamp::from_millis(response_time.as_millis() - before * 1000);
            headers.insert("date", HeaderValue::from_str(&date.to_http_date()).unwrap());
        }
        corrected_initial_age(&headers, NOW, response_time).as_secs()
    }

    #[test]
    fn the_greater_of_apparent_and_corrected_age_counts() {
        assert_eq!(initial_age(None, None, 0), 0);
        assert_eq!(initial_age(Some("30"), None, 0), 30);
        assert_eq!(initial_age(Some("30"), Some(10), 0), 30);
        assert_eq!(initial_age(Some("30"), Some(100), 0), 100);
        assert_eq!(initial_age(Some("30"), Some(0), 7), 37);
        assert_eq!(initial_age(None, None, 7), 7);
    }

    #[test]
    fn a_senseless_age_is_ignored_and_an_enormous_one_is_not() {
        for senseless in ["-5", "abc", "1.5", "", "7;x=1"] {
            assert_eq!(initial_age(Some(senseless), None, 0), 0, "{senseless}");
        }
        assert_eq!(initial_age(Some("99999999999999999999"), None, 0), 1 << 31);
        assert_eq!(initial_age(Some("7, 0"), None, 0), 7);
    }

    #[test]
    fn residence_adds_to_the_age() {
        assert_eq!(current_age(seconds(5), NOW, NOW.plus(seconds(10))), seconds(15));
        assert_eq!(current_age(seconds(5), NOW.plus(seconds(10)), NOW), seconds(5));
    }
}
