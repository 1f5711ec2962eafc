//! Where something is stored, as a URL without a secret.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::StorageError;

/// Bytes of a location: an object store takes 1,024 of a key.
const BYTES_MAX: usize = 1_024;

/// A folder, `file:///folder`, or a prefix in a bucket, `s3://bucket/prefix`; and what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    scheme: Scheme,
    /// Of S3; empty of a folder.
    bucket: String,
    segments: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    File,
    S3,
}

/// What it leads to.
pub(super) enum Place<'l> {
    File(PathBuf),
    #[cfg_attr(not(feature = "s3"), expect(dead_code, reason = "read with the feature s3"))]
    S3 {
        bucket: &'l str,
        prefix: String,
    },
}

fn invalid(reason: &str) -> StorageError {
    StorageError::refused("location_invalid", format!("{reason}: say file:///folder or s3://bucket/prefix"))
}

impl Location {
    pub(super) fn place(&self) -> Place<'_> {
        match self.scheme {
            Scheme::File => Place::File(PathBuf::from(format!("/{}", self.segments.join("/")))),
            Scheme::S3 => Place::S3 { bucket: &self.bucket, prefix: self.segments.join("/") },
        }
    }

    /// The folder or file of this machine; none of an object store.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        match self.place() {
            Place::File(path) => Some(path),
            Place::S3 { .. } => None,
        }
    }

    /// What has a name below it, `name` or `folder/name`.
    ///
    /// # Errors
    /// `location_invalid` for a name that is none.
    pub fn join(&self, name: &str) -> Result<Self, StorageError> {
        let mut joined = self.clone();
        let below = segments(self.scheme, name)?;
        if below.is_empty() {
            return Err(invalid("what is stored has no name"));
        }
        joined.segments.extend(below);
        joined.check_length()
    }

    /// Whether the other one is this one, or below it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        (self.scheme, &self.bucket) == (other.scheme, &other.bucket)
            && other.segments.starts_with(&self.segments)
    }

    /// What it is below, and its name there; none of a root.
    #[must_use]
    pub fn split(&self) -> Option<(Self, &str)> {
        let (name, above) = self.segments.split_last()?;
        Some((Self { segments: above.to_vec(), bucket: self.bucket.clone(), scheme: self.scheme }, name))
    }

    fn check_length(self) -> Result<Self, StorageError> {
        if self.to_string().len() > BYTES_MAX {
            return Err(invalid(&format!("a location has {BYTES_MAX} bytes at most")));
        }
        Ok(self)
    }
}

/// The parts of a path. Nothing in them has a meaning of its own, in a URL, a folder or a key.
fn segments(scheme: Scheme, path: &str) -> Result<Vec<String>, StorageError> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(Vec::new());
    }
    path.split('/')
        .map(|segment| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.=+@, ".contains(c);
            let is_allowed = |c: char| match scheme {
                Scheme::S3 => is_plain(c) && !matches!(c, '+' | '@' | ',' | ' '),
                Scheme::File => is_plain(c) || (!c.is_ascii() && !c.is_control()),
            };
            if segment.is_empty() || segment == "." || segment == ".." || !segment.chars().all(is_allowed) {
                return Err(invalid("the path of the location has an empty part, . or .., or a character that may mean something else"));
            }
            Ok(segment.to_owned())
        })
        .collect()
}

impl FromStr for Location {
    type Err = StorageError;

    /// No error repeats the text: it may hold a secret.
    fn from_str(text: &str) -> Result<Self, StorageError> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid("the location is no URL"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') || (scheme != "file" && rest.contains('?')) {
            let reason = "a location holds no user, no password and no query: credentials are in the file of export.storage.credentials_file, or in the environment";
            return Err(StorageError::refused("location_credentials", reason));
        }
        let scheme = match scheme {
            "file" if authority.is_empty() => Scheme::File,
            "file" => return Err(invalid("a folder is one of this machine, file:/// with three slashes")),
            "s3" => Scheme::S3,
            _ => return Err(invalid("the location is of no scheme that is known")),
        };
        let is_of_bucket = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if scheme == Scheme::S3
            && !((3..=63).contains(&authority.len()) && authority.chars().all(is_of_bucket))
        {
            return Err(invalid("a bucket has 3 to 63 of a to z, 0 to 9, - and ."));
        }
        Self { scheme, bucket: authority.to_owned(), segments: segments(scheme, path)? }.check_length()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::File => "file",
            Scheme::S3 => "s3",
        };
        write!(f, "{scheme}://{}/{}", self.bucket, self.segments.join("/"))
    }
}

impl Serialize for Location {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_written_as_it_is_read() {
        for text in [
            "file:///",
            "file:///srv/exports",
            "file:///srv/über uns",
            "s3://bucket/",
            "s3://my.bucket-1/a/b=1",
        ] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        assert_eq!("file:///srv/".parse::<Location>().unwrap().to_string(), "file:///srv");
    }

    #[test]
    fn what_may_lead_elsewhere_or_hold_a_secret_is_refused_and_not_repeated() {
        for (text, term) in [
            ("srv", "location_invalid"),
            ("/srv", "location_invalid"),
            ("file://host/srv", "location_invalid"),
            ("file:///srv/../etc", "location_invalid"),
            ("file:///srv/./a", "location_invalid"),
            ("file:///srv//a", "location_invalid"),
            ("file:///srv/%2e%2e/a", "location_invalid"),
            ("file:///srv/a?b", "location_invalid"),
            ("file:///srv/a\nb", "location_invalid"),
            ("ftp://bucket/a", "location_invalid"),
            ("s3://Bucket/a", "location_invalid"),
            ("s3://bu/a", "location_invalid"),
            ("s3://bucket/a b", "location_invalid"),
            ("s3://AKIAEXAMPLE:hunter2@bucket/a", "location_credentials"),
            ("file://user:hunter2@host/a", "location_credentials"),
            ("s3://bucket/a?secret=hunter2", "location_credentials"),
            ("https://hunter2/a", "location_invalid"),
        ] {
            let error = text.parse::<Location>().unwrap_err();
            assert_eq!(error.term(), term, "{text}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_location_contains_what_is_below_it_and_nothing_beside_it() {
        let of = |text: &str| text.parse::<Location>().unwrap();
        assert!(of("file:///srv/a").contains(&of("file:///srv/a")));
        assert!(of("file:///srv/a").contains(&of("file:///srv/a/b")));
        assert!(!of("file:///srv/a").contains(&of("file:///srv/ab")));
        assert!(!of("file:///srv/a").contains(&of("file:///srv")));
        assert!(!of("s3://bucket/a").contains(&of("s3://other/a")));
        let below = of("s3://bucket/a").join("b/c").unwrap();
        assert_eq!(below.split(), Some((of("s3://bucket/a/b"), "c")));
        assert!(of("s3://bucket/a").join("../c").is_err());
    }
}
