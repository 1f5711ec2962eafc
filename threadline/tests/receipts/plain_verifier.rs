//! Somebody else's verifier, written after the page alone, agrees.

use std::process::Command;

use sandbox::work_dir::WorkDir;
use threadline::receipts::Trust;

use super::{Host, key, offline};

/// Its exit status, and what it says.
fn verified(work_dir: &WorkDir, bundle: &[u8]) -> anyhow::Result<(bool, String)> {
    let path = work_dir.path().join("bundle.ndjson");
    std::fs::write(&path, bundle)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/receipts/verify_bundle.py");
    let ran = Command::new("python3").arg(script).arg(&path).output()?;
    let said = [ran.stdout, ran.stderr].concat();
    Ok((ran.status.success(), String::from_utf8(said)?.trim().to_owned()))
}

#[tokio::test]
async fn a_verifier_of_seventy_lines_of_python_agrees() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let work_dir = WorkDir::create()?;
    let (_, key) = key(&work_dir)?;
    host.run(super::values::HOSTILE).await?;
    host.seal_with(&key).await?;
    host.seal().await?;
    host.run(
        "insert into t (v, note) select n, 'ä' || n from generate_series(1, 5000) n; update t set note = null where v < 100; delete from t where v > 4000;
         insert into audit_actions (name, actor_ref, status) values ('a.b', '{}', 'ok')",
    )
    .await?;
    let end = host.seal_with(&key).await?.receipt.hash;
    let bundle = host.bundle().await?;
    assert_eq!(verified(&work_dir, &bundle)?, (true, format!("holds: {end}")));
    host.run("update audit_changes set op = 'delete' where table_pk = '{\"id\": \"7\"}'; delete from audit_actions where name = 'a.b'").await?;
    let changed = host.bundle().await?;
    let (holds, said) = verified(&work_dir, &changed)?;
    let ours = offline(&changed, &Trust::nothing())?;
    assert!(!holds && said.contains("was changed") && said.contains("was slipped in or removed"), "{said}");
    assert_eq!(said.lines().count() as u64, ours.faults.count(), "{said}");
    let cut = &bundle[..bundle.len() - 20];
    assert!(!verified(&work_dir, cut)?.0);
    Ok(())
}
