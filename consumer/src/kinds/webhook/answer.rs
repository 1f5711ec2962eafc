//! What an answer means, or that there was none.

use std::{
    error::Error as _,
    time::{Duration, SystemTime},
};

use reqwest::{
    Response, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

/// Bytes read of an answer.
const ANSWER_BYTES: usize = 4_096;

/// Characters of an answer that are kept.
const EXCERPT_CHARS: usize = 200;

/// What an answer says about the events of its POST.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// They are in the target now.
    Accepted,
    /// One of them can never be delivered.
    Refused,
    /// Nothing: the receiver is overloaded, broken, or not what the settings say. With this message.
    Away(String),
}

/// The meaning of a status.
pub(super) fn meaning(status: StatusCode) -> Meaning {
    match status.as_u16() {
        200..=299 => Meaning::Accepted,
        300..=399 => Meaning::Away(format!(
            "answered {status}, a redirect; none is followed: set url to the address that takes the events"
        )),
        408 | 425 | 429 => Meaning::Away(format!("answered {status}")),
        400..=499 => Meaning::Refused,
        _ => Meaning::Away(format!("answered {status}")),
    }
}

/// When the receiver requested to be called again: seconds, or an HTTP date (RFC 9110, 10.2.3). Anything else is ignored.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The beginning of the receiver's own message, on one line. Its status has said what counts: an answer that breaks off
/// is an answer.
pub(super) async fn excerpt(mut response: Response) -> String {
    let mut read = Vec::new();
    while read.len() < ANSWER_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => read.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES - read.len())]),
            Ok(None) | Err(_) => break,
        }
    }
    printable(&String::from_utf8_lossy(&read))
}

fn printable(text: &str) -> String {
    let spaced = text.trim().chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    spaced.filter(|c| !c.is_control()).take(EXCERPT_CHARS).collect()
}

/// Why there was no answer, down to the cause: "error sending request" alone does not help. Without the URL, which may
/// hold secrets.
pub(super) fn unreachable(error: reqwest::Error, timeout: Duration) -> String {
    if error.is_timeout() {
        return format!("no answer within {timeout:?}");
    }
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Wrappers repeat what they wrap.
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn every_status_has_a_meaning() {
        for code in 100..=999 {
            let status = StatusCode::from_u16(code).expect("three digits");
            let expected = match code {
                200..=299 => "accepted",
                408 | 425 | 429 => "away",
                400..=499 => "refused",
                _ => "away",
            };
            let found = match meaning(status) {
                Meaning::Accepted => "accepted",
                Meaning::Refused => "refused",
                Meaning::Away(error) => {
                    assert!(error.contains(status.as_str()), "{error}");
                    "away"
                }
            };
            assert_eq!(found, expected, "{code}");
        }
    }

    #[test]
    fn a_redirect_names_the_mistake() {
        let Meaning::Away(error) = meaning(StatusCode::MOVED_PERMANENTLY) else { panic!("followed") };
        assert!(error.contains("301") && error.contains("set url"), "{error}");
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("Sun Nov  6 08:49:47 1994", Some(10)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn an_answer_becomes_one_short_line() {
        assert_eq!(printable("  no\nsuch\tfield\u{1b}[31m\u{0} \n"), "no such field[31m");
        assert_eq!(printable(&"ü".repeat(300)).chars().count(), EXCERPT_CHARS);
    }
}
