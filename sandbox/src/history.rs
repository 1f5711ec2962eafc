//! A shop with some days behind it, for a demo that is left running: tables whose changes are captured, made by people and programs with
//! names, and events that cannot be delivered. It lives beside the timeline, because captured tables do.

use std::time::Duration;

use common::identifier::TableName;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool};
use threadline::{Action, ActorRef, ActorType, AuditContext, Audited, Status, StorageSchema, Timeline};

use crate::{
    audit::{self, AuditRow},
    wait,
};

/// What the settings say of the shop's tables, and of who sees its pages: whoever reaches them, and everything.
pub(crate) const SETTINGS: &str = "
[capture.tables.\"public.accounts\"]
mask = [\"email\"]
[capture.tables.\"public.orders\"]
[capture.tables.\"public.order_lines\"]
[coverage]
expected = [\"accounts\", \"orders\", \"order_lines\"]
expected_uncovered = [\"carts\"]
[retention]
enabled = true
keep_days = 400
[operator]
metrics_listen = \"off\"
[operator.auth]
kind = \"none\"
[operator.auth.none]
actor = \"admin:demo\"
capabilities = [\"views\", \"export\", \"coverage\", \"policies\", \"evidence\", \"pipeline\", \"redrive\", \"verify\"]
";

/// The shop's tables.
const TABLES: &str = "
create table accounts (id bigint primary key, name text not null, email text not null, city text not null, plan text not null);
create table orders (id bigint primary key, account_id bigint not null references accounts, status text not null, total numeric(12, 2) not null, note text);
create table order_lines (order_id bigint references orders, line int, sku text not null, quantity int not null, price numeric(12, 2) not null, primary key (order_id, line));
create table carts (id bigint primary key, account_id bigint not null references accounts);
";

/// Rules of the owner's on the timeline: one refuses an action for good, one for now. What is delivered meanwhile goes by them too.
const RULES: &str = "
alter table audit_actions add constraint no_voided_invoices check (name <> 'invoice.voided') not valid;
create function refuse_payouts() returns trigger language plpgsql as $$ begin
    raise exception 'the ledger is locked' using errcode = 'lock_not_available';
end $$;
create trigger refuse_payouts before insert on audit_actions for each row when (new.name = 'payout.sent') execute function refuse_payouts();
";

/// Orders that the shop has had.
const ORDERS: i64 = 60;

/// The days in which it had them.
const DAYS: f64 = 4.0;

/// How long it may take until all of [`UNDELIVERABLE`] have failed.
const FAILING_DEADLINE: Duration = Duration::from_secs(60);

/// Actions that the timeline will not have.
const UNDELIVERABLE: [&str; 3] = ["invoice.voided", "invoice.voided", "payout.sent"];

/// Creates the shop's tables.
pub(crate) async fn create_tables(timeline: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(timeline).await?;
    connection.execute(TABLES).await?;
    Ok(connection.close().await?)
}

/// Plays the days of the shop; returns how many transactions and actions they had.
pub(crate) async fn play(timeline: &str) -> anyhow::Result<usize> {
    let timeline = Timeline::new(PgPool::connect(timeline).await?, StorageSchema::default());
    let deeds = deeds()?;
    let count = deeds.len();
    for (number, deed) in deeds.into_iter().enumerate() {
        let audited = deed.run(&timeline).await?;
        set_back(&timeline, &audited, age(number + 1, count)).await?;
    }
    timeline.pool().close().await;
    Ok(count)
}

/// How long ago a deed was done: many were lately, the last one is now.
#[expect(clippy::cast_precision_loss, reason = "there are few")]
fn age(number: usize, of: usize) -> Duration {
    let left = 1.0 - number as f64 / of as f64;
    Duration::from_secs_f64(DAYS * 86_400.0 * left * left)
}

/// Days do not pass in a demo: what was done now gets the times at which it would have been done.
async fn set_back(timeline: &Timeline, audited: &Audited<()>, by: Duration) -> anyhow::Result<()> {
    sqlx::query(
        "with moved_transaction as (update audit_transactions set occurred_at = occurred_at - $3 * interval '1 second' where id = $1),
              moved_changes as (update audit_changes set captured_at = captured_at - $3 * interval '1 second' where transaction_id = $1)
         update audit_actions set inserted_at = inserted_at - $3 * interval '1 second' where id = $2",
    )
    .bind(audited.audit_transaction_id)
    .bind(audited.action_id)
    .bind(by.as_secs_f64())
    .execute(timeline.pool())
    .await?;
    Ok(())
}

/// Commits events that the timeline will not have, among others that it has, and waits until they are known to have failed.
pub(crate) async fn fail(source: &str, table: &TableName, timeline: &str) -> anyhow::Result<()> {
    PgConnection::connect(timeline).await?.execute(RULES).await?;
    let mut source = PgConnection::connect(source).await?;
    let rows: Vec<AuditRow> =
        UNDELIVERABLE.into_iter().chain(["session.create"; 20]).map(AuditRow::sample).collect();
    audit::insert(&mut source, table, &rows).await?;
    let failed = "select count(*) from outbox.failures";
    wait::until_some("the events that cannot be delivered to fail", FAILING_DEADLINE, async || {
        let known: i64 = sqlx::query_scalar(failed).fetch_one(&mut source).await?;
        Ok(usize::try_from(known).is_ok_and(|known| known >= UNDELIVERABLE.len()).then_some(()))
    })
    .await
}

/// Something that somebody does in one transaction.
struct Deed {
    context: AuditContext,
    action: Option<Action>,
    statements: Vec<String>,
}

impl Deed {
    async fn run(self, timeline: &Timeline) -> anyhow::Result<Audited<()>> {
        let mut transaction = timeline.transaction(self.context);
        if let Some(action) = self.action {
            transaction = transaction.action(action);
        }
        let statements = self.statements;
        let audited = transaction.run(async move |connection: &mut PgConnection| {
            for statement in statements {
                connection.execute(AssertSqlSafe(statement)).await?;
            }
            Ok::<_, sqlx::Error>(())
        });
        Ok(audited.await?)
    }
}

/// Everything that is done in the shop, in its order; the same each time.
fn deeds() -> anyhow::Result<Vec<Deed>> {
    let mut shop = Shop { rng: StdRng::seed_from_u64(1), deeds: Vec::new() };
    shop.open()?;
    for order in 4_001..=4_000 + ORDERS {
        shop.order(order)?;
    }
    Ok(shop.deeds)
}

struct Shop {
    rng: StdRng,
    deeds: Vec<Deed>,
}

/// The accounts, by their ids from 301 on.
const NAMES: [&str; 8] = [
    "Amélie Dubois-Nguyen",
    "Jonas Albrecht",
    "Ines Ferreira",
    "Kwame Mensah",
    "Łukasz Wójcik",
    "Mara Okonkwo",
    "Sofía Álvarez",
    "Yuki Tanaka",
];

const CITIES: [&str; 4] = ["Bremen", "Oldenburg", "Kiel", "Lübeck"];

const SKUS: [(&str, f64); 5] = [
    ("CHAIR-ASH-01", 119.0),
    ("TABLE-OAK-04", 489.0),
    ("LAMP-OAK-02", 89.0),
    ("RUG-WOOL-11", 249.5),
    ("SHELF-PINE-07", 64.9),
];

impl Shop {
    /// Who does something, and in which request or job.
    fn by(&mut self, kind: ActorType, id: &str, source: &str) -> anyhow::Result<(ActorRef, AuditContext)> {
        let actor = ActorRef::new(kind, Some(id))?;
        let number = format!("{:08x}", self.rng.random::<u32>());
        let context = AuditContext::of(actor.clone()).source(source).with("tenant", "north");
        let context = match kind {
            ActorType::Job => context.job_id(format!("{source}-{number}")),
            _ => context.request_id(format!("req-{number}")),
        };
        Ok((actor, context))
    }

    fn done(&mut self, context: AuditContext, action: Option<Action>, statements: Vec<String>) {
        self.deeds.push(Deed { context, action, statements });
    }

    /// The accounts are imported.
    fn open(&mut self) -> anyhow::Result<()> {
        let (actor, context) = self.by(ActorType::Job, "imports", "imports")?;
        let accounts = (301..).zip(NAMES).map(|(id, name)| {
            let (city, plan) = (CITIES[id % CITIES.len()], ["basic", "plus"][id % 2]);
            format!(
                "insert into accounts values ({id}, '{name}', 'account{id}@example.org', '{city}', '{plan}')"
            )
        });
        let accounts = accounts.collect();
        self.done(context, Some(Action::new("accounts.imported", actor).category("accounts")), accounts);
        Ok(())
    }

    /// An order, from the cart to the door, and what may happen to it on the way.
    fn order(&mut self, order: i64) -> anyhow::Result<()> {
        let account = self.rng.random_range(301..301 + NAMES.len());
        let customer = account.to_string();
        let cart = format!("cart-{order}");
        let (actor, context) = self.by(ActorType::User, &customer, "web")?;
        let lines = self.lines(order, account);
        let action = Action::new("order.placed", actor).verb("place").category("sales");
        self.done(context.correlation_id(&cart), Some(action), lines);
        while self.rng.random_ratio(1, 6) {
            let (actor, context) = self.by(ActorType::ServiceAccount, "payments", "payments")?;
            let action = Action::new("payment.captured", actor)
                .status(Status::Error)
                .category("billing")
                .reason("The payment provider did not answer");
            self.done(context.correlation_id(&cart), Some(action), Vec::new());
        }
        let (actor, context) = self.by(ActorType::ServiceAccount, "payments", "payments")?;
        let action = Action::new("payment.captured", actor).verb("capture").category("billing");
        self.done(context.correlation_id(&cart), Some(action), vec![moved(order, "paid")]);
        for status in ["packed", "shipped"] {
            let (_, context) = self.by(ActorType::Job, "warehouse", "warehouse")?;
            self.done(context.correlation_id(&cart), None, vec![moved(order, status)]);
        }
        if self.rng.random_ratio(1, 5) {
            self.refund(order)?;
        }
        if self.rng.random_ratio(1, 4) {
            self.correct(account)?;
        }
        Ok(())
    }

    /// An order is entered with what was in the cart.
    fn lines(&mut self, order: i64, account: usize) -> Vec<String> {
        let count = self.rng.random_range(1..4);
        let lines: Vec<_> = (1..=count)
            .map(|line| {
                let (sku, price) = *SKUS.choose(&mut self.rng).expect("the list is not empty");
                (line, sku, self.rng.random_range(1..4), price)
            })
            .collect();
        let total: f64 = lines.iter().map(|(_, _, quantity, price)| f64::from(*quantity) * price).sum();
        let entered = format!("insert into orders values ({order}, {account}, 'placed', {total:.2}, null)");
        let lines = lines.into_iter().map(|(line, sku, quantity, price)| {
            format!("insert into order_lines values ({order}, {line}, '{sku}', {quantity}, {price})")
        });
        [entered].into_iter().chain(lines).collect()
    }

    /// Somebody in the back office gives money back.
    fn refund(&mut self, order: i64) -> anyhow::Result<()> {
        let (actor, context) = self.by(ActorType::Admin, "petra", "back office")?;
        let action = Action::new("order.refunded", actor).verb("refund").category("billing");
        let action = action.reason("It arrived broken").comment("A picture is in the ticket.");
        let refunded = format!(
            "update orders set status = 'refunded', total = 0, note = 'refunded in full' where id = {order}"
        );
        self.done(context.correlation_id(format!("refund-{order}")), Some(action), vec![refunded]);
        Ok(())
    }

    /// A customer changes what the shop knows of them.
    fn correct(&mut self, account: usize) -> anyhow::Result<()> {
        let (actor, context) = self.by(ActorType::User, &account.to_string(), "web")?;
        let city = CITIES.choose(&mut self.rng).expect("the list is not empty");
        let changed = format!(
            "update accounts set city = '{city}', email = 'account{account}+{}@example.org' where id = {account}",
            self.rng.random_range(1..100)
        );
        self.done(context, Some(Action::new("account.updated", actor).category("accounts")), vec![changed]);
        Ok(())
    }
}

fn moved(order: i64, status: &str) -> String {
    format!("update orders set status = '{status}' where id = {order}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shop_has_days_behind_it_and_its_last_deed_is_done_now() {
        assert_eq!(age(10, 10), Duration::ZERO);
        assert!(age(1, 300) > Duration::from_secs(3 * 86_400));
        let ages: Vec<_> = (1..=300).map(|number| age(number, 300)).collect();
        assert!(ages.is_sorted_by(|earlier, later| earlier > later), "{ages:?}");
    }
}
