//! Whether receipts follow one another, without what they seal: little enough to ask often.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    chain::{Chain, Trust},
    fault::{Fault, FaultKind, Faults},
    store,
};
use crate::StorageSchema;

/// The newest receipts that are compared with one another. Of those before it is known that none of their numbers is missing.
const COMPARED: i64 = 1_000;

/// What is known of the chain as a whole.
pub(crate) struct Links {
    /// Receipts of which the numbers were looked at, and nothing else.
    pub(crate) before: i64,
    /// Receipts behind these, which were compared with one another.
    pub(crate) compared: usize,
    /// What does not verify.
    pub(crate) faults: Faults,
}

/// Looks at the chain: hashes, links and signatures of the newest receipts, the numbers of the others, and leaves behind the last one.
pub(crate) async fn links(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<Links, sqlx::Error> {
    links_of(connection, schema, COMPARED).await
}

async fn links_of(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    compared: i64,
) -> Result<Links, sqlx::Error> {
    let mut newest = store::newest(connection, schema, compared).await?;
    newest.reverse();
    let first = newest.first().map_or(1, |first| first.n);
    let statement = format!(
        "select (select count(*) from {receipts} where n < $1),
                coalesce((select max(n) from {leaves}) > coalesce((select max(n) from {receipts}), 0), false)",
        receipts = schema.table(store::RECEIPTS),
        leaves = schema.table(store::LEAVES),
    );
    let (before, has_leaves_behind): (i64, bool) =
        sqlx::query_as(AssertSqlSafe(statement)).persistent(false).bind(first).fetch_one(connection).await?;
    let mut faults = Faults::default();
    let trust = Trust::nothing();
    let mut chain = Chain::new(&trust);
    for receipt in &newest {
        chain.take(receipt, before + 1, &mut faults);
    }
    if has_leaves_behind {
        faults.push(Fault::new(FaultKind::LeavesAdded));
    }
    Ok(Links { before, compared: newest.len(), faults })
}

#[cfg(test)]
mod tests {
    use sandbox::fixture::timeline_database;
    use sqlx::{Executor as _, PgPool};

    use super::*;
    use crate::{Timeline, receipts::seal};

    #[tokio::test]
    async fn of_a_long_chain_the_newest_are_compared_and_the_others_counted() -> anyhow::Result<()> {
        let database = timeline_database().await?;
        let mut connection = database.connect().await?;
        let schema = StorageSchema::default();
        let timeline = Timeline::new(PgPool::connect(&database.url).await?, schema.clone());
        for _ in 0..5 {
            seal(&timeline, None, |_| {}).await?;
        }
        let of = async |connection: &mut PgConnection, compared| {
            let Links { before, compared, faults } = links_of(connection, &schema, compared).await?;
            anyhow::Ok((before, compared, faults.listed.into_iter().map(|fault| fault.to_string()).collect()))
        };
        let found: (i64, usize, Vec<String>) = of(&mut connection, 2).await?;
        assert_eq!(found, (3, 2, Vec::new()));
        connection.execute("update threadline_receipts set changes = 7 where n = 3").await?;
        assert_eq!(of(&mut connection, 2).await?.2, Vec::<String>::new(), "it is not one of the newest");
        assert!(of(&mut connection, 3).await?.2[0].starts_with("receipt 3: it was changed"));
        connection.execute("delete from threadline_receipts where n = 1").await?;
        assert_eq!(of(&mut connection, 2).await?.2, ["receipt 4: receipts before it are missing"]);
        Ok(())
    }
}
