//! Where what is deleted is handed over to before, as settings or a program say it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{capture::Refusal, retention::policy::refuse_unknown, signing::SigningKey};

/// Rows of one archive, unless said otherwise.
pub const ARCHIVE_ROWS: u32 = 1_000_000;

/// Hands over what a purge deletes before it deletes it: as NDJSON of the profile `full`, in a folder for each run, each file with a manifest.
///
/// ```
/// use threadline::retention::{Archive, PurgeOptions};
///
/// let mut options = PurgeOptions::default();
/// options.archive = Some(Archive::new("/var/lib/audit/archive").key("/etc/audit/archive.pem"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Archive {
    /// An absolute path to a folder that is there. Each run makes a folder in it.
    pub directory: PathBuf,
    /// A PKCS#8 file with the Ed25519 key that signs manifests.
    pub key: Option<PathBuf>,
    /// Rows of a file, about: what is archived and not deleted yet is never more. At least 1.
    pub rows: u32,
}

const SECTION: &str = "[retention.archive]";

impl Archive {
    /// In this folder, not signed.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), key: None, rows: ARCHIVE_ROWS }
    }

    /// Signs manifests with the key of this file.
    #[must_use]
    pub fn key(self, path: impl Into<PathBuf>) -> Self {
        Self { key: Some(path.into()), ..self }
    }

    /// Writes files of so many rows.
    #[must_use]
    pub fn rows(self, rows: u32) -> Self {
        Self { rows, ..self }
    }

    /// Of the section `[retention]`; none where it has no section `archive`.
    ///
    /// # Errors
    /// `option_invalid`, `option_unknown`, `archive_format`, `archive_directory`: what cannot be used.
    pub fn read(retention: &Map<String, Value>) -> Result<Option<Self>, Refusal> {
        let Some(section) = retention.get("archive") else { return Ok(None) };
        let section = section.as_object().ok_or_else(|| {
            Refusal::new("option_invalid", format!("{SECTION} is no table of settings"))
                .hint("directory = \"/var/lib/audit/archive\"")
        })?;
        refuse_unknown(SECTION, section, &["directory", "format", "key"])?;
        let text = |name: &str| match section.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(Refusal::new("option_invalid", format!("{name} of {SECTION} is no text"))),
        };
        if let Some(format) = text("format")?.filter(|format| *format != "ndjson") {
            let reason =
                format!("{SECTION} has the format {format:?}, which does not hold everything of an entry");
            return Err(Refusal::new("archive_format", reason).hint("format = \"ndjson\""));
        }
        let directory = text("directory")?.ok_or_else(|| {
            Refusal::new("archive_directory", format!("{SECTION} does not say where to archive"))
                .hint("directory = \"/var/lib/audit/archive\"")
        })?;
        let archive = Self { key: text("key")?.map(PathBuf::from), ..Self::new(directory) };
        archive.check_place()?;
        Ok(Some(archive))
    }

    fn check_place(&self) -> Result<(), Refusal> {
        if self.directory.is_absolute() {
            return Ok(());
        }
        let reason = format!("the directory {} of {SECTION} is not absolute", self.directory.display());
        Err(Refusal::new("archive_directory", reason).hint("begin it with /"))
    }

    /// What can be known before a run begins.
    pub(in crate::retention) fn check(&self) -> Result<(), Refusal> {
        if self.rows == 0 {
            return Err(Refusal::new("option_invalid", "an archive has at least one row"));
        }
        self.check_place()?;
        self.signing_key().map(drop)
    }

    pub(super) fn signing_key(&self) -> Result<Option<SigningKey>, Refusal> {
        let read = |path: &PathBuf| SigningKey::read(path);
        self.key
            .as_ref()
            .map(read)
            .transpose()
            .map_err(|error| Refusal::new("archive_key", error.to_string()))
    }

    /// Whether the folder is there.
    pub(in crate::retention) fn check_directory(&self) -> Result<(), Refusal> {
        let directory = self.directory.display();
        let why = match self.directory.metadata() {
            Ok(metadata) if metadata.is_dir() => return Ok(()),
            Ok(_) => "it is no folder".to_owned(),
            Err(error) => error.to_string(),
        };
        let reason = format!("nothing can be archived in {directory}: {why}");
        Err(Refusal::new("archive_failed", reason)
            .hint(format!("make the folder {directory}; nothing is deleted until then")))
    }
}

/// A path as a URL, with whatever is no plain character as its bytes.
pub(in crate::retention) fn url_of(path: &Path) -> String {
    use std::{fmt::Write as _, os::unix::ffi::OsStrExt as _};
    let mut url = "file://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            url.push(char::from(*byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

/// The path of such a URL; none of another one.
pub(in crate::retention) fn path_of(url: &str) -> Option<PathBuf> {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};
    let mut rest = url.strip_prefix("file://")?.as_bytes();
    let mut path = Vec::with_capacity(rest.len());
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            path.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| str::from_utf8(digits).ok())?;
        path.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    path.starts_with(b"/").then(|| OsString::from_vec(path).into())
}

/// The folder of folders of runs that an archive is in.
pub(crate) fn directory_of(location: &str) -> Option<PathBuf> {
    path_of(location)?.ancestors().nth(2).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(section: &Value) -> Result<Option<Archive>, &'static str> {
        Archive::read(json!({ "archive": section }).as_object().expect("an object"))
            .map_err(|refusal| refusal.term)
    }

    #[test]
    fn what_would_not_hold_everything_is_refused() {
        let archive = Archive::new("/a b").key("/k.pem");
        assert_eq!(
            read(&json!({"directory": "/a b", "format": "ndjson", "key": "/k.pem"})),
            Ok(Some(archive))
        );
        assert_eq!(Archive::read(&Map::new()).map_err(|refusal| refusal.term), Ok(None));
        for (section, term) in [
            (json!({"directory": "/a", "format": "csv"}), "archive_format"),
            (json!({"directory": "/a", "format": "json"}), "archive_format"),
            (json!({"directory": "a"}), "archive_directory"),
            (json!({}), "archive_directory"),
            (json!({"directory": 1}), "option_invalid"),
            (json!({"directory": "/a", "profile": "full"}), "option_unknown"),
            (json!("/a"), "option_invalid"),
        ] {
            assert_eq!(read(&section), Err(term), "{section}");
        }
    }

    #[test]
    fn a_location_leads_back_to_its_path() {
        for path in ["/", "/var/lib/a", "/a b/100%/ä.ndjson"] {
            assert_eq!(path_of(&url_of(Path::new(path))), Some(path.into()));
        }
        assert_eq!(directory_of("file:///a%20b/run/1.ndjson"), Some("/a b".into()));
        assert_eq!(url_of(Path::new("/a b/%")), "file:///a%20b/%25");
        for url in ["", "/a", "https://a/b", "file://host", "file:///a%2", "file:///a%zz"] {
            assert_eq!(path_of(url), None, "{url}");
        }
    }
}
