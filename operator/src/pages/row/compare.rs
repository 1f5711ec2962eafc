//! Two versions of a row, column by column.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use serde::Serialize;
use threadline::{
    capture::Policy,
    query::{
        Json, Reader,
        row::{AsOf, Row, RowHistory, RowKey},
        time_text,
    },
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Shown, state};
use crate::{
    asked::Asked,
    failure::Failure,
    view::{
        diff, text,
        value::{self, Known},
    },
};

/// Two versions, the first one as it was asked for.
#[derive(Serialize)]
pub(super) struct Compared {
    before: Version,
    after: Version,
    columns: Vec<Column>,
    /// Columns in which they may differ: what is stored does not say it.
    hidden: Vec<String>,
}

/// A version: what the row was after a change, or at a time.
#[derive(Serialize)]
struct Version {
    /// As it was asked for: the id of a change, or a time.
    asked: String,
    /// Whether the row was there.
    is_present: bool,
    #[serde(skip)]
    image: BTreeMap<String, Json>,
    #[serde(skip)]
    sql_nulls: Vec<String>,
    #[serde(skip)]
    erased: Option<Vec<String>>,
    /// Of a change, when it was captured.
    #[serde(skip)]
    captured_at: Option<OffsetDateTime>,
}

/// A column in which they differ.
#[derive(Serialize)]
struct Column {
    name: String,
    before: Option<Json>,
    after: Option<Json>,
}

impl Compared {
    /// Of two versions that are named; none where none is.
    pub(super) async fn read(
        asked: &Asked,
        reader: &Reader,
        row: &Row,
        history: &RowHistory,
        policy: Option<&Policy>,
    ) -> Result<Option<Self>, Failure> {
        let (one, other) = match asked.query.all("compare")[..] {
            [] => return Ok(None),
            [one, other] => (one, other),
            _ => {
                return Err(unusable(
                    "Two versions are compared: compare=ID&compare=ID, or times in their place.",
                ));
            }
        };
        let before = Version::read(asked, reader, row, history, one).await?;
        let after = Version::read(asked, reader, row, history, other).await?;
        let names: BTreeSet<&String> = before.image.keys().chain(after.image.keys()).collect();
        let (mut columns, mut hidden) = (Vec::new(), Vec::new());
        for &name in &names {
            let (one, other) = (before.image.get(name), after.image.get(name));
            if one.map(|value| value.get()) != other.map(|value| value.get()) {
                columns.push(Column { name: name.clone(), before: one.cloned(), after: other.cloned() });
            } else if before.hides(name, policy) && after.hides(name, policy) {
                hidden.push(name.clone());
            }
        }
        if before.is_present && after.is_present {
            let excluded = policy.into_iter().flat_map(|policy| &policy.exclude);
            hidden.extend(excluded.filter(|name| !names.contains(name)).cloned());
        }
        // A version does not differ from itself.
        if before.asked == after.asked {
            hidden.clear();
        }
        Ok(Some(Self { before, after, columns, hidden }))
    }
}

impl Version {
    async fn read(
        asked: &Asked,
        reader: &Reader,
        row: &Row,
        history: &RowHistory,
        named: &str,
    ) -> Result<Self, Failure> {
        let (image, sql_nulls, erased, captured_at) = match Uuid::try_parse(named) {
            Ok(id) => {
                let change = reader.change(id).await?.ok_or(Failure::NotFound)?;
                let is_one_of = |key: &Json| {
                    serde_json::from_str::<RowKey>(key.get())
                        .is_ok_and(|key| history.keys.iter().any(|span| span.key == key))
                };
                let is_of_row =
                    is_one_of(&change.table_pk) || change.key_before.as_ref().is_some_and(is_one_of);
                // The changes of a partition may be filed under its own name.
                let is_of_table = change.table_name == row.table || change.partition.is_some();
                if !is_of_row || !is_of_table {
                    return Err(unusable(
                        "One of the two changes is of another row: take changes of this one.",
                    ));
                }
                let sql_nulls = change.json_nulls.map(Vec::from).unwrap_or_default();
                (change.data_after, sql_nulls, change.erased, Some(change.captured_at))
            }
            Err(_) => match reader.as_of_followed(row, &state::time(asked, named)?).await?.as_of {
                AsOf::Present { image, sql_nulls, change } => (Some(image), sql_nulls, change.erased, None),
                _ => (None, Vec::new(), None, None),
            },
        };
        let is_present = image.is_some();
        let image = image.and_then(|image| serde_json::from_str(image.get()).ok()).unwrap_or_default();
        Ok(Self { asked: named.to_owned(), is_present, image, sql_nulls, erased, captured_at })
    }

    fn known<'k>(&self, name: &str, policy: Option<&'k Policy>) -> Known<'k> {
        Known::of(policy, self.erased.as_deref(), name)
    }

    fn hides(&self, name: &str, policy: Option<&Policy>) -> bool {
        self.image.get(name).is_some_and(|value| value::is_hidden(name, value, self.known(name, policy)))
    }

    /// Its time as it was asked for or, of a change, as it was captured.
    fn time(&self) -> String {
        self.captured_at.map_or_else(|| self.asked.clone(), time_text)
    }

    fn value(&self, shown: &Shown<'_>, name: &str) -> Markup {
        match self.image.get(name) {
            None => html! { span.none aria-label="not there" { "—" } },
            known => value::of_column(
                name,
                known,
                self.sql_nulls.iter().any(|null| null == name),
                value::LONG,
                self.known(name, shown.policy),
            ),
        }
    }
}

fn unusable(text: &str) -> Failure {
    Failure::unusable("compare_unusable", text)
}

pub(super) fn shown(shown: &Shown<'_>, compared: Option<&Compared>) -> Markup {
    html! {
        @if shown.history.changes.len() > 1 || compared.is_some() {
            section aria-labelledby="compare" {
                h2 #compare { "Compare two versions" }
                (form(shown, compared))
                @if let Some(compared) = compared { (differences(shown, compared)) }
            }
        }
    }
}

fn form(shown: &Shown<'_>, compared: Option<&Compared>) -> Markup {
    let changes = &shown.history.changes;
    let field = |id: &str, label: &str, version: Option<&Version>, default: usize| {
        let chosen = version.map(|version| version.asked.as_str());
        html! {
            label for=(id) { (label) }
            select id=(id) name="compare" {
                @if let Some(version) = version.filter(|version| !changes.iter().any(|change| change.id.to_string() == version.asked)) {
                    option value=(threadline::visible::text(&version.asked)) selected { (text::cut(&version.time(), 60)) }
                }
                @for (number, change) in changes.iter().enumerate() {
                    @let id = change.id.to_string();
                    @let is_chosen = chosen.map_or(number == default, |chosen| chosen == id);
                    option value=(id) selected[is_chosen] { (time_text(change.captured_at)) " " (change.op) }
                }
            }
        }
    };
    html! {
        form.compare action=(shown.view.links.to("row")) {
            (shown.fields())
            (field("compare-before", "From", compared.map(|compared| &compared.before), 1))
            (field("compare-after", "to", compared.map(|compared| &compared.after), 0))
            button { "Compare" }
        }
    }
}

fn differences(shown: &Shown<'_>, compared: &Compared) -> Markup {
    let Compared { before, after, columns, hidden } = compared;
    let fine = |column: &Column| {
        let (one, other) = (column.before.as_ref()?, column.after.as_ref()?);
        let is_redacted = |version: &Version, value| {
            value::is_redacted(&column.name, value, version.known(&column.name, shown.policy))
        };
        if is_redacted(before, one) || is_redacted(after, other) { None } else { diff::fine(one, other) }
    };
    html! {
        @for version in [before, after] {
            @if !version.is_present {
                p.none {
                    @match version.captured_at {
                        Some(at) => { "After the change of " (shown.view.exact_time(at)) },
                        None => { "At " (text::cut(&version.asked, 60)) },
                    }
                    " the row was not there."
                }
            }
        }
        @if columns.is_empty() {
            p.none { @if hidden.is_empty() { "They are the same." } @else { "What is stored in clear is the same." } }
        }
        @if !columns.is_empty() || !hidden.is_empty() {
            table.diff {
                caption.visually-hidden { "In which columns they differ" }
                thead { tr { th scope="col" { "Column" } th scope="col" { "From" } th scope="col" { "To" } } }
                tbody {
                    @for column in columns {
                        tr {
                            th scope="row" { (text::line(&column.name)) }
                            @if let Some(fine) = fine(column) {
                                td.fine colspan="2" { (fine) }
                            } @else {
                                td { (before.value(shown, &column.name)) }
                                td { (after.value(shown, &column.name)) }
                            }
                        }
                    }
                    @for name in hidden {
                        tr {
                            th scope="row" { (text::line(name)) }
                            td colspan="2" { span.none { "hidden: not known whether it differs" } }
                        }
                    }
                }
            }
        }
    }
}
