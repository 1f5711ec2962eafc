//! A page is read from an index, whatever is asked for, among a million changes.

use sqlx::Executor as _;
use threadline::{
    ActorRef, ActorType, Status,
    query::{Changed, Filter, From, Key, Kind, Name, Op, PageRequest, Table},
};

use super::Read;

const MILLION: &str = include_str!("million.sql");

fn filters() -> Vec<(&'static str, Filter)> {
    let all = Filter::default;
    let table = |name: &str| Some(Table { schema: None, name: name.to_owned() });
    let actor = |id: &str| Some(ActorRef::new(ActorType::User, Some(id)).unwrap());
    let some = |text: &str| Some(text.to_owned());
    let name = |name: &str| Some(Name::Exact(name.to_owned()));
    vec![
        ("everything", all()),
        ("kind:change", Filter { kind: Some(Kind::Change), ..all() }),
        ("kind:event", Filter { kind: Some(Kind::Event), ..all() }),
        ("table:orders", Filter { table: table("orders"), ..all() }),
        ("table:rare", Filter { table: table("rare"), ..all() }),
        ("table:orders key:1", Filter { table: Some(Table { schema: some("public"), name: "orders".into() }), key: Some(Key::Value("1".into())), ..all() }),
        ("op:delete", Filter { op: Some(Op::Delete), ..all() }),
        ("op:truncate", Filter { op: Some(Op::Truncate), ..all() }),
        ("changed:price after", Filter { changed: Some(Changed { column: "price".into(), before: None, after: some("7.50") }), ..all() }),
        ("actor:frequent", Filter { actor: actor("frequent"), ..all() }),
        ("actor:middle", Filter { actor: actor("middle"), ..all() }),
        ("actor:rare", Filter { actor: actor("rare"), ..all() }),
        ("actor:nobody", Filter { actor: actor("nobody"), ..all() }),
        ("actor:frequent table:rare", Filter { actor: actor("frequent"), table: table("rare"), ..all() }),
        ("actor:middle table:orders", Filter { actor: actor("middle"), table: table("orders"), ..all() }),
        ("action:auth.login", Filter { action: name("auth.login"), ..all() }),
        ("action:user.suspended", Filter { action: name("user.suspended"), ..all() }),
        ("action:user.*", Filter { action: Some(Name::Prefix("user.".into())), ..all() }),
        ("status:error", Filter { status: Some(Status::Error), ..all() }),
        ("category", Filter { category: some("billing"), ..all() }),
        ("correlation:c7000", Filter { correlation: some("c7000"), ..all() }),
        ("correlation:none", Filter { correlation: some("none"), ..all() }),
        ("request", Filter { request: some("r100003"), ..all() }),
        ("source", Filter { source: some("web"), ..all() }),
        ("text", Filter { text: some("length 777"), ..all() }),
    ]
}

#[tokio::test]
async fn each_page_is_read_from_an_index_and_visits_few_rows() -> anyhow::Result<()> {
    let mut read = Read::after("select 1").await?;
    for statement in MILLION.split(";\n") {
        read.connection.execute(statement).await?;
    }
    let reader = read.reader();
    for (name, filter) in filters() {
        let mut request = PageRequest::default();
        // The first page, and a deep one.
        for _ in 0..2 {
            for statement in reader.statements(&filter, &request).await? {
                let plan = statement.explain(&mut read.connection).await?.join("\n");
                assert!(!plan.contains("Seq Scan"), "{name}: {}\n{plan}", statement.text());
                // Sorted is what belongs to one transaction or action, or to one correlation id.
                for sort in plan.lines().filter(|line| line.contains("Sort Method")) {
                    assert!(sort.contains("Memory") && !sort.contains("external"), "{name}: {plan}");
                }
                let visited = buffers(&plan);
                assert!(visited <= BLOCKS_MAX, "{name}: {visited} blocks: {}\n{plan}", statement.text());
            }
            for _ in 0..20 {
                let Some(older) = reader.page(&filter, &request).await?.older else { break };
                request.from = From::OlderThan(older);
            }
        }
    }
    Ok(())
}

/// Blocks that a statement visits at most: a few for each row that may be visited.
const BLOCKS_MAX: u64 = 20_000;

/// All blocks that a plan has visited.
fn buffers(plan: &str) -> u64 {
    let line = plan.lines().find(|line| line.contains("Buffers:")).unwrap();
    let count = |what: &str| -> u64 {
        let of = |word: &str| word.strip_prefix(what).and_then(|count| count.parse().ok());
        line.split_whitespace().find_map(of).unwrap_or(0)
    };
    count("hit=") + count("read=")
}
