//! Numbers as a person reads them. What is not there is `-`; what is no number is not there.

/// What stands for a number that is not there.
pub(crate) const NONE: &str = "-";

/// Rows a second and the like: `12,345`, and one digit after the point below a hundred.
pub(crate) fn rate(value: Option<f64>) -> String {
    show(value, |value| match value {
        0.0 => "0".to_owned(),
        value if value < 99.95 => format!("{value:.1}"),
        value => grouped(&format!("{value:.0}")),
    })
}

/// A count: `12,345`.
pub(crate) fn count(value: Option<u64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| grouped(&value.to_string()))
}

/// A quotient: `0.87`, and `32.1` from ten on.
pub(crate) fn ratio(value: Option<f64>) -> String {
    show(value, |value| if value < 9.995 { format!("{value:.2}") } else { format!("{value:.1}") })
}

/// `4.1 ms`, with three significant digits at most and no unit larger than a second.
pub(crate) fn millis(value: Option<f64>) -> String {
    show(value, |value| match value {
        value if value < 0.995 => format!("{value:.2} ms"),
        value if value < 99.95 => format!("{value:.1} ms"),
        value if value < 9_999.5 => format!("{} ms", grouped(&format!("{value:.0}"))),
        value => format!("{} s", rate(Some(value / 1_000.0))),
    })
}

/// `4 %`.
pub(crate) fn percent(value: Option<f64>) -> String {
    show(value, |value| format!("{:.0} %", value * 100.0))
}

/// Seconds of processor time, without the unit: `0.42`, and `12.3` from ten on.
pub(crate) fn seconds(value: Option<f64>) -> String {
    ratio(value)
}

/// MiB, without the unit: `31`, and one digit after the point below ten.
pub(crate) fn mib(value: Option<f64>) -> String {
    show(value, |value| if value < 9.95 { format!("{value:.1}") } else { grouped(&format!("{value:.0}")) })
}

/// With its unit, if there is a number.
pub(crate) fn with(unit: &str, number: String) -> String {
    if number == NONE { number } else { format!("{number} {unit}") }
}

/// `5 times`, `1 time`.
pub(crate) fn times(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

fn show(value: Option<f64>, form: impl FnOnce(f64) -> String) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| NONE.to_owned(), form)
}

/// Commas between thousands.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{count, mib, millis, rate, ratio, times};

    #[test]
    fn a_rate_has_as_many_digits_as_are_of_use() {
        let cases = [(0.0, "0"), (7.31, "7.3"), (99.96, "100"), (999.6, "1,000"), (12_345.4, "12,345")];
        for (value, expected) in cases {
            assert_eq!(rate(Some(value)), expected);
        }
        assert_eq!(rate(Some(1_234_567.0)), "1,234,567");
    }

    #[test]
    fn a_latency_has_a_unit() {
        let cases = [
            (0.417, "0.42 ms"),
            (4.14, "4.1 ms"),
            (99.96, "100 ms"),
            (1_234.0, "1,234 ms"),
            (61e3, "61.0 s"),
        ];
        for (value, expected) in cases {
            assert_eq!(millis(Some(value)), expected);
        }
    }

    #[test]
    fn what_is_no_number_is_not_there() {
        for value in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            for text in [rate(value), ratio(value), millis(value), mib(value)] {
                assert_eq!(text, "-");
            }
        }
        assert_eq!(count(None), "-");
    }

    #[test]
    fn a_noun_follows_its_number() {
        assert_eq!([times(1, "sample"), times(3, "sample")], ["1 sample", "3 samples"]);
    }
}
