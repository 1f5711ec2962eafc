//! Whoever changes what was sealed is found, with words, in the database and in a bundle of it.

use sandbox::work_dir::WorkDir;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use threadline::receipts::{Trust, Verification};

use super::{Host, PUBLIC, key, terms};

const TABLES: [&str; 5] = [
    "audit_actions",
    "audit_transactions",
    "audit_changes",
    "threadline_receipts",
    "threadline_receipt_leaves",
];

/// A timeline that was sealed, and somebody who may do everything to it.
struct Sealed {
    host: Host,
    superuser: PgConnection,
    /// Ours is the only key, and the last hash was kept.
    trust: Trust,
}

impl Sealed {
    /// A row or several of each kind in three receipts, with every column filled; and a row that was committed after the last one.
    async fn new() -> anyhow::Result<Self> {
        let mut host = Host::new().await?;
        let work_dir = WorkDir::create()?;
        let (_, key) = key(&work_dir)?;
        let mut end = String::new();
        for n in 1..=3 {
            host.run(format!(
                "begin;
                 set local threadline.actor_ref = '{{\"type\": \"user\", \"id\": \"u1\"}}';
                 set local threadline.context = '{{\"source\": \"web\", \"correlation_id\": \"c{n}\", \"request_id\": \"r1\", \"job_id\": \"j1\", \"tenant\": \"a\"}}';
                 insert into t (v, note) values ({n}, 'x'), ({n}, 'y');
                 update t set note = 'z' where v = {n} and note = 'x';
                 delete from t where v = {n} and note = 'y';
                 insert into audit_actions (name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id)
                 values ('a.b', '{{\"type\": \"user\", \"id\": \"u1\"}}', 'ok', 'v', 'c', 'r', 'x', 'c{n}', 'r1', 'j1');
                 update audit_transactions set meta = '{{\"a\": 1.10}}', action_id = (select id from audit_actions where correlation_id = 'c{n}')
                 where correlation_id = 'c{n}';
                 update audit_changes set partition = 'public.p', key_before = '{{\"id\": \"0\"}}', json_nulls = '{{note}}',
                        changed_from = coalesce(changed_from, '{{}}'), changed_fields = coalesce(changed_fields, '{{note}}'),
                        data_after = coalesce(data_after, '{{}}'), data_before = coalesce(data_before, '{{}}')
                 where transaction_id = (select id from audit_transactions where correlation_id = 'c{n}');
                 commit"
            ))
            .await?;
            let receipt = host.seal_with(&key).await?.receipt;
            assert_eq!((receipt.transactions, receipt.changes, receipt.actions), (1, 4, 1));
            end = receipt.hash;
        }
        host.run("insert into t (v) values (9)").await?;
        let mut superuser = host.database.superuser().await?;
        for table in TABLES {
            superuser.execute(AssertSqlSafe(format!("create table kept_{table} as table {table}"))).await?;
        }
        let trust = Trust::nothing().keys(vec![PUBLIC.to_owned()]).kept(Some(end));
        Ok(Self { host, superuser, trust })
    }

    /// What is found after these statements, online and offline. Everything is as it was afterwards.
    async fn after(&mut self, statements: &str) -> anyhow::Result<[Verification; 2]> {
        // As somebody who knows of the triggers would.
        self.superuser
            .execute(AssertSqlSafe(format!(
                "set session_replication_role = replica; {statements}; reset session_replication_role"
            )))
            .await?;
        let found = self.host.both(&self.trust).await?;
        self.superuser.execute("set session_replication_role = replica; truncate audit_actions, audit_transactions, audit_changes, threadline_receipts, threadline_receipt_leaves").await?;
        for table in TABLES {
            self.superuser
                .execute(AssertSqlSafe(format!("insert into {table} select * from kept_{table}")))
                .await?;
        }
        self.superuser.execute("reset session_replication_role").await?;
        Ok(found)
    }

    /// That exactly this is found, in both ways.
    async fn finds(&mut self, statements: &str, expected: &[&str]) -> anyhow::Result<[Verification; 2]> {
        let found = self.after(statements).await?;
        for (way, found) in ["online", "offline"].iter().zip(&found) {
            assert_eq!(terms(found), expected, "{way}, {statements}: {:?}", found.faults.listed);
        }
        Ok(found)
    }
}

const UPDATE: &str = "id = (select c.id from audit_changes c join audit_transactions t on t.id = c.transaction_id where t.correlation_id = 'c2' and c.op = 'update')";

/// A new value for each column of each table.
const CHANGED: [(&str, &str, &[&str]); 3] = [
    (
        "audit_transactions",
        "correlation_id = 'c2'",
        &[
            "txid = 3",
            "occurred_at = occurred_at + interval '1 microsecond'",
            "occurred_at = '-infinity'",
            "source = 'job'",
            "meta = '{\"a\": 1.1}'",
            "actor_ref = '{\"id\": \"u2\", \"type\": \"user\"}'",
            "action_id = null",
            "correlation_id = 'c4'",
            "request_id = null",
            "job_id = ''",
            "context = null",
        ],
    ),
    (
        "audit_changes",
        UPDATE,
        &[
            "transaction_id = (select id from audit_transactions where correlation_id = 'c1')",
            "table_schema = 'other'",
            "table_name = 'u'",
            "table_pk = '{\"id\": \"7\"}'",
            "op = 'insert'",
            "data_after = null",
            "data_after = data_after || '{\"v\": 2.0}'",
            "changed_fields = '{}'",
            "changed_fields = '{{note}}'",
            "changed_fields = '{NULL}'",
            "changed_fields = null",
            "changed_from = '{\"note\": \"y\"}'",
            "captured_at = captured_at - interval '1 year'",
            "captured_at = 'infinity'",
            "key_before = null",
            "data_before = null",
            "partition = null",
            "json_nulls = '{note,note}'",
            "position = position + 1",
        ],
    ),
    (
        "audit_actions",
        "correlation_id = 'c2'",
        &[
            "name = 'a.c'",
            "actor_ref = '\"u1\"'",
            "status = 'error'",
            "verb = null",
            "category = 'v'",
            "reason = 'R'",
            "comment = ''",
            "correlation_id = id::text",
            "request_id = 'r2'",
            "job_id = null",
            "inserted_at = '2020-01-01Z'",
            "txid = null",
        ],
    ),
];

#[tokio::test]
async fn a_change_of_any_column_is_found_in_its_row() -> anyhow::Result<()> {
    let mut sealed = Sealed::new().await?;
    sealed.finds("select 1", &[]).await?;
    for (table, row, changes) in CHANGED {
        for change in changes {
            let found =
                sealed.finds(&format!("update {table} set {change} where {row}"), &["row_changed"]).await?;
            for found in found {
                let fault = &found.faults.listed[0];
                assert_eq!(fault.receipt, Some(2), "{table}: {change}");
                let named = fault.row.as_ref().unwrap();
                assert!(table.starts_with(&format!("audit_{}", named.kind)), "{table}: {fault}");
                assert_eq!(named.table.is_some(), table == "audit_changes", "{fault}");
            }
        }
    }
    // What was erased is in no leaf: the suite of erasure changes that column.
    let columns: i64 = sealed
        .host
        .count("information_schema.columns where table_name in ('audit_transactions', 'audit_changes', 'audit_actions') and column_name not in ('id', 'erased')")
        .await?;
    let mut tried: Vec<String> = CHANGED
        .iter()
        .flat_map(|(table, _, changes)| {
            changes.iter().map(move |change| format!("{table} {}", change.split(' ').next().unwrap()))
        })
        .collect();
    tried.sort_unstable();
    tried.dedup();
    assert_eq!(i64::try_from(tried.len())?, columns, "each column is tried");
    Ok(())
}

#[tokio::test]
async fn a_row_of_another_id_is_one_that_was_removed_and_one_that_was_slipped_in() -> anyhow::Result<()> {
    let mut sealed = Sealed::new().await?;
    for (table, row, _) in CHANGED {
        let statement = format!("update {table} set id = 'd0000000-0000-4000-8000-000000000001' where {row}");
        let [online, _] = sealed.finds(&statement, &["row_removed", "row_added"]).await?;
        let words: Vec<String> = online.faults.listed.iter().map(ToString::to_string).collect();
        assert!(words[0].starts_with("receipt 2: "), "{words:?}");
        assert!(words[1].contains("d0000000-0000-4000-8000-000000000001"), "{words:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_row_that_was_removed_is_found() -> anyhow::Result<()> {
    let mut sealed = Sealed::new().await?;
    for (table, row, _) in CHANGED {
        sealed.finds(&format!("delete from {table} where {row}"), &["row_removed"]).await?;
    }
    // With its changes, as the table's own trigger does.
    let whole = "reset session_replication_role; delete from audit_transactions where correlation_id = 'c2'";
    let [online, _] = sealed.finds(whole, &["row_removed"; 5]).await?;
    assert_eq!(online.compared.rows(), 13);
    Ok(())
}

#[tokio::test]
async fn a_row_that_was_slipped_in_is_found_with_its_table_and_key() -> anyhow::Result<()> {
    let mut sealed = Sealed::new().await?;
    let old = "insert into audit_transactions (id, txid, occurred_at) values ('b0000000-0000-4000-8000-000000000001', 7, '2020-01-01Z');
        insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, captured_at)
        values ('b0000000-0000-4000-8000-000000000001', 'public', 't', '{\"id\": \"77\"}', 'insert', '2020-01-01Z');
        insert into audit_actions (name, actor_ref, status, txid, inserted_at) values ('a.b', '{}', 'ok', 7, '2020-01-01Z')";
    for found in sealed.finds(old, &["row_added"; 3]).await? {
        let fault = found.faults.listed.iter().find(|fault| fault.to_string().contains("public.t")).unwrap();
        assert_eq!(fault.row.as_ref().unwrap().key.as_deref(), Some("{\"id\": \"77\"}"), "{fault}");
    }
    let within = "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
        select id, 'public', 't', '{}', 'delete' from audit_transactions where correlation_id = 'c2'";
    sealed.finds(within, &["row_added"]).await?;
    let nowhere = "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op) values (gen_random_uuid(), 'public', 't', '{}', 'delete')";
    sealed.finds(nowhere, &["row_added"]).await?;
    let unnumbered =
        "insert into audit_actions (name, actor_ref, status, txid) values ('a.b', '{}', 'ok', null)";
    sealed.finds(unnumbered, &["row_added"]).await?;
    // More than are listed.
    let many = "insert into audit_actions (name, actor_ref, status, txid) select 'a.b', '{}', 'ok', 7 from generate_series(1, 250)";
    for found in sealed.after(many).await? {
        assert_eq!((found.faults.count(), found.faults.listed.len()), (250, 100));
    }
    Ok(())
}

#[tokio::test]
async fn a_change_of_leaves_is_found() -> anyhow::Result<()> {
    let mut sealed = Sealed::new().await?;
    let second = "threadline_receipt_leaves set leaves";
    // Of a hash, of an id, one that is gone, one that is there twice, another order, a kind that there is not, bytes that are none.
    for (change, expected) in [
        ("set_byte(leaves, 20, get_byte(leaves, 20) # 1)", &["leaves_changed", "row_changed"][..]),
        ("set_byte(leaves, 3, get_byte(leaves, 3) # 1)", &["leaves_changed", "row_removed", "row_added"]),
        ("substring(leaves from 50)", &["leaves_changed", "row_added"]),
        ("leaves || substring(leaves for 49)", &["leaves_changed"]),
        ("substring(leaves from 50) || substring(leaves for 49)", &["leaves_changed"]),
        ("set_byte(leaves, 0, 9)", &["leaves_changed", "row_added"]),
        (
            "''",
            &["leaves_changed", "row_added", "row_added", "row_added", "row_added", "row_added", "row_added"],
        ),
    ] {
        let found = sealed.after(&format!("update {second} = {change} where n = 2")).await?;
        for (way, found) in ["online", "offline"].iter().zip(&found) {
            assert_eq!(terms(found), expected, "{way}, {change}: {:?}", found.faults.listed);
        }
    }
    let long = "update threadline_receipt_leaves set leaves = decode(repeat('00', 4096 * 49 + 1), 'hex') where n = 2";
    let [online, offline] = sealed.after(long).await?;
    assert_eq!((terms(&online), terms(&online)[0].as_str()), (terms(&offline), "leaves_changed"));
    let part = "insert into threadline_receipt_leaves select 2, 1, leaves from threadline_receipt_leaves where n = 1";
    let [online, _] = sealed.finds(part, &["leaves_changed"]).await?;
    let words = online.faults.listed[0].to_string();
    assert!(words.contains("4 changes sealed, 8 found"), "{words}");
    // A slipped in row does not become an old one by a leaf of its own.
    let both = "insert into audit_actions (id, name, actor_ref, status, txid) values ('d0000000-0000-4000-8000-000000000001', 'a.b', '{}', 'ok', 7);
        update threadline_receipt_leaves set leaves = leaves || '\\x03d0000000000040008000000000000001'::bytea || decode(repeat('00', 32), 'hex') where n = 2";
    sealed.finds(both, &["leaves_changed", "row_changed"]).await?;
    // A bundle has the leaves of its receipts alone, and nothing that is none.
    let [online, offline] = sealed
        .after("update threadline_receipt_leaves set leaves = leaves || 'x'::bytea where n = 2")
        .await?;
    assert_eq!((terms(&online), terms(&offline)), (vec!["leaves_changed".to_owned()], vec![]));
    let stray = "insert into threadline_receipt_leaves select 99, 0, leaves from threadline_receipt_leaves where n = 1;
        insert into threadline_receipt_leaves select 0, 0, leaves from threadline_receipt_leaves where n = 1";
    let [online, offline] = sealed.after(stray).await?;
    assert_eq!(terms(&online), ["leaves_added", "leaves_added"]);
    assert_eq!(terms(&offline), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_change_of_a_receipt_or_of_the_chain_is_found() -> anyhow::Result<()> {
    let mut sealed = Sealed::new().await?;
    for (change, expected) in [
        ("changes = changes + 1", &["receipt_changed", "leaves_changed"][..]),
        ("digest = repeat('0', 64)", &["receipt_changed", "leaves_changed"]),
        ("database = database || 'x'", &["receipt_changed"]),
        ("until = until + interval '1 second'", &["receipt_changed", "chain_broken"]),
        ("until = 'infinity'", &["receipt_changed", "chain_broken"]),
        ("since = null", &["receipt_changed", "chain_broken"]),
        ("position = '1:2:'", &["receipt_changed", "chain_broken"]),
        ("position_before = null", &["receipt_changed", "chain_broken"]),
        ("sealed_at = '-infinity'", &["receipt_changed"]),
        ("previous = hash", &["receipt_changed", "chain_broken"]),
        ("hash = upper(hash)", &["receipt_changed", "chain_broken", "signature_invalid"]),
        ("key = null, signature = null", &["receipt_changed", "key_unknown"]),
        ("key = repeat('0', 64)", &["receipt_changed", "signature_invalid", "key_unknown"]),
        ("signature = null", &["signature_invalid"]),
        ("signature = '+1'", &["signature_invalid"]),
    ] {
        sealed.finds(&format!("update threadline_receipts set {change} where n = 2"), expected).await?;
    }
    // Without its leaves its rows are in no receipt.
    let removed =
        "delete from threadline_receipts where n = 2; delete from threadline_receipt_leaves where n = 2";
    let expected = [
        "receipt_missing",
        "chain_broken",
        "row_added",
        "row_added",
        "row_added",
        "row_added",
        "row_added",
        "row_added",
    ];
    sealed.finds(removed, &expected).await?;
    let first = "delete from threadline_receipts where n = 1";
    let [online, offline] = sealed.after(first).await?;
    assert_eq!(terms(&online), ["receipt_missing", "leaves_added"]);
    // A bundle may begin later, and says with which receipt.
    assert_eq!((terms(&offline), offline.numbers), (vec![], Some((2, 3))));
    Ok(())
}

/// Whoever may write everything can cut the end, or write all of it again; what was kept elsewhere, and the key, are what they lack.
#[tokio::test]
async fn a_chain_that_was_cut_or_written_again_does_not_have_what_was_kept() -> anyhow::Result<()> {
    let mut sealed = Sealed::new().await?;
    let cut =
        "delete from threadline_receipts where n = 3; delete from threadline_receipt_leaves where n = 3";
    let [online, _] = sealed.finds(cut, &["chain_cut"]).await?;
    assert_eq!(online.pending.rows(), 8, "rows of the last receipt look new again");
    sealed.host.run("delete from threadline_receipts; delete from threadline_receipt_leaves").await?;
    sealed.host.run("update audit_changes set op = 'delete'").await?;
    for _ in 0..3 {
        sealed.host.seal().await?;
    }
    let [online, offline] = sealed.host.both(&sealed.trust).await?;
    assert_eq!(terms(&online), ["key_unknown", "key_unknown", "key_unknown", "chain_cut"]);
    assert_eq!(terms(&offline), terms(&online));
    let [online, _] = sealed.host.both(&Trust::nothing()).await?;
    assert!(online.holds(), "without either nobody can tell: {online:?}");
    Ok(())
}

/// The key of the table keeps it away, unless somebody takes that away or puts something else in the table's place.
#[tokio::test]
async fn a_further_row_with_the_id_of_a_sealed_one_is_found() -> anyhow::Result<()> {
    let forged = "select (jsonb_populate_record(c, '{\"op\": \"delete\"}')).*";
    for way in [
        format!(
            "alter table audit_changes drop constraint audit_changes_pkey;
             insert into audit_changes overriding system value {forged} from audit_changes c where {UPDATE}"
        ),
        format!(
            "create table more () inherits (audit_changes);
             insert into more {forged} from only audit_changes c where {UPDATE}"
        ),
        format!(
            "create table forged as {forged} from audit_changes c where {UPDATE};
             alter table audit_changes rename to theirs;
             create view audit_changes as select * from theirs union all select * from forged;
             grant select on audit_changes to public"
        ),
    ] {
        let mut sealed = Sealed::new().await?;
        let statements = AssertSqlSafe(format!("set session_replication_role = replica; {way}"));
        sealed.superuser.execute(statements).await?;
        for (route, found) in ["online", "offline"].iter().zip(sealed.host.both(&sealed.trust).await?) {
            let terms = terms(&found);
            // Which of the two comes first is not said.
            let is_found = terms == ["row_added"] || terms == ["row_changed", "row_added"];
            assert!(is_found, "{route}, {way}: {terms:?}");
        }
    }
    Ok(())
}
