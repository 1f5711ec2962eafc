//! Whether an exported file is what its manifest says, and the manifest what was signed: without a server, in bounded memory, whatever
//! the files hold.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use ring::digest::{Context, SHA256};

use super::{
    Format, Manifest, Part, Rows, entries::count, files::signature_of, footer, manifest::FORMAT_VERSION,
    progress::each_block,
};
use crate::signing::{hexadecimal, is_signed};

/// Bytes of a manifest at most: one of a file of four terabytes.
pub(super) const MANIFEST_BYTES_MAX: u64 = 128 << 20;

/// Bytes of a signature.
pub(super) const SIGNATURE_BYTES: u64 = 64;

/// What holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Entries in the file.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its parts.
    pub parts: usize,
    /// The key that signed the manifest.
    pub key: Option<String>,
}

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which kind: `manifest`, `signature`, `file`, `bytes`, `part`, `digest` or `rows`.
    pub term: &'static str,
    /// What, and where.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.term, self.reason)
    }
}

/// Compares a file with its manifest. `file` is the file; without, the one that the manifest names, beside it, or
/// else the one that has the manifest's own name without `.manifest.json`. `key` is the only public key, in
/// hexadecimal, that may have signed the manifest; without, a manifest that is not signed holds too.
///
/// # Errors
/// Everything that does not hold.
pub fn verify(manifest: &Path, file: Option<&Path>, key: Option<&str>) -> Result<Verified, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut fault = |term, reason: String| faults.push(Fault { term, reason });
    let bytes = match read_up_to(manifest, MANIFEST_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) => {
            fault("manifest", format!("cannot read {}: {error}", manifest.display()));
            return Err(faults);
        }
    };
    let claimed: Manifest = match serde_json::from_slice(&bytes) {
        Ok(claimed) => claimed,
        Err(error) => {
            fault("manifest", format!("{} is no manifest of an export: {error}", manifest.display()));
            return Err(faults);
        }
    };
    if claimed.format_version != FORMAT_VERSION {
        let version = claimed.format_version;
        fault("manifest", format!("it is of version {version}, and this command knows {FORMAT_VERSION}"));
        return Err(faults);
    }
    if let Err(reason) = check_signature(manifest, &bytes, claimed.key.as_deref(), key) {
        fault("signature", reason);
    }
    match file.map_or_else(|| named(manifest, claimed.file.as_deref()), |file| Ok(file.to_owned())) {
        Ok(path) => check_file(&path, &claimed, &mut fault),
        Err(reason) => fault("file", reason),
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Verified {
        rows: claimed.rows.total(),
        bytes: claimed.bytes,
        parts: claimed.parts.len(),
        key: claimed.key,
    })
}

/// The file beside the manifest.
fn named(manifest: &Path, name: Option<&str>) -> Result<PathBuf, String> {
    let name = name.ok_or("the manifest names no file, for it went to standard output: say --file")?;
    if Path::new(name).file_name().is_none_or(|last| last != name) {
        return Err(format!("the manifest names {name:?}, which is no file beside it"));
    }
    let file = manifest.with_file_name(name);
    // One that was renamed together with its manifest, as `export jobs fetch` does: its digests say whether it is the one.
    let beside = manifest.to_string_lossy().strip_suffix(".manifest.json").map(PathBuf::from);
    match beside.filter(|beside| !file.exists() && beside.is_file()) {
        Some(beside) => Ok(beside),
        None => Ok(file),
    }
}

fn check_signature(
    manifest: &Path,
    bytes: &[u8],
    claimed: Option<&str>,
    only: Option<&str>,
) -> Result<(), String> {
    let Some(claimed) = claimed else {
        return only.map_or(Ok(()), |_| Err("the manifest is not signed, and a key was given".to_owned()));
    };
    if only.is_some_and(|only| only != claimed) {
        return Err(format!("the manifest names the key {}, not the given one", excerpt(claimed)));
    }
    let path = signature_of(manifest);
    let signature = read_up_to(&path, SIGNATURE_BYTES)
        .map_err(|error| format!("cannot read the signature {}: {error}", path.display()))?;
    if !is_signed(claimed, bytes, &signature) {
        return Err(format!("{} is not a signature over the manifest as it is", path.display()));
    }
    Ok(())
}

/// Opens a file, and nothing that may be waited for or never ends.
fn open(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    File::open(path)
}

fn check_file(path: &Path, claimed: &Manifest, fault: &mut impl FnMut(&'static str, String)) {
    let read = open(path).and_then(|file| {
        let mut reader = Hashing::new(file, &claimed.parts);
        let counted =
            (claimed.format != Format::Parquet).then(|| count(&mut reader, claimed.format, claimed.profile));
        // What could not be read as entries counts for the digests too.
        each_block(&mut reader, |_| {})?;
        let rows = counted.unwrap_or_else(|| footer::rows(&mut reader.file));
        Ok((rows, reader))
    });
    let (rows, reader) = match read {
        Ok(read) => read,
        Err(error) => return fault("file", format!("cannot read {}: {error}", path.display())),
    };
    let bytes = reader.bytes;
    if bytes != claimed.bytes {
        fault("bytes", format!("the file has {bytes} bytes, and the manifest says {}", claimed.bytes));
    }
    let mut end = 0_u64;
    for (n, part) in (1..).zip(&claimed.parts) {
        if part.offset != end {
            fault("part", format!("part {n} does not begin where the one before it ends"));
        }
        end = part.offset.saturating_add(part.bytes);
    }
    if end != claimed.bytes {
        fault("part", format!("the parts end at byte {end}, and the manifest says {} bytes", claimed.bytes));
    }
    for (n, (part, digest)) in (1..).zip(claimed.parts.iter().zip(&reader.digests)) {
        if *digest != part.sha256 {
            let (from, to) = (part.offset, part.offset.saturating_add(part.bytes));
            fault("part", format!("part {n}, bytes {from} to {to}, is not what was exported"));
        }
    }
    if reader.digests.len() < claimed.parts.len() {
        let first = reader.digests.len() + 1;
        fault("part", format!("the file ends before the end of part {first}"));
    }
    if reader.whole() != claimed.sha256 {
        fault("digest", "the file does not have the digest that the manifest says".to_owned());
    }
    let said = claimed.rows.total();
    match rows {
        Ok(rows) if rows != said => {
            fault("rows", format!("the file has {rows} entries, and the manifest says {said}"));
        }
        Ok(_) => {}
        Err(reason) => fault("rows", reason),
    }
    let of_parts = Rows::of(&claimed.parts);
    if of_parts != claimed.rows {
        fault("rows", format!("the parts have {} entries, and the manifest says {said}", of_parts.total()));
    }
}

/// Digests what is read: all of it, and each part.
struct Hashing<'m> {
    file: File,
    parts: &'m [Part],
    whole: Context,
    part: Context,
    /// Of parts that have been read to their end.
    digests: Vec<String>,
    bytes: u64,
}

impl<'m> Hashing<'m> {
    fn new(file: File, parts: &'m [Part]) -> Self {
        let (whole, part) = (Context::new(&SHA256), Context::new(&SHA256));
        let mut hashing = Self { file, parts, whole, part, digests: Vec::new(), bytes: 0 };
        hashing.end_parts();
        hashing
    }

    fn whole(&self) -> String {
        hexadecimal(self.whole.clone().finish().as_ref())
    }

    /// Where the part that is read ends.
    fn end(&self) -> Option<u64> {
        self.parts.get(self.digests.len()).map(|part| part.offset.saturating_add(part.bytes))
    }

    /// Ends every part that ends here.
    fn end_parts(&mut self) {
        while self.end().is_some_and(|end| end <= self.bytes) {
            let digest = std::mem::replace(&mut self.part, Context::new(&SHA256)).finish();
            self.digests.push(hexadecimal(digest.as_ref()));
        }
    }

    fn update(&mut self, mut block: &[u8]) {
        self.whole.update(block);
        while !block.is_empty() {
            let left = self.end().map_or(u64::MAX, |end| end - self.bytes);
            let (now, later) = block.split_at(usize::try_from(left).unwrap_or(usize::MAX).min(block.len()));
            self.part.update(now);
            self.bytes += now.len() as u64;
            self.end_parts();
            block = later;
        }
    }
}

impl Read for Hashing<'_> {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(block)?;
        self.update(&block[..read]);
        Ok(read)
    }
}

/// A whole file that has no more bytes than that.
fn read_up_to(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// The beginning of what somebody wrote.
fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}
