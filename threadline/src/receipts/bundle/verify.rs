//! Verification of a bundle: without a server, line by line. Whatever it holds, the answer is faults.

use std::io::{self, BufRead};

use super::{
    super::{
        chain::{Chain, Trust},
        content::Content,
        fault::{Fault, FaultKind, RowName},
        leaf::Leaf,
        receipt::Receipt,
        row::Row,
        verification::Verification,
    },
    format::{Columns, End, Header, LINE_MAX, Line, RowLine, VERSION, hash},
    lines::{Input, LineEnd},
};

/// What the first line of every bundle begins with.
const BEGINNING: &[u8] = b"{\"bundle\":";

/// Lines between two words to `progress`.
const PROGRESS: u64 = 4_096;

/// Computes everything again that a bundle says of itself: leaves from columns, digests from leaves, hashes, the chain, signatures. `progress` is
/// told how many lines have been read so far.
///
/// # Errors
/// What the operating system says. What does not verify is no error.
pub fn verify_bundle(
    reader: impl BufRead,
    trust: &Trust,
    mut progress: impl FnMut(u64),
) -> io::Result<Verification> {
    let mut input = Input::new(reader);
    let mut reading = Reading::new(trust);
    let mut bytes = Vec::new();
    loop {
        match input.next(&mut bytes)? {
            LineEnd::Whole => {}
            LineEnd::None => break,
            LineEnd::TooLong => {
                let why = format!("it is longer than {} MiB, and what follows was not read", LINE_MAX >> 20);
                reading.fault_of(input.number, &bytes, FaultKind::LineMalformed, why);
                break;
            }
            LineEnd::Cut => {
                reading.fault_of(
                    input.number,
                    &bytes,
                    FaultKind::BundleCut,
                    "the line has no end".to_owned(),
                );
                break;
            }
        }
        let number = input.number;
        if reading.has_ended {
            reading.fault(number, FaultKind::BundleCut, "lines follow the last one".to_owned());
            break;
        }
        match serde_json::from_slice::<Line<'_>>(&bytes) {
            Ok(Line::End(end)) => reading.end(number, &end, &input.digest()),
            Ok(line) => reading.take(number, line),
            Err(error) => reading.fault_of(number, &bytes, FaultKind::LineMalformed, error.to_string()),
        }
        // Everything else would be a fault, one after the other.
        if reading.header.is_none() {
            break;
        }
        input.add(&bytes);
        if number.is_multiple_of(PROGRESS) {
            progress(number);
        }
    }
    Ok(reading.finish(input.number))
}

/// A bundle as far as it was read.
struct Reading<'t> {
    header: Option<Header>,
    chain: Chain<'t>,
    /// The receipt whose leaves are read.
    open: Option<(Receipt, Content)>,
    rows: u64,
    has_ended: bool,
    found: Verification,
}

impl<'t> Reading<'t> {
    fn new(trust: &'t Trust) -> Self {
        Self {
            header: None,
            chain: Chain::new(trust),
            open: None,
            rows: 0,
            has_ended: false,
            found: Verification::begin(trust),
        }
    }

    fn fault(&mut self, line: u64, kind: FaultKind, why: String) {
        self.found.faults.push(Fault::new(kind).saying(why).in_line(line));
    }

    /// What is wrong with these bytes. What does not begin as a bundle does is none.
    fn fault_of(&mut self, line: u64, bytes: &[u8], kind: FaultKind, why: String) {
        if self.header.is_some() || bytes.starts_with(BEGINNING) || BEGINNING.starts_with(bytes) {
            return self.fault(line, kind, why);
        }
        self.found.faults.push(Fault::new(FaultKind::NoBundle).in_line(line));
    }

    fn take(&mut self, number: u64, line: Line<'_>) {
        match (line, self.header.as_ref()) {
            (Line::Bundle(header), None) if header.version == VERSION => self.header = Some(header),
            (Line::Bundle(header), None) => {
                let why = format!("a bundle of version {} needs a newer threadline", header.version);
                self.fault(number, FaultKind::LineMalformed, why);
            }
            (_, None) => self.found.faults.push(Fault::new(FaultKind::NoBundle).in_line(number)),
            (Line::Receipt(receipt), Some(header)) => {
                let from = header.from;
                self.close();
                self.chain.take(&receipt, from, &mut self.found.faults);
                self.found.add(&receipt);
                self.open = Some((receipt, Content::default()));
            }
            (Line::Row(row), Some(_)) => {
                self.rows += 1;
                self.row(number, row);
            }
            (Line::Bundle(_) | Line::End(_), Some(_)) => {
                let why = "another bundle begins within this one".to_owned();
                self.fault(number, FaultKind::LineMalformed, why);
            }
        }
    }

    fn row(&mut self, number: u64, line: RowLine<'_>) {
        let RowLine { kind, id, leaf, purged, columns } = line;
        let row = match columns {
            None => Ok(None),
            Some(Columns::Of(row)) => Ok(Some(row)),
            Some(Columns::Read(columns)) => Row::of(kind, columns).map(Some),
        };
        let row = match row {
            Ok(row) if row.as_ref().is_none_or(|row| row.id == id) => row,
            Ok(_) => return self.malformed_row(number, kind, id, "its columns have another id"),
            Err(why) => return self.malformed_row(number, kind, id, &why),
        };
        let name = |row: &Option<Row<'_>>| {
            row.as_ref().map_or_else(|| RowName::without_columns(kind, id), RowName::of)
        };
        let Some(leaf) = leaf else {
            let fault = Fault::of_row(FaultKind::RowAdded, None, name(&row)).in_line(number);
            return self.found.faults.push(fault);
        };
        let Some(hash) = hash(&leaf) else {
            return self.malformed_row(number, kind, id, "its leaf is no SHA-256");
        };
        let leaf = Leaf { kind, id, hash };
        let Some((receipt, content)) = &mut self.open else {
            return self.malformed_row(number, kind, id, "it stands before the first receipt");
        };
        content.add_bytes(&leaf.bytes());
        content.count(&leaf);
        let n = Some(receipt.n);
        match (&row, purged) {
            (Some(found), _) if found.leaf() == leaf => {
                self.found.compared.add(kind);
                self.found.withheld += found.withheld();
            }
            (Some(_), _) => {
                let fault = Fault::of_row(FaultKind::RowChanged, n, name(&row)).in_line(number);
                self.found.faults.push(fault);
            }
            (None, Some(run)) => *self.found.purged.entry(run).or_default() += 1,
            (None, None) => {
                let fault = Fault::of_row(FaultKind::RowRemoved, n, name(&row)).in_line(number);
                self.found.faults.push(fault);
            }
        }
    }

    fn malformed_row(&mut self, number: u64, kind: super::super::Kind, id: uuid::Uuid, why: &str) {
        let name = RowName::without_columns(kind, id);
        let fault = Fault::of_row(FaultKind::LineMalformed, None, name).saying(why).in_line(number);
        self.found.faults.push(fault);
    }

    /// All leaves of a receipt have been read.
    fn close(&mut self) {
        if let Some((receipt, content)) = self.open.take() {
            content.end(&receipt, &mut self.found.faults);
        }
    }

    fn end(&mut self, number: u64, end: &End, digest: &str) {
        self.has_ended = true;
        let End { receipts, rows, sha256 } = end;
        if *receipts != self.found.receipts || *rows != self.rows || sha256 != digest {
            let why = format!(
                "its end is of {receipts} receipt(s) and {rows} row(s); there are {} and {}, and the digest of the lines is {}",
                self.found.receipts,
                self.rows,
                if sha256 == digest { "the same" } else { "another one" }
            );
            self.fault(number, FaultKind::BundleCut, why);
        }
    }

    fn finish(mut self, lines: u64) -> Verification {
        self.close();
        match (&self.header, self.found.numbers) {
            (Some(header), Some((_, last))) if header.to != last => {
                let why = format!("it is to end with receipt {}", header.to);
                self.fault(lines, FaultKind::BundleCut, why);
            }
            (Some(_), None) => self.fault(lines, FaultKind::BundleCut, "it holds no receipt".to_owned()),
            _ => {}
        }
        if !self.has_ended && self.header.is_some() {
            self.fault(lines, FaultKind::BundleCut, "it has no last line".to_owned());
        }
        if self.header.is_none() && self.found.faults.is_empty() {
            self.found.faults.push(Fault::new(FaultKind::NoBundle).saying("it is empty"));
        }
        self.chain.end(&mut self.found.faults);
        self.found
    }
}
