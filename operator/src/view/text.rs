//! Texts of the database, harmless: they end where they end, move nothing, and hide nothing.

use std::collections::BTreeMap;

use maud::{Markup, html};
use threadline::{query::Json, visible};

/// Characters of a line.
const LINE: usize = 120;

/// A text on a line, cut where it is long. What it does to the direction of writing ends with it.
pub(crate) fn line(text: &str) -> Markup {
    cut(text, LINE)
}

/// The same, cut elsewhere.
pub(crate) fn cut(text: &str, characters: usize) -> Markup {
    let end = text.char_indices().nth(characters).map(|(end, _)| end);
    let shown = visible::text(&text[..end.unwrap_or(text.len())]);
    html! {
        bdi { (shown) }
        @if end.is_some() { span.cut { "… (" (text.len()) " bytes)" } }
    }
}

/// A table of the schema public by its name alone.
pub(crate) fn table_name(schema: &str, table: &str) -> String {
    if schema == "public" { table.to_owned() } else { format!("{schema}.{table}") }
}

/// The key of a row: its value, or its columns.
pub(crate) fn key(key: &Json) -> Markup {
    let columns: BTreeMap<String, serde_json::Value> = serde_json::from_str(key.get()).unwrap_or_default();
    let value = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match columns.iter().collect::<Vec<_>>()[..] {
        [] => line(key.get()),
        [(_, only)] => line(&value(only)),
        ref several => html! {
            @for (number, (name, text)) in several.iter().enumerate() {
                @if number > 0 { ", " }
                (line(name)) "=" (line(&value(text)))
            }
        },
    }
}
