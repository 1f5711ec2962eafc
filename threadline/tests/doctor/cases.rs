//! How each check comes to find something, and what ends it where no remedy can.

/// What makes a check find something.
pub(crate) struct Case {
    pub(crate) id: &'static str,
    pub(crate) state: &'static str,
    /// Run as a superuser; `{database}` is the name of the database.
    pub(crate) provoked: &'static str,
    /// Commands of ours that run afterwards.
    pub(crate) commands: &'static [&'static str],
    /// The settings from then on; without it they stay.
    pub(crate) settings: Option<&'static str>,
    /// What is found besides.
    pub(crate) also: &'static [&'static str],
    /// What a person does where remedies only advise, or show.
    pub(crate) healed: &'static str,
}

const fn case(id: &'static str, state: &'static str, provoked: &'static str) -> Case {
    Case { id, state, provoked, commands: &[], settings: None, also: &[], healed: "" }
}

pub(crate) const CASES: &[Case] = &[
    case("capture.schema", "failed", "drop index audit_changes_captured_at_id_idx"),
    Case {
        also: &["capture.own_triggers"],
        ..case("capture.schema", "failed", "drop trigger audit_transactions_delete_changes on audit_transactions")
    },
    case("capture.migrations", "attention", "delete from threadline_migrations where version = (select max(version) from threadline_migrations)"),
    Case {
        healed: "delete from threadline_migrations where version = 9999",
        ..case(
            "capture.migrations",
            "failed",
            "insert into threadline_migrations select 9999, description, installed_on, success, checksum, execution_time
             from threadline_migrations order by version desc limit 1",
        )
    },
    case("capture.durable", "failed", "alter table threadline_saved_views set unlogged"),
    Case {
        also: &["brownfield.readiness"],
        ..case("capture.tables", "failed", "create table notes (id int primary key); alter table notes owner to owner")
    }
    .with_settings("[capture.tables.\"public.users\"]\nmask = [\"email\"]\n[capture.tables.\"public.notes\"]\n"),
    case("capture.tables", "attention", "select 1").with_settings("[threadline]\n"),
    case("capture.undecided", "attention", "create table notes (id int primary key); alter table notes owner to owner"),
    Case {
        also: &["capture.tables", "brownfield.readiness"],
        ..case("capture.triggers", "failed", "alter table users disable trigger threadline_audit_users")
    },
    Case {
        also: &["capture.tables", "brownfield.readiness"],
        commands: &["capture off --tables public.users --actor admin:a1 --reason maintenance"],
        ..case("capture.off", "failed", "select 1")
    },
    Case {
        also: &["brownfield.keys"],
        ..case(
            "capture.keys",
            "attention",
            "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after)
             select id, 'public', 'users', '{}', 'insert', '{\"id\": 7}' from audit_transactions limit 1",
        )
    },
    Case {
        also: &["capture.keys"],
        ..case(
            "brownfield.keys",
            "attention",
            "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after)
             select id, 'public', 'users', '{\"id\": null}', 'update', '{\"id\": 7}' from audit_transactions limit 1",
        )
    },
    case(
        "capture.own_triggers",
        "failed",
        "alter table audit_transactions disable trigger audit_transactions_delete_changes;
         alter table audit_transactions enable replica trigger audit_transactions_keep_changes",
    ),
    case(
        "capture.other_triggers",
        "attention",
        "create function theirs() returns trigger language plpgsql as 'begin return new; end';
         create trigger \"Their own\" before insert on audit_actions for each row execute function theirs()",
    ),
    case("capture.other_triggers", "attention", "create rule quiet as on delete to audit_changes do instead nothing"),
    case("capture.replica_role", "failed", "alter database {database} set session_replication_role = replica"),
    case("capture.replica_role", "failed", "alter role owner in database {database} set session_replication_role = replica"),
    case("capture.row_security", "failed", "alter table audit_changes enable row level security, force row level security"),
    case("capture.owner", "failed", "alter function threadline_hmac(text, text) owner to postgres"),
    case("capture.rights", "failed", "grant update, truncate on audit_changes to audit_reader; grant delete on audit_actions to public"),
    case("capture.rights", "failed", "grant update (summary_status) on threadline_evidence_records to audit_reader"),
    Case {
        healed: "update audit_transactions set actor_ref = '{\"type\": \"system\", \"id\": \"import\"}' where actor_ref is null",
        ..case(
            "actors.known",
            "attention",
            "insert into audit_transactions (txid) select -n from generate_series(1, 30) n",
        )
    },
    Case {
        healed: "update audit_transactions set actor_ref = '{\"type\": \"anonymous\"}'",
        ..case("actors.shape", "attention", "update audit_transactions set actor_ref = '\"text\"'")
    },
    Case {
        healed: "update audit_transactions set actor_ref = '{\"type\": \"user\", \"id\": \"u1\"}'",
        ..case("actors.shape", "attention", "update audit_transactions set actor_ref = '{\"type\": \"user\", \"id\": 7}'")
    },
    Case {
        healed: "update audit_transactions set context = null",
        ..case("actors.context", "attention", "set threadline.context = 'no json'; update users set email = 'b@example.org'")
    },
    Case {
        healed: "update audit_actions set correlation_id = 'c2'",
        ..case(
            "actors.correlation",
            "attention",
            "insert into audit_actions (name, actor_ref, status) select 'a.b', '{\"type\": \"anonymous\"}', 'ok' from generate_series(1, 30)",
        )
    },
    case("redaction.drift", "failed", "select 1").with_settings("[capture.tables.\"public.users\"]\nexclude = [\"email\"]\n"),
    case(
        "redaction.introspection",
        "attention",
        "create table posts (id int primary key); alter table posts owner to owner;
         create function threadline_capture_changes_posts() returns trigger language plpgsql as 'begin return null; end';
         alter function threadline_capture_changes_posts() owner to owner;
         create trigger threadline_audit_posts after insert or update or delete on posts
         for each row execute function threadline_capture_changes_posts('id')",
    ),
    Case {
        also: &["redaction.drift"],
        commands: &["gen-triggers --tables public.accounts --exclude email --apply"],
        ..case(
            "redaction.secrets",
            "attention",
            "create table accounts (id int primary key, email text, api_token text, \"passwordDigest\" bytea, password_changed_at timestamptz);
             alter table accounts owner to owner",
        )
    },
    Case {
        commands: &["gen-triggers --tables public.sessions --apply"],
        healed: "drop table sessions; delete from threadline_capture_policies where table_name = 'sessions'",
        ..case(
            "redaction.secrets",
            "attention",
            "create table sessions (token text primary key); alter table sessions owner to owner",
        )
    },
    case("redaction.hash_keys", "failed", "grant select (id) on threadline_hash_keys to audit_reader"),
    Case {
        healed: "insert into threadline_retention_runs (status, started_at, completed_at) values ('completed', now(), now())",
        ..case("retention.runs", "attention", "delete from threadline_retention_runs")
    },
    Case {
        healed: "insert into threadline_retention_runs (status, started_at, completed_at, inserted_at)
                 values ('completed', now(), now(), now() + interval '1 second')",
        ..case(
            "retention.runs",
            "attention",
            "insert into threadline_retention_runs (status, started_at, completed_at) values ('failed', now(), now())",
        )
    },
    Case {
        healed: "update threadline_retention_runs set status = 'completed', completed_at = now() where status = 'running'",
        ..case(
            "retention.runs",
            "attention",
            "insert into threadline_retention_runs (status, started_at) values ('running', now() - interval '25 hours')",
        )
    },
    Case {
        healed: "insert into threadline_retention_runs (status, started_at, completed_at) values ('completed', now(), now())",
        ..case(
            "retention.runs",
            "attention",
            "update threadline_retention_runs set completed_at = now() - interval '49 hours'",
        )
    },
    Case {
        healed: "insert into threadline_archives (id, run, what, cutoff, rows, bytes, location, sha256, manifest_sha256, snapshot)
                 select gen_random_uuid(), r.id, 'changes', now(), 7, 1, 'file:///archive/b/1.ndjson', '', '', '' from threadline_retention_runs r
                 where r.deleted_count = 7",
        ..case(
            "retention.archives",
            "attention",
            "insert into threadline_archives (id, run, what, cutoff, rows, bytes, location, sha256, manifest_sha256, snapshot)
             select gen_random_uuid(), r.id, 'changes', now(), 1, 1, 'file:///archive/a/1.ndjson', '', '', '' from threadline_retention_runs r;
             insert into threadline_retention_runs (status, started_at, completed_at, deleted_count, inserted_at)
             values ('completed', now(), now(), 7, now() + interval '1 second')",
        )
    },
    Case {
        healed: "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
                 select id, 'public', 'usres', '{\"id\": \"1\"}', 'delete' from audit_transactions limit 1",
        ..case("retention.tables", "attention", "select 1")
    }
    .with_settings(
        "[capture.tables.\"public.users\"]\nmask = [\"email\"]\n[retention]\nkeep_days = 400\n[retention.tables]\n\"public.usres\" = { keep_days = 30 }\n",
    ),
    Case {
        healed: "delete from audit_changes where captured_at < now() - interval '32 days'",
        ..case(
            "retention.window",
            "attention",
            "alter table threadline_retention_runs add column if not exists windows jsonb;
             update threadline_retention_runs
             set windows = jsonb_build_object('default', started_at - interval '30 days', 'tables', '{\"public.kept\": \"-infinity\"}'::jsonb);
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, captured_at)
             select id, 'public', w.name, '{\"id\": \"1\"}', 'delete', now() - w.age
             from audit_transactions, (values ('kept', interval '900 days'), ('users', interval '33 days')) w (name, age)",
        )
    },
    case(
        "export.jobs",
        "attention",
        "insert into threadline_export_jobs (status, query_params, started_at) values ('running', '{}', now() - interval '25 hours')",
    ),
    case(
        "export.jobs",
        "attention",
        "insert into threadline_export_jobs (status, query_params, request, due_at) values ('pending', '{}', '{}', now() - interval '2 hours')",
    ),
    case(
        "export.jobs",
        "attention",
        "insert into threadline_export_jobs (status, query_params, request, due_at, holder, lease_until, attempts)
         values ('running', '{}', '{}', now() - interval '3 hours', 'process 1', now() - interval '2 hours', 1)",
    ),
    case(
        "export.files",
        "attention",
        "insert into threadline_export_jobs (status, query_params, request, keep_until) values ('completed', '{}', '{}', now() - interval '2 hours')",
    ),
    Case {
        healed: "update threadline_export_jobs set file_path = null",
        ..case("export.files", "attention", "update threadline_export_jobs set expires_at = now() - interval '1 second'")
    },
    case("observability.vacuum", "attention", "alter table audit_changes set (autovacuum_enabled = off)"),
    case(
        "observability.indexes",
        "failed",
        "update pg_index set indisvalid = false where indexrelid = 'audit_changes_captured_at_id_idx'::regclass",
    ),
    case("observability.spare_indexes", "attention", "create index audit_actions_name_idx on audit_actions (name)"),
    case("observability.spare_indexes", "attention", "create index one on audit_changes (captured_at desc); create index \"An other\" on audit_changes (captured_at)"),
    case("observability.spare_indexes", "attention", "create index on audit_actions using gin (actor_ref)"),
    case("observability.spare_indexes", "attention", "create index audit_actions_correlation_id_idx on audit_actions (correlation_id)"),
    Case {
        healed: "update audit_changes set captured_at = now()",
        ..case("observability.clock", "attention", "update audit_changes set captured_at = clock_timestamp() + interval '1 hour'")
    },
    Case {
        healed: "update audit_changes set captured_at = now()",
        ..case("observability.clock", "attention", "update audit_changes set captured_at = 'infinity'")
    },
    Case {
        healed: "update audit_transactions set txid = -1",
        ..case("observability.cluster", "attention", "update audit_transactions set txid = txid_current() + 1000000000")
    },
    Case {
        also: &["capture.tables", "capture.triggers"],
        ..case("brownfield.readiness", "failed", "drop trigger threadline_audit_users on users")
    },
    case(
        "brownfield.triggers",
        "attention",
        "create table posts (id int primary key); alter table posts owner to owner;
         create trigger threadline_audit_posts after insert or update or delete on posts
         for each row execute function threadline_capture_changes()",
    ),
    Case {
        also: &["redaction.introspection", "brownfield.readiness"],
        ..case(
            "brownfield.functions",
            "failed",
            "create trigger threadline_audit_old after insert or update or delete on users
             for each row execute function threadline_capture_changes('id')",
        )
    },
];

impl Case {
    const fn with_settings(self, settings: &'static str) -> Self {
        Self { settings: Some(settings), ..self }
    }
}
