//! A statement as it is composed: its text, and the values for its parameters.

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, PgConnection, Postgres,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use time::OffsetDateTime;
use uuid::Uuid;

/// A statement, or a part of one. Values are never part of the text.
#[derive(Debug, Clone, Default)]
pub struct Statement {
    text: String,
    values: Vec<Value>,
}

/// A value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Texts(Vec<String>),
    Uuid(Uuid),
    Uuids(Vec<Uuid>),
    Integer(i64),
    Time(OffsetDateTime),
}

impl Statement {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    /// Adds SQL. It is made of constants and of names that were quoted.
    pub(crate) fn push(&mut self, sql: &str) -> &mut Self {
        self.text.push_str(sql);
        self
    }

    /// Adds a parameter and its value.
    pub(crate) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        let number = self.values.len();
        self.text.push('$');
        self.text.push_str(&number.to_string());
        self
    }

    /// The SQL, with `$1` and so on for the values.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The values of the parameters, in their order, as people read them.
    #[must_use]
    pub fn values(&self) -> Vec<String> {
        self.values.iter().map(Value::describe).collect()
    }

    /// Never under a name: behind a pooler it would be missing, or never be closed.
    pub(crate) fn query(&self) -> Query<'_, Postgres, PgArguments> {
        self.query_of(self.text.clone())
    }

    fn query_of(&self, text: String) -> Query<'_, Postgres, PgArguments> {
        let mut query = sqlx::query(AssertSqlSafe(text)).persistent(false);
        for value in &self.values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Texts(texts) => query.bind(texts),
                Value::Uuid(id) => query.bind(id),
                Value::Uuids(ids) => query.bind(ids),
                Value::Integer(number) => query.bind(number),
                Value::Time(time) => query.bind(time),
            };
        }
        query
    }

    pub(crate) async fn fetch_all(&self, connection: &mut PgConnection) -> Result<Vec<PgRow>, sqlx::Error> {
        self.query().fetch_all(connection).await
    }

    pub(crate) async fn fetch_optional(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<PgRow>, sqlx::Error> {
        self.query().fetch_optional(connection).await
    }

    /// The server's plan, and what running it took. It is run, and its rows are thrown away.
    ///
    /// # Errors
    /// What the database says.
    pub async fn explain(&self, connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        use sqlx::Row as _;
        let text = format!("explain (analyze, buffers, timing off) {}", self.text);
        self.query_of(text).fetch_all(connection).await?.iter().map(|row| row.try_get(0)).collect()
    }
}

/// Lets no statement of the transaction take longer.
pub(crate) async fn limit_time(connection: &mut PgConnection, limit: Duration) -> Result<(), sqlx::Error> {
    let milliseconds = limit.as_millis().max(1).to_string();
    sqlx::query("select set_config('statement_timeout', $1, true)")
        .persistent(false)
        .bind(milliseconds)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether a statement was canceled: after [`limit_time`], because it took too long.
pub(super) fn is_canceled(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() == Some("57014")
}

impl Value {
    fn describe(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Texts(texts) => format!("{texts:?}"),
            Self::Uuid(id) => id.to_string(),
            Self::Uuids(ids) => format!("{} ids", ids.len()),
            Self::Integer(number) => number.to_string(),
            Self::Time(time) => super::time_text(*time),
        }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

impl From<Uuid> for Value {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}

impl From<Vec<Uuid>> for Value {
    fn from(ids: Vec<Uuid>) -> Self {
        Self::Uuids(ids)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<OffsetDateTime> for Value {
    fn from(time: OffsetDateTime) -> Self {
        Self::Time(time)
    }
}
