//! The transaction in which a timeline is sealed, verified or bundled: one snapshot, read only, whatever it takes.

use sqlx::{Connection as _, PgConnection, Postgres, Row as _, Transaction};
use time::OffsetDateTime;

use super::error::ReceiptError;
use crate::{
    StorageSchema,
    query::{Position, Statement},
};

/// What ends other questions, and what may hide rows; a setting that the server does not have yet is left out.
const SETTINGS: [(&str, &str); 5] = [
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("transaction_timeout", "0"),
    // Statements are long, and simple.
    ("jit", "off"),
    // An error instead of rows that are left out.
    ("row_security", "off"),
];

/// What is asked of a database at the beginning.
#[derive(Debug)]
pub(super) struct Here {
    /// Which database.
    pub(super) database: String,
    /// The snapshot.
    pub(super) position: Position,
    /// The database's clock, before the snapshot was taken.
    pub(super) at: OffsetDateTime,
}

/// Begins it.
pub(super) async fn begin<'c>(
    connection: &'c mut PgConnection,
    schema: &StorageSchema,
) -> Result<(Transaction<'c, Postgres>, Here), ReceiptError> {
    let begin = "begin transaction isolation level repeatable read, read only";
    let mut transaction = connection.begin_with(begin).await?;
    let (names, values): (Vec<String>, Vec<String>) =
        SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).unzip();
    let mut settings = Statement::new("select count(set_config(w.name, w.value, true)) from unnest(");
    settings.bind(names).push("::text[], ").bind(values);
    settings.push("::text[]) w (name, value) join pg_settings s on s.name = w.name");
    settings.query().execute(&mut *transaction).await?;
    let position = Position::now(&mut transaction, schema).await?;
    let clock = Statement::new(
        "select system_identifier::text, current_database()::text, transaction_timestamp() from pg_control_system()",
    );
    let row = clock.query().fetch_one(&mut *transaction).await?;
    let (cluster, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let database = format!("{cluster}/{}/{schema}", escaped(&name));
    Ok((transaction, Here { database, position, at: row.try_get(2)? }))
}

/// A receipt is a text of lines.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_control() { escaped.extend(c.escape_unicode()) } else { escaped.push(c) }
    }
    escaped
}
