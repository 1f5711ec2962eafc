//! What a command says to the person or program that called it. Logs are something else.

use std::{
    error::Error,
    fmt::Write as _,
    io::{Write as _, stderr, stdout},
};

/// Writes a command's answer to standard output. A reader that has gone away (`| head`) is no error.
pub fn answer(text: &str) {
    let _ = stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush());
}

/// Writes an error with its causes to standard error.
pub fn report(error: &(dyn Error + 'static)) {
    let _ = stderr().write_all(explain(error).as_bytes());
}

fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text = format!("error: {error}\n");
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let mut said = error.to_string();
    for cause in causes {
        let cause = cause.to_string();
        // Libraries often repeat their cause in their own message.
        if !said.contains(&cause) {
            let _ = writeln!(text, "  because: {cause}");
        }
        said = cause;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_listed_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the log: {0}")]
        struct Outer(#[source] Middle);
        #[derive(Debug, thiserror::Error)]
        #[error("the server is away")]
        struct Middle(#[source] std::io::Error);
        let error = Outer(Middle(std::io::Error::other("connection refused")));
        assert_eq!(
            explain(&error),
            "error: cannot read the log: the server is away\n  because: connection refused\n"
        );
    }
}
