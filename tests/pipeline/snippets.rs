//! What the pages show can be pasted.

use std::{fs, path::Path};

use anyhow::Context as _;
use common::settings::Layers;
use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::wait;
use sqlx::Executor as _;

/// The blocks of a page in TOML that hold forwarders.
fn blocks(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs").join(page);
    let text = fs::read_to_string(path).expect("a page of docs/");
    let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.contains("[[forwarder]]")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_pages_say_of_forwarders_can_be_pasted_and_keeps_the_timeline() -> anyhow::Result<()> {
    let pages = blocks("forwarders.md");
    assert!(!pages.is_empty());
    for snippet in pages {
        let (settings, _) = Layers::default().text(&snippet, "forwarders.md")?.build()?;
        assert!(settings.forwarder.iter().any(|one| one.id.as_str() == "timeline"), "{snippet}");
        // Whoever runs without a list has what the default one has.
        let pipeline = Pipeline::new().await?;
        let _publisher = pipeline.publisher()?;
        let consumer = pipeline.consumer()?;
        let (rows, ids) = samples(3);
        pipeline.commit(&rows).await?;
        pipeline.arrive(&ids).await?;
        drop(consumer);
        // Nobody is there, which holds up nobody else.
        let secret = pipeline.path("siem");
        fs::write(&secret, "sixteen bytes ok")?;
        let pasted = snippet
            .replace("/run/secrets/siem", &secret.display().to_string())
            .replace("https://siem.example/", "http://127.0.0.1:9/");
        pipeline.configure(&pasted)?;
        let (done, said) = pipeline.command("consumer", &["config", "check"])?;
        assert!(done, "{said}");
        // A webhook is given all columns, the personal ones too.
        let grant = "grant select on audit_events to audit_consumer";
        pipeline.source.connect().await?.execute(grant).await?;
        let consumer = pipeline.consumer()?;
        let (rows, ids) = samples(3);
        pipeline.commit(&rows).await?;
        pipeline.arrive(&ids).await.with_context(|| consumer.log())?;
        assert!(!consumer.log().contains("durable-unused"), "{}", consumer.log());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_with_work_is_kept_and_its_forwarder_continues_where_it_was() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let mut consumer = pipeline.consumer()?;
    let (first, ids) = samples(3);
    pipeline.commit(&first).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    consumer.terminate(DEADLINE)?;
    let (second, later) = samples(4);
    pipeline.commit(&second).await?;
    pipeline.references(7).await?;

    pipeline.configure("[[forwarder]]\nid = \"other\"\nkind = \"noop\"")?;
    let mut consumer = pipeline.consumer()?;
    wait::until("a warning that says how to keep it", DEADLINE, || {
        let log = consumer.log();
        log.contains("durable-unused") && log.contains("id = \\\"timeline\\\" kind = \\\"threadline\\\"")
    })?;
    consumer.terminate(DEADLINE)?;
    let dropping = ["drop-durable", "timeline", "--reason", "because the doctor said so"];
    let (done, said) = pipeline.command("consumer", &dropping)?;
    assert!(!done && said.contains("1 message(s) wait for forwarder timeline"), "{said}");
    let (_, answer) = pipeline.ask("consumer", &["doctor"])?;
    let found =
        answer["findings"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "durable-unused"));
    let remedy = found.map(|one| one["remedy"].to_string()).unwrap_or_default();
    assert!(remedy.contains("to keep it") && !remedy.contains("--reason"), "{answer}");

    pipeline.configure("[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"")?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&later).await
}
