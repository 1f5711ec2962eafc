//! Whether somebody has changed what was sealed: receipts over the timeline, and those over what forwarders have projected.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    doctor::{
        check::{Outcome, listed},
        facts::Facts,
        remedy::Remedy,
    },
    receipt,
    receipts::links,
};

const OF_TIMELINE: &str = "threadline_receipts";
const OF_FORWARDERS: &str = "audit_receipts";

/// Receipts of a forwarder that are verified.
const RECEIPTS_MAX: i64 = 10_000;

/// What was found of both kinds.
#[derive(Default)]
struct Found {
    /// What there is.
    seen: Vec<String>,
    faults: Vec<String>,
    /// Why something is not known.
    unknown: Vec<String>,
    /// The commands that say more.
    steps: Vec<Remedy>,
}

pub(super) async fn chains(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let mut found = Found::default();
    let kinds = [OF_TIMELINE, OF_FORWARDERS];
    if !kinds.iter().any(|table| facts.has(table)) {
        return Ok(Outcome::not_applicable("there is no table of receipts"));
    }
    for table in kinds.into_iter().filter(|table| facts.has(table)) {
        // A role that sees one of both is told of that one.
        let may_read: bool = sqlx::query_scalar("select has_table_privilege($1, 'select')")
            .persistent(false)
            .bind(facts.table(table))
            .fetch_one(&mut *connection)
            .await?;
        if !may_read {
            found.unknown.push(format!("the role may not look: {table}"));
        } else if table == OF_TIMELINE {
            found.timeline(connection, facts).await?;
        } else {
            found.forwarders(connection, facts).await?;
        }
    }
    let Found { seen, faults, unknown, steps } = found;
    Ok(if !faults.is_empty() {
        Outcome::failed(format!("{} faults: {}", faults.len(), listed(faults))).remedy(steps)
    } else if !unknown.is_empty() {
        Outcome::unknown([unknown, seen].concat().join("; ")).remedy(steps)
    } else if seen.is_empty() {
        Outcome::not_applicable("there are no receipts")
    } else {
        Outcome::ok(seen.join("; "))
    })
}

impl Found {
    /// What the receipts say of one another; what they seal is compared by the command.
    async fn timeline(&mut self, connection: &mut PgConnection, facts: &Facts) -> Result<(), sqlx::Error> {
        let chain = links(connection, &facts.storage).await?;
        if !chain.faults.is_empty() {
            let faults = chain.faults.listed.iter().map(|fault| format!("{OF_TIMELINE}: {fault}"));
            self.faults.extend(faults);
            self.steps.push(Remedy::command("threadline receipts verify"));
        }
        match (chain.before, chain.compared) {
            (_, 0) => {}
            (0, compared) => self.seen.push(format!("{compared} receipts over the timeline")),
            (before, compared) => self.seen.push(format!(
                "{compared} receipts over the timeline, which are the newest, and {before} before them, of which none is missing"
            )),
        }
        Ok(())
    }

    async fn forwarders(&mut self, connection: &mut PgConnection, facts: &Facts) -> Result<(), sqlx::Error> {
        let statement = format!(
            "select forwarder, count(*) from {} group by forwarder order by forwarder",
            facts.table(OF_FORWARDERS)
        );
        let chains: Vec<(String, i64)> =
            sqlx::query_as(AssertSqlSafe(statement)).persistent(false).fetch_all(&mut *connection).await?;
        let (mut sealed, mut faults, mut too_long) = (0, Vec::new(), Vec::new());
        for (forwarder, receipts) in &chains {
            if *receipts > RECEIPTS_MAX {
                too_long.push(forwarder);
                continue;
            }
            sealed += receipts;
            let chain = receipt::chain(connection, &facts.storage, forwarder).await?;
            let found = receipt::verify_chain(&chain, &[], None);
            faults.extend(found.into_iter().map(|fault| format!("{OF_FORWARDERS} of {forwarder}: {fault}")));
        }
        if !too_long.is_empty() {
            self.unknown.push(format!("more than {RECEIPTS_MAX} receipts of {}", listed(&too_long)));
        }
        if !faults.is_empty() || !too_long.is_empty() {
            self.steps.push(Remedy::command("consumer receipts verify"));
        }
        self.faults.append(&mut faults);
        if sealed > 0 {
            self.seen.push(format!("{sealed} receipts of {} forwarders", chains.len()));
        }
        Ok(())
    }
}
