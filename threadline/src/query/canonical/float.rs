//! Numbers as the Elixir library writes them: those of 64-bit floats, in the shortest form that reads back as the same float.
//!
//! The rule is the one that Erlang documents for the option `short` of `float_to_list`: decimal or scientific, whichever has fewer
//! characters, decimal where both have as many; from 2^53 on always scientific.

/// Appends a number that PostgreSQL printed with a fraction. What no float can hold keeps its digits.
pub(super) fn write(number: &str, out: &mut String) {
    let value: f64 = number.parse().unwrap_or(f64::INFINITY);
    if !value.is_finite() {
        return out.push_str(number);
    }
    if value.is_sign_negative() {
        out.push('-');
    }
    let shortest = format!("{:e}", value.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let decimal = decimal(&digits, exponent);
    let (first, others) = digits.split_at(1);
    let scientific = format!("{first}.{}e{exponent}", if others.is_empty() { "0" } else { others });
    let is_decimal = value.abs() < 9_007_199_254_740_992.0 && decimal.len() <= scientific.len();
    out.push_str(if is_decimal { &decimal } else { &scientific });
}

/// Digits of which the first counts ten to the power of the exponent. It is called for floats: they have few.
fn decimal(digits: &str, exponent: i32) -> String {
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or_default());
    let length = i32::try_from(digits.len()).unwrap_or_default();
    if exponent < 0 {
        format!("0.{}{digits}", zeros(-exponent - 1))
    } else if exponent + 1 >= length {
        format!("{digits}{}.0", zeros(exponent + 1 - length))
    } else {
        let (whole, fraction) = digits.split_at(usize::try_from(exponent + 1).unwrap_or_default());
        format!("{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(number: &str) -> String {
        let mut out = String::new();
        write(number, &mut out);
        out
    }

    #[test]
    fn the_shorter_form_is_written_and_the_decimal_one_where_both_are_as_long() {
        for (given, expected) in [
            ("0.0", "0.0"),
            ("0.00", "0.0"),
            ("1.50", "1.5"),
            ("-19.90", "-19.9"),
            ("100.0", "100.0"),
            ("1000.0", "1.0e3"),
            ("1234.0", "1234.0"),
            ("12340.0", "12340.0"),
            ("0.001", "0.001"),
            ("0.0001", "0.0001"),
            ("0.00001", "1.0e-5"),
            ("0.00012", "1.2e-4"),
            ("9007199254740991.0", "9007199254740991.0"),
            ("9007199254740992.0", "9.007199254740992e15"),
            ("12345678901234567890.123456789", "1.2345678901234567e19"),
        ] {
            assert_eq!(written(given), expected, "{given}");
        }
        let beyond = format!("1{}.5", "0".repeat(400));
        assert_eq!(written(&beyond), beyond);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_as_the_same_float(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
            let given = format!("{value:?}");
            if given.contains('.') {
                prop_assert_eq!(written(&given).parse::<f64>().ok().map(f64::to_bits), Some(value.to_bits()));
            }
        }
    }
}
