//! What the migrations make is what the doctor compares with.

use common::outbox::capture::catalog;
use sandbox::fixture;

#[tokio::test]
async fn the_file_says_what_the_migrations_make() -> anyhow::Result<()> {
    let source = fixture::source_database().await?;
    let mut connection = source.session().await?;
    let found = catalog::text(&catalog::properties(&mut connection).await?);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/outbox/capture/catalog.txt");
    if std::env::var_os("UPDATE_CATALOG").is_some() {
        std::fs::write(path, &found)?;
    }
    let said = std::fs::read_to_string(path)?;
    let only = |one: &str, other: &str| -> Vec<String> {
        one.lines().filter(|line| !other.lines().any(|other| other == *line)).map(str::to_owned).collect()
    };
    assert_eq!(
        (only(&found, &said), only(&said, &found)),
        (vec![], vec![]),
        "after a new migration run this test once with UPDATE_CATALOG=1"
    );
    assert!(catalog::differences(&mut connection).await?.is_empty());
    Ok(())
}
