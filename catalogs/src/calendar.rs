//! Times as systemd writes them: systemd.time(7). What passes here is well formed; systemd on the node has the last word.

/// Words that stand for an expression.
const SHORTHANDS: [&str; 9] =
    ["minutely", "hourly", "daily", "monthly", "weekly", "yearly", "annually", "quarterly", "semiannually"];

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Whether it is a calendar expression as in `Mon..Fri 06:30`.
pub(crate) fn is_calendar(text: &str) -> bool {
    let mut parts: Vec<&str> = text.split_whitespace().collect();
    if parts.len() > 1 && parts.last().is_some_and(|last| is_zone(last)) {
        parts.pop();
    }
    match parts.as_slice() {
        [word] if SHORTHANDS.contains(&word.to_ascii_lowercase().as_str()) => return true,
        [epoch] if epoch.starts_with('@') => return epoch[1..].parse::<u64>().is_ok(),
        _parts => {}
    }
    if parts.first().is_some_and(|first| is_weekdays(first)) {
        parts.remove(0);
        if parts.is_empty() {
            return true;
        }
    }
    match parts.as_slice() {
        [one] if one.contains(':') => is_time(one),
        [one] => is_date(one),
        [date, time] => is_date(date) && is_time(time),
        _parts => false,
    }
}

/// A time zone: `UTC`, `Europe/Berlin`.
fn is_zone(text: &str) -> bool {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "_+-/".contains(c));
    let word = text.to_ascii_lowercase();
    plain
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !is_weekdays(text)
        && !SHORTHANDS.contains(&word.as_str())
}

fn is_weekdays(text: &str) -> bool {
    let is_day = |day: &str| {
        let day = day.to_ascii_lowercase();
        DAYS.iter().any(|name| *name == day || name[..3] == day)
    };
    let text = text.strip_suffix(',').unwrap_or(text);
    text.split(',').all(|range| {
        let (from, to) = range.split_once("..").unwrap_or((range, range));
        is_day(from) && is_day(to)
    })
}

/// `*-*-*`, `2026-01-01`, `*-02~1`.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split(['-', '~']).collect();
    match parts.as_slice() {
        [year, month, day] => is_field(year, 1970, 2199) && is_field(month, 1, 12) && is_field(day, 1, 31),
        [month, day] => is_field(month, 1, 12) && is_field(day, 1, 31),
        _parts => false,
    }
}

/// `06:30`, `*:0/15`, `12:00:00.5`.
fn is_time(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [hour, minute] => is_field(hour, 0, 23) && is_field(minute, 0, 59),
        [hour, minute, second] => is_field(hour, 0, 23) && is_field(minute, 0, 59) && is_second(second),
        _parts => false,
    }
}

fn is_second(text: &str) -> bool {
    match text.split_once('.') {
        // Not the two dots of a range.
        Some((whole, part)) if !part.starts_with('.') => is_field(whole, 0, 59) && part.parse::<u32>().is_ok(),
        Some(_) | None => is_field(text, 0, 59),
    }
}

/// Values from a list, each `*`, a number or a range, perhaps with a step.
fn is_field(text: &str, least: u32, most: u32) -> bool {
    let number = |text: &str| text.parse::<u32>().is_ok_and(|number| (least..=most).contains(&number));
    text.split(',').all(|part| {
        let (base, step) = part.split_once('/').map_or((part, None), |(base, step)| (base, Some(step)));
        let base = match base.split_once("..") {
            Some((from, to)) => number(from) && number(to),
            None => base == "*" || number(base),
        };
        base && step.is_none_or(|step| step.parse::<u32>().is_ok_and(|step| step > 0))
    })
}

const UNITS: [&str; 29] = [
    "usec", "us", "µs", "msec", "ms", "seconds", "second", "sec", "s", "minutes", "minute", "min", "m", "hours",
    "hour", "hr", "h", "days", "day", "d", "weeks", "week", "w", "months", "month", "M", "years", "year", "y",
];

/// Whether it is a time span as in `15min` or `1h 30min`, longer than nothing. A number alone is seconds.
pub(crate) fn is_span(text: &str) -> bool {
    let (mut rest, mut some) = (text.trim(), false);
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let Ok(number) = rest[..digits].parse::<u64>() else { return false };
        some |= number > 0;
        rest = rest[digits..].trim_start();
        let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        if end == 0 && rest.is_empty() {
            break;
        }
        if !UNITS.contains(&&rest[..end]) {
            return false;
        }
        rest = rest[end..].trim_start();
    }
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_takes_passes() {
        for good in [
            "daily",
            "Weekly",
            "06:30",
            "*:0/15",
            "*-*-* 02:00:00",
            "Mon..Fri 06:30",
            "Mon,Wed 2026-*-01..07 12:00 Europe/Berlin",
            "Sat",
            "*-*-01 04:00 UTC",
            "01-01",
            "*-02~1",
            "hourly UTC",
            "@1700000000",
            "00/6:00:00.5",
        ] {
            assert!(is_calendar(good), "{good}");
        }
    }

    #[test]
    fn what_it_does_not_take_is_refused() {
        for bad in [
            "",
            "dayly",
            "25:00",
            "*:14,78",
            "* * * * *",
            "0 3 * * *",
            "*-13-01",
            "Mon..Foo",
            "06.30",
            "@later",
            "12:00 12:00",
            "*:0/0",
        ] {
            assert!(!is_calendar(bad), "{bad}");
        }
    }

    #[test]
    fn spans_have_units_that_systemd_knows() {
        for good in ["15min", "1h 30min", "1h30m", "90", "2 days", "500ms"] {
            assert!(is_span(good), "{good}");
        }
        for bad in ["", "0", "0s", "15 minuets", "min", "-5s", "1.5h", "15min!", "infinity", "5 5x"] {
            assert!(!is_span(bad), "{bad}");
        }
    }
}
