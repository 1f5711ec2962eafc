//! A column of a group of rows, before it is written.

use bytes::Bytes;
use parquet::{
    data_type::{ByteArray, ByteArrayType, Int64Type},
    errors::ParquetError,
    file::writer::SerializedColumnWriter,
};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// UTF-8.
    Text { always: bool },
    /// A JSON document.
    Document,
    /// A list of texts.
    Texts,
    /// A number of 64 bits.
    Number,
    /// Microseconds of UTC.
    Time { always: bool },
}

impl Holds {
    /// The field in the language of Parquet's schemas.
    pub(super) fn field(self, name: &str) -> String {
        let repetition = if self.is_always() { "required" } else { "optional" };
        match self {
            Self::Text { .. } => format!("{repetition} binary {name} (STRING); "),
            Self::Document => format!("{repetition} binary {name} (JSON); "),
            Self::Texts => format!(
                "optional group {name} (LIST) {{ repeated group list {{ required binary element (STRING); }} }} "
            ),
            Self::Number => format!("{repetition} int64 {name}; "),
            Self::Time { .. } => format!("{repetition} int64 {name} (TIMESTAMP(MICROS,true)); "),
        }
    }

    fn is_always(self) -> bool {
        matches!(self, Self::Text { always: true } | Self::Time { always: true })
    }
}

/// The values of a column. A null is a level without a value.
#[derive(Debug)]
pub(super) struct Column {
    holds: Holds,
    /// Texts, one behind the other.
    texts: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    numbers: Vec<i64>,
    /// For each row: 0 is null, 1 a value; of lists 1 is an empty one, and 2 an element.
    definitions: Vec<i16>,
    /// Of lists: 0 begins a row, 1 goes on with one.
    repetitions: Vec<i16>,
}

impl Column {
    pub(super) fn new(holds: Holds) -> Self {
        Self {
            holds,
            texts: Vec::new(),
            ends: Vec::new(),
            numbers: Vec::new(),
            definitions: Vec::new(),
            repetitions: Vec::new(),
        }
    }

    /// Bytes that it keeps.
    pub(super) fn bytes(&self) -> usize {
        self.texts.len()
            + 8 * (self.ends.len() + self.numbers.len())
            + 2 * (self.definitions.len() + self.repetitions.len())
    }

    pub(super) fn text(&mut self, text: Option<&str>) {
        self.definitions.push(text.is_some().into());
        if let Some(text) = text {
            self.push(text);
        }
    }

    pub(super) fn number(&mut self, number: Option<i64>) {
        self.definitions.push(number.is_some().into());
        self.numbers.extend(number);
    }

    pub(super) fn texts(&mut self, texts: Option<&[String]>) {
        let Some(texts) = texts.filter(|texts| !texts.is_empty()) else {
            self.definitions.push(texts.is_some().into());
            self.repetitions.push(0);
            return;
        };
        for (n, text) in texts.iter().enumerate() {
            self.definitions.push(2);
            self.repetitions.push((n > 0).into());
            self.push(text);
        }
    }

    fn push(&mut self, text: &str) {
        self.texts.extend_from_slice(text.as_bytes());
        self.ends.push(self.texts.len());
    }

    /// Writes the values, and is empty then.
    pub(super) fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let definitions = (!self.holds.is_always()).then_some(&*self.definitions);
        let repetitions = (self.holds == Holds::Texts).then_some(&*self.repetitions);
        if let Holds::Number | Holds::Time { .. } = self.holds {
            writer.typed::<Int64Type>().write_batch(&self.numbers, definitions, repetitions)?;
        } else {
            // The values share the bytes.
            let texts = Bytes::from(std::mem::take(&mut self.texts));
            let mut begin = 0;
            let text = |end: &usize| ByteArray::from(texts.slice(std::mem::replace(&mut begin, *end)..*end));
            let values: Vec<_> = self.ends.iter().map(text).collect();
            writer.typed::<ByteArrayType>().write_batch(&values, definitions, repetitions)?;
        }
        *self = Self::new(self.holds);
        Ok(())
    }
}
