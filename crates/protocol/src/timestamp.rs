//! The server's time on a message.
//!
//! Milliseconds since 1970 in UTC; written as RFC 3339 where a dialect wants text, and read back by clients. Only the
//! hub sets it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since 1970.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From the system's clock.
    #[must_use]
    pub fn from_system_time(time: std::time::SystemTime) -> Self {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The text that [`Display`](fmt::Display) shows, in ASCII.
    ///
    /// *Cost*: about 10 ns; written by hand because every message carries one.
    #[must_use]
    pub fn to_rfc3339(self) -> [u8; 24] {
        let millis = self.0.clamp(MILLIS_MIN, MILLIS_MAX);
        let (days, millis) = (millis.div_euclid(MILLIS_PER_DAY), millis.rem_euclid(MILLIS_PER_DAY));
        let (year, month, day) = civil_from_days(days);
        let seconds = millis / 1000;
        let mut text = *b"0000-00-00T00:00:00.000Z";
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], seconds / 3600);
        digits(&mut text[14..16], seconds / 60 % 60);
        digits(&mut text[17..19], seconds % 60);
        digits(&mut text[20..23], millis % 1000);
        text
    }
}

const MILLIS_PER_DAY: i64 = 86_400_000;
/// 0000-01-01T00:00:00.000Z
const MILLIS_MIN: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z
const MILLIS_MAX: i64 = 253_402_300_799_999;

/// Year, month and day of the proleptic Gregorian calendar, days since 1970-01-01 given.
///
/// Howard Hinnant's `civil_from_days`: years start in March, so that the leap day is a year's last, and
/// 400 years (146,097 days) are an era.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // since 0000-03-01
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Writes `number` into `text`, with leading zeros.
fn digits(text: &mut [u8], mut number: i64) {
    for digit in text.iter_mut().rev() {
        // A remainder of ten is a digit; the numbers here are not negative.
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// RFC 3339 in UTC with milliseconds: `2025-12-30T10:30:00.000Z`.
///
/// Times outside the years 0000 to 9999, which RFC 3339 cannot write, are shown as the nearest it can.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_rfc3339();
        f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that is no time as [`Display`](fmt::Display) writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time is RFC 3339 in UTC with milliseconds, such as 2025-12-30T10:30:00.000Z")]
pub struct InvalidTimestamp;

/// Reads what [`Display`](fmt::Display) writes, and nothing else of RFC 3339.
impl std::str::FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text: &[u8; 24] = text.as_bytes().try_into().map_err(|_| InvalidTimestamp)?;
        let number = |from: usize, to: usize| {
            text[from..to].iter().try_fold(0, |number, digit| match digit {
                b'0'..=b'9' => Ok(number * 10 + i64::from(digit - b'0')),
                _ => Err(InvalidTimestamp),
            })
        };
        let days = days_from_civil(number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let seconds = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
        let time = Self(days * MILLIS_PER_DAY + seconds * 1000 + number(20, 23)?);
        // Punctuation, and days and hours that do not exist: what is a time is written as it was.
        if &time.to_rfc3339() == text { Ok(time) } else { Err(InvalidTimestamp) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Days since 1970-01-01; the inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let year_of_era = year.rem_euclid(400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    year.div_euclid(400) * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{MILLIS_MAX, MILLIS_MIN, Timestamp};

    fn by_jiff(millis: i64) -> String {
        let time = jiff::Timestamp::from_millisecond(millis).unwrap();
        format!("{time:.3}")
    }

    #[test]
    fn timestamp_is_rfc_3339_in_utc_with_milliseconds() {
        assert_eq!(Timestamp::from_millis(1_767_090_600_000).to_string(), "2025-12-30T10:30:00.000Z");
        assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }

    /// Every day for 3,000 years, so every leap rule; an odd time of the day each.
    #[test]
    fn timestamp_agrees_with_jiff_on_every_day_from_1000_to_4000() {
        let first = -30_610_224_000_000; // 1000-01-01
        for day in 0..3000 * 366 {
            let millis = first + day * 86_400_000 + day * 7919 % 86_400_000;
            assert_eq!(Timestamp::from_millis(millis).to_string(), by_jiff(millis));
        }
    }

    #[test]
    fn timestamp_outside_four_digit_years_is_the_nearest_inside() {
        assert_eq!(Timestamp::from_millis(i64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::from_millis(i64::MIN).to_string(), "0000-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(MILLIS_MIN).to_string(), by_jiff(MILLIS_MIN));
        assert_eq!(Timestamp::from_millis(MILLIS_MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn timestamp_that_is_none_is_refused() {
        for text in ["", "2025-02-29T00:00:00.000Z", "2025-12-30 10:30:00.000Z", "2025-12-30T24:00:00.000Z"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text:?}");
        }
        assert!("2025-12-30T10:30:00Z".parse::<Timestamp>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn timestamp_is_read_as_it_was_written(millis in MILLIS_MIN..=MILLIS_MAX) {
            let time = Timestamp::from_millis(millis);
            proptest::prop_assert_eq!(time.to_string().parse(), Ok(time));
        }

        #[test]
        fn timestamp_agrees_with_jiff(millis in MILLIS_MIN..253_000_000_000_000_i64) {
            proptest::prop_assert_eq!(Timestamp::from_millis(millis).to_string(), by_jiff(millis));
        }
    }
}
