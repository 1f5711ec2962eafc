//! The commands, as a person or a timer runs them.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sandbox::{wait, work_dir::WorkDir};
use serde_json::Value;

use super::{Host, PUBLIC, command, key, threadline};

/// From RFC 8032, section 7.1, test 1, with its public half.
const OTHER: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
const OTHER_PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

const DEADLINE: Duration = Duration::from_secs(60);

fn json(text: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(text)?)
}

#[tokio::test]
async fn what_was_sealed_is_listed_verified_and_handed_over() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let work_dir = WorkDir::create()?;
    let (path, _) = key(&work_dir)?;
    let key = path.display().to_string();
    let none = threadline(&host.database, &["verify"])?;
    assert_eq!(none.status, Some(0));
    assert_eq!(none.out, "there are no receipts: `threadline receipts seal` writes one\n");
    host.run("insert into t (v) values (1), (2)").await?;
    let sealed = threadline(&host.database, &["seal"])?;
    assert_eq!(sealed.status, Some(0), "{}", sealed.error);
    assert!(sealed.out.starts_with("receipt 1: the beginning to "), "{}", sealed.out);
    assert!(
        sealed.out.contains(": 1 transactions, 2 changes, 0 actions; hash ")
            && sealed.out.ends_with("; not signed\n"),
        "{}",
        sealed.out
    );
    let sealed = json(&threadline(&host.database, &["seal", "--key", &key, "--json"])?.out)?;
    assert_eq!(
        (&sealed["n"], &sealed["key"], &sealed["is_elsewhere"]),
        (&2.into(), &PUBLIC.into(), &false.into())
    );
    let listed = threadline(&host.database, &["list"])?.out;
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("receipt 2: ") && lines[0].contains(": nothing; hash "), "{listed}");
    assert_eq!((lines.len(), lines[1].starts_with("receipt 1: ")), (2, true), "{listed}");
    let newest = threadline(&host.database, &["list", "--limit", "1", "--json"])?.out;
    assert_eq!(json(&newest)?["hash"], sealed["hash"]);

    host.run("insert into t (v) values (3)").await?;
    let end = sealed["hash"].as_str().unwrap();
    let verified = threadline(&host.database, &["verify", "--kept", &end.to_uppercase()])?;
    assert_eq!(verified.status, Some(0), "{}{}", verified.out, verified.error);
    let lines: Vec<&str> = verified.out.lines().collect();
    assert!(
        lines[0].starts_with("holds: receipts 1 to 2 of ")
            && lines[0].ends_with("; 1 transactions, 2 changes and 0 actions are what was sealed"),
        "{lines:?}"
    );
    assert_eq!(
        lines[1],
        "1 transactions, 1 changes and 0 actions were committed since: the next receipt takes them"
    );
    assert!(
        lines[2].starts_with("signatures were not compared with a key: without --public-key "),
        "{lines:?}"
    );
    assert_eq!(lines[3], format!("the end is {end}: keep it elsewhere, and give it to --kept later"));
    let compared = |arguments: &[&str]| {
        let ended = threadline(&host.database, &[&["verify", "--json"], arguments].concat())?;
        anyhow::Ok(json(&ended.out)?["signatures_are_compared"].clone())
    };
    assert_eq!((compared(&[])?, compared(&["--public-key", PUBLIC])?), (false.into(), true.into()));
    let unsigned = threadline(&host.database, &["verify", "--public-key", PUBLIC, "--json"])?;
    let found = json(&unsigned.out)?;
    assert_eq!(
        (unsigned.status, &found["holds"], &found["faults"]["counts"]["key_unknown"]),
        (Some(1), &false.into(), &1.into())
    );
    assert_eq!(
        found["faults"]["listed"][0]["words"],
        "receipt 1: it was not signed with a key that was given"
    );

    let bundle = work_dir.path().join("bundle.ndjson");
    let file = bundle.display().to_string();
    let written = threadline(&host.database, &["bundle", "-o", &file])?;
    assert_eq!(
        written.out,
        format!("{file}: receipts 1 to 2 (2), 3 rows; `threadline receipts verify-bundle` verifies it\n"),
        "{}",
        written.error
    );
    let again = threadline(&host.database, &["bundle", "-o", &file])?;
    assert_eq!(again.status, Some(2));
    assert!(again.error.starts_with("error: file_exists: "), "{}", again.error);
    assert_eq!(threadline(&host.database, &["bundle", "-o", &file, "--force", "--json"])?.status, Some(0));
    assert!(!bundle.with_added_extension("partial").exists());
    // Without a database.
    let mut verify =
        command("postgres://nobody@127.0.0.1:9/nothing", &["verify-bundle", &file, "--kept", end]);
    let verified = verify.output()?;
    let said = String::from_utf8(verified.stdout)?;
    assert!(verified.status.success() && said.starts_with("holds: receipts 1 to 2 of "), "{said}");
    let text = std::fs::read_to_string(&bundle)?.replace("\\\"v\\\": 1", "\\\"v\\\": 7");
    std::fs::write(&bundle, text)?;
    let verified = threadline(&host.database, &["verify-bundle", &file])?;
    assert_eq!(verified.status, Some(1));
    assert!(verified.out.starts_with("FAULT: line 4: receipt 1: change "), "{}", verified.out);
    assert!(verified.out.contains("\nDOES NOT HOLD: "), "{}", verified.out);
    what_is_no_bundle_is_called_so(&host, &work_dir, &key)
}

fn what_is_no_bundle_is_called_so(host: &Host, work_dir: &WorkDir, key: &str) -> anyhow::Result<()> {
    let late = work_dir.path().join("late.ndjson").display().to_string();
    let of_nothing = threadline(&host.database, &["bundle", "-o", &late, "--since", "2999-01-01"])?;
    assert_eq!(of_nothing.status, Some(1));
    assert!(
        of_nothing.error.contains("no_receipts: there are receipts, and none of that time")
            && !of_nothing.error.contains("seal"),
        "{}",
        of_nothing.error
    );
    let none = threadline(&host.database, &["verify-bundle", key])?;
    assert_eq!(
        (none.status, none.out.as_str()),
        (
            Some(1),
            "FAULT: line 1: this is no bundle of receipts, which begins otherwise\nDOES NOT HOLD: there are no receipts\n"
        )
    );
    Ok(())
}

/// Otherwise a chain whose key somebody has kept would not verify from one day to the next, and nobody would know why.
#[tokio::test]
async fn a_chain_that_is_signed_goes_on_unsigned_or_with_another_key_only_where_that_is_meant()
-> anyhow::Result<()> {
    let host = Host::new().await?;
    let work_dir = WorkDir::create()?;
    let (path, _) = key(&work_dir)?;
    let key = path.display().to_string();
    let other = work_dir.path().join("other.pem").display().to_string();
    std::fs::write(&other, OTHER)?;
    let run = |arguments: &[&str]| threadline(&host.database, arguments);
    assert_eq!(run(&["seal", "--key", &key])?.status, Some(0));
    for (arguments, error) in [
        (&["seal"][..], "error: receipt_unsigned: receipt 1 is signed with "),
        (&["seal", "--every", "1s"], "error: receipt_unsigned: "),
        (&["seal", "--key", &other], "error: receipt_key_changed: receipt 1 is signed with "),
    ] {
        let refused = run(arguments)?;
        assert_eq!(refused.status, Some(2), "{arguments:?}: {}", refused.out);
        assert!(
            refused.error.starts_with(error) && refused.error.contains("if that is meant"),
            "{arguments:?}: {}",
            refused.error
        );
    }
    let holds = |keys: &[&str]| {
        let keys: Vec<&str> = keys.iter().flat_map(|key| ["--public-key", key]).collect();
        anyhow::Ok(run(&[&["verify"], &keys[..]].concat())?.status == Some(0))
    };
    assert!(holds(&[PUBLIC])?);
    // Verification over a change of keys takes both.
    assert_eq!(run(&["seal", "--key", &other, "--new-key"])?.status, Some(0));
    assert_eq!(
        (holds(&[PUBLIC])?, holds(&[OTHER_PUBLIC])?, holds(&[PUBLIC, OTHER_PUBLIC])?),
        (false, false, true)
    );
    assert_eq!(run(&["seal", "--unsigned"])?.status, Some(0));
    assert_eq!((holds(&[PUBLIC, OTHER_PUBLIC])?, holds(&[])?), (false, true));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_its_term() -> anyhow::Result<()> {
    let host = Host::new().await?;
    for (arguments, status, error) in [
        (
            &["seal", "--key", "/nonexistent/key.pem"][..],
            2,
            "cannot use /nonexistent/key.pem as a key that signs",
        ),
        (&["seal", "--every", "1ms"], 2, "expected at least 1s"),
        (&["verify", "--public-key", "zz"], 2, "cannot use zz as a public key"),
        (&["verify", "--kept", ""], 2, "this is no hash of a receipt, which has 64 hexadecimal digits"),
        (&["verify-bundle", "/tmp/b", "--kept", "abc"], 2, "this is no hash of a receipt"),
        (&["seal", "--new-key"], 2, "--new-key needs a key: "),
        (&["verify-bundle", "/nonexistent/bundle"], 1, "the bundle cannot be read: /nonexistent/bundle"),
        (
            &["bundle", "-o", "/nonexistent/bundle"],
            1,
            "the bundle cannot be written: /nonexistent/bundle.partial",
        ),
        (&["bundle", "-o", "/tmp/b", "--since", "yesterday"], 2, "expected a date"),
        (
            &["bundle", "-o", "/tmp/no-receipts.ndjson"],
            1,
            "no_receipts: there are no receipts: `threadline receipts seal`",
        ),
        (
            &["bundle", "-o", "/tmp/no-receipts.ndjson", "--since", "2026-05-02", "--until", "2026-05-01"],
            2,
            "interval: --since is not before --until",
        ),
        (
            &["bundle", "-o", "/tmp/no-receipts.ndjson", "--since", "2026-05-01", "--until", "2026-05-01"],
            2,
            "interval: --since is not before --until",
        ),
    ] {
        let ended = threadline(&host.database, arguments)?;
        assert_eq!(ended.status, Some(status), "{arguments:?}: {}", ended.error);
        assert!(ended.error.contains(error), "{arguments:?}: {}", ended.error);
    }
    assert!(!std::path::Path::new("/tmp/no-receipts.ndjson").exists());
    Ok(())
}

#[tokio::test]
async fn the_key_is_that_of_the_settings_file() -> anyhow::Result<()> {
    let host = Host::new().await?;
    let work_dir = WorkDir::create()?;
    let (path, _) = key(&work_dir)?;
    let settings = work_dir.path().join("audit.toml");
    std::fs::write(&settings, format!("[receipts]\nkey = {:?}\n", path.display().to_string()))?;
    let sealed = json(
        &threadline(&host.database, &["seal", "--json", "--config", &settings.display().to_string()])?.out,
    )?;
    assert_eq!(sealed["key"], PUBLIC);
    std::fs::write(&settings, "[receipts]\nkeys = 1\n")?;
    let refused = threadline(&host.database, &["seal", "--config", &settings.display().to_string()])?;
    assert_eq!(refused.status, Some(2), "{}", refused.error);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_seals_again_and_again_ends_with_sigterm() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let mut sealer =
        command(&host.database.url, &["seal", "--every", "1s", "--json"]).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(sealer.stdout.take().unwrap()).lines();
    let receipts: Vec<Value> =
        lines.take(2).map(|line| anyhow::Ok(json(&line?)?)).collect::<Result<_, _>>()?;
    assert_eq!((&receipts[0]["n"], &receipts[1]["n"]), (&1.into(), &2.into()));
    kill(Pid::from_raw(sealer.id().cast_signed()), Signal::SIGTERM)?;
    assert_eq!(sealer.wait()?.code(), Some(0));
    wait::until_some("its session to end", DEADLINE, async || {
        let left = host
            .count("pg_stat_activity where datname = current_database() and application_name = 'threadline'")
            .await?;
        Ok((left == 0).then_some(()))
    })
    .await?;
    let receipts = host.count("threadline_receipts").await?;
    assert!((2..5).contains(&receipts), "{receipts}");
    Ok(())
}

/// The most of memory that a process had, in MiB.
fn peak(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// It stops before its receipt, behind everything that it reads.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_thousand_rows_take_no_more_memory_than_a_few() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.run("insert into t (v, note) select n, repeat('x', 500) from generate_series(1, 200000) n").await?;
    host.run("create function hold() returns trigger language plpgsql as 'begin perform pg_sleep(600); return new; end';
        create trigger hold before insert on threadline_receipts for each row execute function hold()").await?;
    let mut sealer =
        command(&host.database.url, &["seal"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    wait::until_some("everything to be read", Duration::from_secs(180), async || {
        let holding = host
            .count("pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'")
            .await?;
        Ok((holding > 0).then_some(()))
    })
    .await?;
    let sealing = peak(&std::fs::read_to_string(format!("/proc/{}/status", sealer.id()))?);
    sealer.kill()?;
    sealer.wait()?;
    assert!(sealing < 64, "{sealing} MiB");
    host.run("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database(); drop trigger hold on threadline_receipts").await?;
    Ok(())
}
