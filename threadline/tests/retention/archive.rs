//! What a purge archives is what it deletes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use sandbox::fixture::shared;
use serde_json::{Value, json};
use sqlx::Executor as _;
use threadline::{
    ActorRef,
    query::Scope,
    retention::{self, Archive, Keep, PurgeOptions, Purgeable, RecordedArchive, horizon},
};

use super::{DAY, Host, host, options, table, ten_days};

/// As `openssl genpkey -algorithm ed25519` writes it.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

impl Host {
    /// A folder for archives of this database.
    pub(super) fn archives_in(&self) -> anyhow::Result<PathBuf> {
        let folder = shared().work_dir.path().join(format!("archives-{}", self.database.name()));
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// With files of so many rows.
    pub(super) fn archiving(&self, rows: u32) -> anyhow::Result<PurgeOptions> {
        let archive = Archive::new(self.archives_in()?).rows(rows);
        Ok(options(|options| (options.batch_size, options.archive) = (2, Some(archive))))
    }

    pub(super) async fn archives(&mut self) -> anyhow::Result<Vec<RecordedArchive>> {
        Ok(retention::archives(&mut self.connection, self.timeline.schema(), None).await?)
    }

    /// Rows of a table, by their ids.
    pub(super) async fn rows(&mut self, table: &str) -> anyhow::Result<BTreeMap<String, Value>> {
        let statement = format!("select r.id::text, to_jsonb(r) from {table} r");
        let rows: Vec<(String, Value)> =
            sqlx::query_as(sqlx::AssertSqlSafe(statement)).fetch_all(&mut self.connection).await?;
        Ok(rows.into_iter().collect())
    }
}

/// The entries of all archives in a folder, in the order of their files; each is verified.
pub(super) fn entries(archives: &[RecordedArchive]) -> anyhow::Result<Vec<Value>> {
    let mut entries = Vec::new();
    for archive in archives {
        retention::verify(archive).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
        let text = fs::read_to_string(archive.location.trim_start_matches("file://"))?;
        let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        assert_eq!(i64::try_from(lines.len())?, archive.rows);
        entries.extend(lines);
    }
    Ok(entries)
}

/// That these rows are entries of this kind, each once, with everything that is stored of them.
pub(super) fn assert_archived(deleted: &BTreeMap<String, Value>, entries: &[Value], kind: &str) {
    let mut found = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry["kind"] == kind) {
        let id = entry["id"].as_str().unwrap().to_owned();
        assert!(found.insert(id.clone(), entry).is_none(), "{id} is there twice");
    }
    let ids = |keys: &mut dyn Iterator<Item = &String>| keys.cloned().collect::<BTreeSet<_>>();
    assert_eq!(ids(&mut found.keys()), ids(&mut deleted.keys()), "{kind}");
    for (id, row) in deleted {
        for (column, value) in row.as_object().unwrap() {
            // Times are written otherwise, and a number that no reader sees is not there.
            if column.ends_with("_at") || column == "txid" && kind == "action" {
                continue;
            }
            assert_eq!(&found[id][column], value, "{column} of {id}");
        }
    }
}

pub(super) fn files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in fs::read_dir(folder)? {
        for file in fs::read_dir(folder?.path())? {
            names.push(file?.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Tables with windows of three kinds, transactions without changes, actions that are linked and that are not.
async fn everything() -> anyhow::Result<Host> {
    let mut host = host().await?;
    for n in 0..12 {
        host.record(&[
            (10 + n, "public.posts", (11 + n) * DAY),
            (30 + n, "a/b.public posts", 20 * DAY),
            (50 + n, "public.sessions", 3 * DAY),
            (50 + n, "public.posts", 3 * DAY),
            (70 + n, "billing.invoices", 90 * DAY),
        ])
        .await?;
        host.record_empty(&[(100 + n, 30 * DAY), (200 + n, DAY)]).await?;
    }
    host.connection
        .execute(
            "insert into audit_actions (name, actor_ref, status, inserted_at, comment)
                 select 'a.b', '{\"type\": \"user\", \"id\": \"ü\"}', 'ok', now() - n * interval '5 days', 'n ' || n from generate_series(1, 9) n;
             insert into audit_actions (name, actor_ref, status, inserted_at)
                 select 'threadline.capture.disabled', '{}', 'ok', now() - interval '40 days';
             insert into audit_actions (id, name, actor_ref, status, inserted_at)
                 values ('a0000000-0000-4000-8000-000000000001', 'kept', '{}', 'ok', now() - interval '40 days'),
                        ('a0000000-0000-4000-8000-000000000002', 'gone', '{}', 'ok', now() - interval '40 days');
             update audit_transactions set action_id = 'a0000000-0000-4000-8000-000000000001', meta = '{\"b\": 1, \"a\": 19.90}' where txid = 70;
             update audit_transactions set action_id = 'a0000000-0000-4000-8000-000000000002', context = '{\"tenant\": \"t1\"}',
                 actor_ref = '{\"type\": \"user\", \"id\": \"1\"}' where txid in (10, 100)",
        )
        .await?;
    Ok(host)
}

#[tokio::test]
async fn everything_that_a_purge_deletes_is_in_its_archives_once_and_whole() -> anyhow::Result<()> {
    for is_longer in [false, true] {
        let mut host = everything().await?;
        let tables = ["audit_changes", "audit_transactions", "audit_actions"];
        let mut before = Vec::new();
        for table in tables {
            before.push(host.rows(table).await?);
        }
        let key = shared().work_dir.path().join("archive.pem");
        fs::write(&key, KEY)?;
        let mut policy = ten_days().table(table("sessions"), Keep::days(2)?).actions(Keep::days(12)?);
        if is_longer {
            policy = policy.table(table("billing.invoices"), Keep::Forever);
        } else {
            policy = policy.table(table("billing.invoices"), Keep::days(5)?);
        }
        let mut with = host.archiving(5)?;
        with.archive = with.archive.map(|archive| archive.key(&key));
        let purged = host.timeline.purge(&policy, &with).await?;
        let plain = everything().await?;
        let same = plain.purge(&policy).await?;
        let counts = |purged: &retention::Purged| {
            (
                super::counts(purged).0,
                purged.deleted_transactions,
                purged.deleted_actions,
                purged.kept_actions,
            )
        };
        assert_eq!(counts(&purged), counts(&same), "as without an archive");
        assert_eq!(purged.tables, same.tables);
        let archives = host.archives().await?;
        let entries = entries(&archives)?;
        for (n, table) in tables.into_iter().enumerate() {
            let left = host.rows(table).await?;
            let mut deleted = std::mem::take(&mut before[n]);
            deleted.retain(|id, _| !left.contains_key(id));
            assert!(!deleted.is_empty());
            if table == "audit_transactions" {
                // Most of them stand beside their changes.
                let of_changes: BTreeMap<&str, &Value> = entries
                    .iter()
                    .filter(|entry| entry["kind"] == "change")
                    .map(|entry| (entry["transaction_id"].as_str().unwrap(), &entry["transaction"]))
                    .collect();
                for (id, row) in deleted.iter().filter(|(id, _)| of_changes.contains_key(id.as_str())) {
                    for column in ["txid", "actor_ref", "meta", "context", "action_id", "source"] {
                        assert_eq!(of_changes[id.as_str()][column], row[column], "{column}");
                    }
                }
                deleted.retain(|id, _| !of_changes.contains_key(id.as_str()));
                assert_eq!(deleted.len(), 12);
                assert_archived(&deleted, &entries, "transaction");
            } else {
                let kind = if table == "audit_changes" { "change" } else { "action" };
                assert_archived(&deleted, &entries, kind);
            }
        }
        let said = purged.archived.unwrap();
        assert_eq!(
            (usize::try_from(said.files)?, usize::try_from(said.rows)?),
            (archives.len(), entries.len())
        );
        let run = purged.run.unwrap();
        assert!(archives.iter().all(|archive| archive.run == run && archive.deleted_at.is_some()));
        assert!(archives.iter().all(|archive| (1..=12).contains(&archive.rows) && archive.key.is_some()));
        assert!(archives.iter().any(|archive| archive.table_name.is_some()));
        let folder = host.archives_in()?;
        assert_eq!(said.location, format!("file://{}/{run}", folder.display()));
        // A file, its manifest, its signature.
        assert_eq!(files(&folder)?.len(), 3 * archives.len());
        // Evidence names each.
        let evidence: Value =
            sqlx::query_scalar("select detail -> 'archives' from threadline_evidence_records")
                .fetch_one(&mut host.connection)
                .await?;
        let digests: Vec<Value> = archives
            .iter()
            .map(|archive| json!({"sha256": archive.sha256, "manifest_sha256": archive.manifest_sha256}))
            .collect();
        assert_eq!(evidence["digests"], json!(digests));
        assert_eq!(evidence["rows"], json!(said.rows));
        // Nothing is left to be archived, and no folder is made for nothing.
        let again = host.timeline.purge(&policy, &with).await?;
        assert_eq!((&again.archived, super::counts(&again)), (&None, (0, 0, 0, 0)));
        assert_eq!(files(&folder)?.len(), 3 * archives.len());
        assert_eq!(fs::read_dir(&folder)?.count(), 1);
    }
    Ok(())
}

#[tokio::test]
async fn no_more_is_archived_than_a_run_may_delete() -> anyhow::Result<()> {
    let mut host = host().await?;
    for n in 0..20 {
        host.record(&[(n, "public.posts", (20 + n) * DAY)]).await?;
    }
    let mut few = host.archiving(1_000)?;
    few.max_batches = 3;
    let purged = host.timeline.purge(&ten_days(), &few).await?;
    assert_eq!((purged.deleted_changes, purged.is_complete), (6, false));
    assert_eq!(purged.archived.map(|archived| archived.rows), Some(6));
    // The oldest went.
    let left: i64 = sqlx::query_scalar("select max(txid) from audit_transactions")
        .fetch_one(&mut host.connection)
        .await?;
    assert_eq!(left, 13);
    let rest = host.timeline.purge(&ten_days(), &host.archiving(1_000)?).await?;
    assert_eq!((rest.deleted_changes, rest.archived.map(|archived| archived.rows)), (14, Some(14)));
    let archives = host.archives().await?;
    assert_eq!(entries(&archives)?.len(), 20);
    Ok(())
}

#[tokio::test]
async fn more_rows_of_one_time_than_a_file_has_stay_together() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.connection
        .execute(
            "insert into audit_transactions (txid, occurred_at) values (1, '-infinity');
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, captured_at)
             select id, 'public', 'posts', '{}', 'delete', case when n < 8 then '-infinity' else timestamptz '2020-01-01Z' end
             from audit_transactions, generate_series(1, 20) n",
        )
        .await?;
    let purged = host.timeline.purge(&ten_days(), &host.archiving(3)?).await?;
    assert_eq!((purged.deleted_changes, purged.archived.map(|archived| archived.files)), (20, Some(2)));
    let rows: Vec<i64> = host.archives().await?.iter().map(|archive| archive.rows).collect();
    assert_eq!(rows, [7, 13]);
    assert_eq!(entries(&host.archives().await?)?.len(), 20);
    Ok(())
}

#[tokio::test]
async fn readers_say_where_what_is_older_was_archived() -> anyhow::Result<()> {
    let mut host = host().await?;
    let words = async |host: &Host, of: Purgeable<'_>| {
        let reader = host.timeline.reader(Scope::everything());
        Ok::<_, anyhow::Error>(
            horizon(&reader, of).await?.map(|horizon| horizon.to_string()).unwrap_or_default(),
        )
    };
    host.record(&[(1, "public.posts", 20 * DAY)]).await?;
    let with = host.archiving(100)?;
    let run = host.timeline.purge(&ten_days(), &with).await?.run.unwrap();
    let folder = format!("archived in file://{}/{run}", host.archives_in()?.display());
    for of in [Purgeable::Changes, Purgeable::Table(&table("posts"))] {
        let said = words(&host, of).await?;
        assert!(said.starts_with("older than ") && said.ends_with(&format!("Z: {folder}")), "{said}");
    }
    let document = horizon(&host.timeline.reader(Scope::everything()), Purgeable::Changes).await?;
    let archived = json!(document)["archived"].clone();
    assert_eq!(archived["run"], json!(run));
    assert_eq!((&archived["runs"], &archived["is_whole"]), (&json!(1), &json!(true)));
    // One that had nothing to delete moves the horizon, and archives nothing.
    host.timeline.purge(&ten_days(), &with).await?;
    assert!(words(&host, Purgeable::Changes).await?.ends_with(&folder));
    host.record(&[(2, "public.posts", 20 * DAY)]).await?;
    let second = host.timeline.purge(&ten_days(), &with).await?.run.unwrap();
    let said = words(&host, Purgeable::Changes).await?;
    assert!(said.ends_with(&format!("/{second}, and before by another run in folders beside it")), "{said}");
    // What was deleted without an archive is in none.
    host.record(&[(3, "public.posts", 20 * DAY)]).await?;
    let without = host.purge(&ten_days()).await?.run.unwrap();
    let said = words(&host, Purgeable::Changes).await?;
    assert!(said.contains(&format!(": purged by run {without}, in part archived in ")), "{said}");
    Ok(())
}

#[tokio::test]
async fn an_archive_that_cannot_be_made_as_it_was_asked_for_is_refused_before_anything_happens()
-> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "public.posts", 20 * DAY)]).await?;
    let refused = async |archive: Archive| {
        let with = options(|options| {
            options.archive = Some(archive);
            options.actor = Some(ActorRef::anonymous());
        });
        host.timeline.purge(&ten_days(), &with).await.unwrap_err().term()
    };
    let folder = host.archives_in()?;
    assert_eq!(refused(Archive::new("relative")).await, Some("archive_directory"));
    assert_eq!(refused(Archive::new(&folder).rows(0)).await, Some("option_invalid"));
    assert_eq!(refused(Archive::new(&folder).key(folder.join("none.pem"))).await, Some("archive_key"));
    let one = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(&host.database.url).await?;
    let timeline = threadline::Timeline::new(one, host.timeline.schema().clone());
    let term = timeline.purge(&ten_days(), &host.archiving(1)?).await.unwrap_err().term();
    assert_eq!(term, Some("option_invalid"));
    assert_eq!((host.count("threadline_retention_runs").await?, host.count("audit_changes").await?), (0, 1));
    Ok(())
}
