//! The key to an object store: from a file in the format of AWS's shared credentials, or from the environment.
//!
//! The format: <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>.

use std::{fs, path::Path};

use super::StorageError;

/// Bytes of a file of credentials.
const BYTES_MAX: u64 = 64 << 10;

/// It has no form for people: nothing prints it.
#[derive(Default)]
pub(super) struct Credentials {
    pub(super) key: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

impl Credentials {
    /// Whether headers of HTTP can hold them.
    fn can_be_sent(&self) -> bool {
        let is_sent = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
        is_sent(&self.key)
            && self.token.as_deref().is_none_or(is_sent)
            && !self.secret.chars().any(char::is_control)
    }
}

pub(super) fn read(file: Option<&Path>) -> Result<Credentials, StorageError> {
    match file {
        Some(path) => of_file(path),
        None => of_environment(),
    }
}

fn of_environment() -> Result<Credentials, StorageError> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let (Some(key), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        let credentials = Credentials { key, secret, token: variable("AWS_SESSION_TOKEN") };
        if credentials.can_be_sent() {
            return Ok(credentials);
        }
        let reason = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_SESSION_TOKEN has a blank or a control character, which no key has: set them again";
        return Err(StorageError::refused("credentials_missing", reason));
    }
    let reason = "there is no key to the object store: set export.storage.credentials_file, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
    Err(StorageError::refused("credentials_missing", reason))
}

fn of_file(path: &Path) -> Result<Credentials, StorageError> {
    let length = fs::metadata(path).map_err(StorageError::file("read", path))?.len();
    if length > BYTES_MAX {
        return Err(refused(path, "is too long for one"));
    }
    let text = fs::read_to_string(path).map_err(StorageError::file("read", path))?;
    let credentials = parse(&text).ok_or_else(|| {
        refused(path, "has no section [default] with aws_access_key_id and aws_secret_access_key")
    })?;
    if !credentials.can_be_sent() {
        return Err(refused(path, "has a key with a blank or a control character, which no key has"));
    }
    Ok(credentials)
}

/// Nothing of the file is repeated.
fn refused(path: &Path, why: &str) -> StorageError {
    StorageError::refused("credentials_file", format!("the file of credentials {} {why}", path.display()))
}

fn parse(text: &str) -> Option<Credentials> {
    let mut credentials = Credentials::default();
    let mut is_default = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            is_default = section.trim_end_matches(']').trim() == "default";
        } else if let Some((name, value)) =
            line.split_once('=').filter(|_| is_default && !line.starts_with(['#', ';']))
        {
            let value = value.trim().to_owned();
            match name.trim() {
                "aws_access_key_id" => credentials.key = value,
                "aws_secret_access_key" => credentials.secret = value,
                "aws_session_token" => credentials.token = Some(value),
                _ => {}
            }
        }
    }
    (!credentials.key.is_empty() && !credentials.secret.is_empty()).then_some(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_default_of_a_file_of_credentials_counts() {
        let text = "[other]\naws_access_key_id = no\n# aws\n[default]\n; aws_access_key_id = no\naws_access_key_id=k\n aws_secret_access_key = s=1\nregion = x\n[third]\naws_session_token = no";
        let Some(read) = parse(text) else { panic!("it holds a key") };
        assert_eq!((read.key.as_str(), read.secret.as_str(), read.token), ("k", "s=1", None));
        assert!(parse("[default]\naws_access_key_id = k").is_none());
        assert!(parse("aws_access_key_id = k\naws_secret_access_key = s").is_none());
    }
}
