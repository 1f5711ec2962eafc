//! A dry run counts what a run deletes.

use proptest::{prelude::*, test_runner::TestRunner};
use sqlx::Executor as _;
use threadline::retention::{Keep, Policy};

use super::{DAY, Host, host, options, table, ten_days, term};

/// A random timeline of few transactions, tables and ages, in days.
#[derive(Debug, Clone)]
struct Sample {
    /// Transaction, table, age.
    changes: Vec<(u8, usize, u8)>,
    /// Transactions without changes, and their ages.
    empty: Vec<(u8, u8)>,
    /// Actions: their ages, and which transaction is linked to each.
    actions: Vec<(u8, Option<u8>)>,
    default: u8,
    tables: Vec<(usize, Option<u8>)>,
    keeps_actions: Option<u8>,
    deletes_empty: bool,
    batch_size: u32,
}

const TABLES: [&str; 4] = ["public.posts", "public.users", "billing.posts", "billing.lines"];

fn sample() -> impl Strategy<Value = Sample> {
    let changes = proptest::collection::vec((0..12_u8, 0..TABLES.len(), 0..20_u8), 0..40);
    let empty = proptest::collection::vec((20..30_u8, 0..20_u8), 0..6);
    let actions = proptest::collection::vec((0..20_u8, proptest::option::of(0..12_u8)), 0..6);
    let tables = proptest::collection::vec((0..TABLES.len(), proptest::option::of(1..20_u8)), 0..3);
    let rest = (1..20_u8, tables, proptest::option::of(1..20_u8), any::<bool>(), 1..9_u32);
    (changes, empty, actions, rest).prop_map(
        |(changes, empty, actions, (default, tables, keeps_actions, deletes_empty, batch_size))| Sample {
            changes,
            empty,
            actions,
            default,
            tables,
            keeps_actions,
            deletes_empty,
            batch_size,
        },
    )
}

impl Sample {
    fn policy(&self) -> Policy {
        let keep = |days: u8| Keep::days(days.into()).unwrap();
        let mut policy =
            Policy::new(keep(self.default)).unwrap().delete_empty_transactions(self.deletes_empty);
        for (name, days) in &self.tables {
            policy = policy.table(table(TABLES[*name]), days.map_or(Keep::Forever, keep));
        }
        match self.keeps_actions {
            Some(days) => policy.actions(keep(days)),
            None => policy,
        }
    }

    /// Ages are in the middle of a day: no cutoff comes near.
    async fn record(&self, host: &mut Host) -> anyhow::Result<()> {
        host.connection
            .execute("delete from audit_changes; delete from audit_transactions; delete from audit_actions")
            .await?;
        let age = |days: u8| i64::from(days) * DAY + DAY / 2;
        let changes: Vec<(i64, &str, i64)> = self
            .changes
            .iter()
            .map(|(tx, table, days)| (i64::from(*tx), TABLES[*table], age(*days)))
            .collect();
        host.record(&changes).await?;
        for (tx, days) in &self.empty {
            sqlx::query(
                "insert into audit_transactions (txid, occurred_at) values ($1, now() - $2 * interval '1 second') on conflict do nothing",
            )
            .bind(i64::from(*tx))
            .bind(age(*days))
            .execute(&mut host.connection)
            .await?;
        }
        for (days, linked) in &self.actions {
            sqlx::query(
                "with a as (insert into audit_actions (name, actor_ref, status, inserted_at)
                            values ('a', '{}', 'ok', now() - $1 * interval '1 second') returning id)
                 update audit_transactions t set action_id = a.id from a where t.txid = $2",
            )
            .bind(age(*days))
            .bind(linked.map(i64::from))
            .execute(&mut host.connection)
            .await?;
        }
        Ok(())
    }

    /// What is to be left: changes by the model, and how many transactions and actions are to go.
    fn model(&self) -> (usize, usize) {
        let window = |name: usize| {
            let own = self.tables.iter().rev().find(|(own, _)| *own == name).map(|(_, days)| *days);
            own.unwrap_or(Some(self.default))
        };
        let is_gone =
            |(_, name, days): &&(u8, usize, u8)| window(*name).is_some_and(|window| *days >= window);
        let gone = self.changes.iter().filter(is_gone).count();
        (gone, self.changes.len() - gone)
    }
}

#[test]
fn a_dry_run_counts_exactly_what_the_run_behind_it_deletes() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let host = std::cell::RefCell::new(runtime.block_on(async {
        let mut host = host().await?;
        // A policy of a sample names tables that there are no changes of.
        for table in TABLES {
            let create = sqlx::AssertSqlSafe(format!("create table {table} (id int primary key)"));
            host.connection.execute(create).await?;
        }
        anyhow::Ok(host)
    })?);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(60));
    runner
        .run(&sample(), |sample| {
            let mut host = host.borrow_mut();
            let result: anyhow::Result<()> = runtime.block_on(async {
                sample.record(&mut host).await?;
                let with = |is_dry: bool| {
                    options(|options| {
                        (options.dry_run, options.batch_size) = (is_dry, sample.batch_size);
                        options.sleep = std::time::Duration::ZERO;
                    })
                };
                let policy = sample.policy();
                let dry = host.timeline.purge(&policy, &with(true)).await?;
                let real = host.timeline.purge(&policy, &with(false)).await?;
                let numbers = |purged: &threadline::retention::Purged| {
                    (
                        purged.tables.clone(),
                        purged.deleted_changes,
                        purged.deleted_transactions,
                        purged.deleted_actions,
                        purged.kept_actions,
                    )
                };
                anyhow::ensure!(numbers(&dry) == numbers(&real), "{dry:?}\n{real:?}");
                let (gone, left) = sample.model();
                anyhow::ensure!(real.deleted_changes == u64::try_from(gone)?, "{real:?}");
                anyhow::ensure!(host.count("audit_changes").await? == i64::try_from(left)?);
                let again = host.timeline.purge(&policy, &with(true)).await?;
                let nothing = (again.deleted_changes, again.deleted_transactions, again.deleted_actions);
                anyhow::ensure!(nothing == (0, 0, 0), "{again:?}");
                // No change is left without its transaction, and none that was kept without changes is old.
                let orphans = "audit_changes c where not exists (select from audit_transactions t where t.id = c.transaction_id)";
                anyhow::ensure!(host.count(orphans).await? == 0);
                Ok(())
            });
            result.map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
        .map_err(|error| anyhow::anyhow!("{error}"))
}

#[tokio::test]
async fn a_dry_run_writes_nothing_and_names_the_time_that_it_has() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "public.posts", 20 * DAY)]).await?;
    let state = "select md5(string_agg(t::text, '' order by t::text)) from (
                     select c::text from audit_changes c union all select t::text from audit_transactions t
                     union all select r::text from threadline_retention_runs r union all select l::text from threadline_leases l
                     union all select e::text from threadline_evidence_records e union all select a::text from audit_actions a) t";
    let before: String = sqlx::query_scalar(state).fetch_one(&mut host.connection).await?;
    let dry = host.timeline.purge(&ten_days(), &options(|options| options.dry_run = true)).await?;
    assert_eq!((dry.deleted_changes, dry.run, dry.batches_run), (1, None, 0));
    let after: String = sqlx::query_scalar(state).fetch_one(&mut host.connection).await?;
    assert_eq!(before, after);
    // Somebody else's lock takes longer than it has.
    host.connection.execute("begin; lock table audit_changes").await?;
    let short = options(|options| {
        (options.dry_run, options.dry_run_time) = (true, std::time::Duration::from_secs(1));
    });
    let error = host.timeline.purge(&ten_days(), &short).await.unwrap_err();
    assert!(error.to_string().contains("longer than 1 s"), "{error}");
    assert_eq!(term(Err::<(), _>(error)), Some("took_too_long"));
    Ok(())
}
