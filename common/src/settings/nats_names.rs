//! Names of streams and subjects, by the rules of nats-server. The client checks less, and only when it publishes; the server's own
//! refusal comes when a service starts.

/// nats-server's limit on the names of streams and consumers, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// A line of the protocol has 4,096 bytes, which the subject shares with a reply subject and the client's own keywords.
const SUBJECT_BYTES_MAX: usize = 1_000;

/// Where the server itself publishes: a stream may not be on it.
const RESERVED: [&str; 4] = ["$JS", "$JSC", "$NRG", "$SYS"];

/// Checks the name of a stream, or of a JetStream domain.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn asset(name: &str) -> Result<(), String> {
    length(name, NAME_BYTES_MAX)?;
    characters(name, &['.', '*', '>', '/', '\\'])
}

/// Checks a subject that messages are published to: it has no wildcards.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn subject(subject: &str) -> Result<(), String> {
    length(subject, SUBJECT_BYTES_MAX)?;
    characters(subject, &['*', '>'])?;
    if subject.split('.').any(str::is_empty) {
        return Err(format!(
            "{subject:?} has an empty part: no dot may begin or end it, or follow another one"
        ));
    }
    Ok(())
}

/// The same for the subject of a stream.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn stream_subject(text: &str) -> Result<(), String> {
    subject(text)?;
    let first = text.split('.').next().unwrap_or_default();
    if RESERVED.contains(&first) {
        return Err(format!("{text:?} begins with {first}, which belongs to the server"));
    }
    Ok(())
}

fn length(text: &str, most: usize) -> Result<(), String> {
    match text.len() {
        0 => Err("is empty".to_owned()),
        bytes if bytes > most => Err(format!("has {bytes} bytes, at most {most} are allowed")),
        _ => Ok(()),
    }
}

fn characters(text: &str, forbidden: &[char]) -> Result<(), String> {
    let wrong = |c: char| c.is_whitespace() || c.is_control() || c == '\u{fffd}' || forbidden.contains(&c);
    match text.chars().find(|c| wrong(*c)) {
        Some(c) if c.is_whitespace() => Err(format!("{text:?} holds white space")),
        Some(c) => Err(format!("{text:?} holds {c:?}, which is not allowed")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&str) -> Result<(), String>;

    #[test]
    fn names_and_subjects_are_those_that_the_server_accepts() {
        let (long, longest) = ("s".repeat(256), "s".repeat(255));
        let table: [(Rule, &[&str], &[&str]); 3] = [
            (
                asset,
                &["SIGRA_AUDIT", "a", "stream-1", "Überwachung", &longest],
                &["", "a.b", "a*", ">", "a b", "a\tb", "a\nb", "a/b", "a\\b", "a\0b", "a\u{c}", &long],
            ),
            (
                subject,
                &["sigra.audit.events", "a", "$JS.hub.API", "a-b.c_d", "prüfung.ereignis"],
                &[
                    "",
                    ".",
                    "a.",
                    ".a",
                    "a..b",
                    "a.*",
                    "a.>",
                    "a.b*c",
                    "a b",
                    "a.\r",
                    "a.\u{a0}b",
                    &"a".repeat(1_001),
                ],
            ),
            (
                stream_subject,
                &["$KV.a", "a.$SYS", "JS.API"],
                &["$JS.API.x", "$SYS", "$JSC.a", "$NRG.b", "a..b"],
            ),
        ];
        for (rule, sound, wrong) in table {
            for name in sound {
                assert_eq!(rule(name), Ok(()), "{name:?}");
            }
            for name in wrong {
                assert!(rule(name).is_err(), "{name:?}");
            }
        }
    }
}
