//! The columns that rows of one table bring to the other.

use sqlx::PgConnection;

use super::Shadow;
use crate::schema::ACTION_COLUMNS;

/// Columns that both tables have and whose values are stored, quoted. What only one of them has is for the comparison of their
/// shapes.
#[derive(Debug)]
pub(super) struct Columns {
    /// All of them.
    pub(super) all: Vec<String>,
    /// Those of the host.
    pub(super) own: Vec<String>,
    /// The sequences of columns that number their rows: the first table's and the second's.
    sequences: Vec<(String, String)>,
}

impl Columns {
    /// For a list of columns.
    pub(super) fn list(&self) -> String {
        self.all.join(", ")
    }

    /// The text of some columns of `alias`: not every type has an equality.
    pub(super) fn text(columns: &[String], alias: &str) -> String {
        let columns: Vec<String> = columns.iter().map(|column| format!("{alias}.{column}")).collect();
        format!("row({})::text", columns.join(", "))
    }

    /// Lets the second table give the next number of the first one, which does not give it again.
    pub(super) async fn take_numbers(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        for (first, second) in &self.sequences {
            let statement = "select setval($2::text::regclass, nextval($1::text::regclass), false)";
            sqlx::query(statement).bind(first).bind(second).execute(&mut *connection).await?;
        }
        Ok(())
    }

    pub(super) fn are_numbered(&self) -> bool {
        !self.sequences.is_empty()
    }
}

impl Shadow {
    /// The number of the transaction in which an action arrived is nobody's: one that a rebuild writes arrives with it.
    pub(super) async fn columns(&self, connection: &mut PgConnection) -> Result<Columns, sqlx::Error> {
        let found: Vec<(String, bool, Option<String>, Option<String>)> = sqlx::query_as(
            "select quote_ident(l.attname), l.attname <> all ($3) and l.attname not in ('txid', 'erased'),
                    case when l.attidentity <> '' then pg_get_serial_sequence($1, l.attname) end,
                    case when s.attidentity <> '' then pg_get_serial_sequence($2, s.attname) end
             from pg_attribute l join pg_attribute s on s.attname = l.attname and s.attrelid = $2::text::regclass
             where l.attrelid = $1::text::regclass and l.attnum > 0 and not l.attisdropped and not s.attisdropped
               and l.attgenerated = '' and s.attgenerated = ''
             order by l.attnum",
        )
        .bind(self.live().to_string())
        .bind(self.table().to_string())
        .bind(ACTION_COLUMNS)
        .fetch_all(connection)
        .await?;
        let own = found.iter().filter(|(_, is_own, ..)| *is_own).map(|(name, ..)| name.clone()).collect();
        let sequences = found.iter().filter_map(|(_, _, first, second)| first.clone().zip(second.clone()));
        let sequences = sequences.collect();
        Ok(Columns { all: found.into_iter().map(|(name, ..)| name).collect(), own, sequences })
    }
}
