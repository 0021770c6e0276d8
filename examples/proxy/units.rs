//! Durations and sizes as people write them on a command line: `100ms`, `5s`, `2m`, `64k`, `8MiB`.

use std::time::Duration;

/// Parses a duration; a plain number means seconds.
///
/// # Errors
///
/// A sentence that says which spellings are understood.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unreadable = || "expected a duration such as 100ms, 5s, 2m or 1h".to_owned();
    let (number, unit) = split(text).ok_or_else(unreadable)?;
    let millis = match unit.as_str() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(unreadable()),
    };
    let millis = number.checked_mul(millis).ok_or("the duration is too long")?;
    Ok(Duration::from_millis(millis))
}

/// Parses a duration that is used as a deadline, where zero would refuse everything.
///
/// # Errors
///
/// As [`duration`], and for zero and for more than a year.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() {
        return Err("a timeout must be longer than zero".to_owned());
    }
    if duration > Duration::from_secs(366 * 86_400) {
        return Err("a timeout may be a year at most".to_owned());
    }
    Ok(duration)
}

/// Parses a number of bytes; `k`, `M` and `G` are powers of 1024, with or without `B` or `iB`.
///
/// # Errors
///
/// A sentence that says which spellings are understood.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let unreadable = || "expected a size such as 65536, 64k, 8MiB or 1G".to_owned();
    let (number, unit) = split(text).ok_or_else(unreadable)?;
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(unreadable()),
    };
    number.checked_mul(1 << shift).ok_or_else(|| "the size is too large".to_owned())
}

/// `size` as a person reads it, in the largest unit that divides it.
pub(crate) fn size_text(size: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| size > 0 && size.is_multiple_of(1 << shift)) {
        Some((shift, unit)) => format!("{} {unit}", size >> shift),
        None => format!("{size} bytes"),
    }
}

/// Splits `8MiB` into its number and its unit in lower case.
fn split(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim().to_ascii_lowercase()))
}
