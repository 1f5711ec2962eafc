//! A realistic stream of audit transactions, the same for the same seed.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::{Builder, Uuid};

use crate::audit::AuditRow;

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its rows must arrive.
    Commit,
    /// None of its rows may.
    RollBack,
    /// The last row is undone to a savepoint; the others must arrive.
    RollBackLast,
}

/// One transaction of the application.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Its rows, in order.
    pub rows: Vec<AuditRow>,
    /// How it ends.
    pub end: End,
    /// Held open this long between its last insert and its end: a late commit.
    pub held: std::time::Duration,
}

impl Transaction {
    /// The rows that will be visible.
    #[must_use]
    pub fn committed(&self) -> &[AuditRow] {
        match self.end {
            End::Commit => &self.rows,
            End::RollBack => &[],
            End::RollBackLast => &self.rows[..self.rows.len().saturating_sub(1)],
        }
    }
}

/// Who a row's actor is.
#[derive(Debug, Clone, Copy)]
enum Actor {
    User,
    /// NULL in this share of rows, in percent.
    Nobody(u8),
    /// An operator acting for a user.
    Operator,
}

/// Weight in tenths of a percent, actions that share it, outcome, actor, metadata.
type Share = (u32, &'static [&'static str], &'static str, Actor, fn(&mut StdRng) -> Value);

const SHARES: &[Share] = &[
    (
        220,
        &["session.create"],
        "success",
        Actor::User,
        |rng| json!({"type": pick(rng, &["standard", "remember_me", "mfa_pending"]), "ip": ip(rng)}),
    ),
    (140, &["auth.login.success"], "success", Actor::User, |rng| {
        if rng.random_ratio(1, 50) {
            json!({"method": "password", "hash_upgraded": true})
        } else {
            json!({"method": "password"})
        }
    }),
    (
        120,
        &["api.jwt_refresh"],
        "success",
        Actor::User,
        |rng| json!({"family": rng.random::<u64>(), "client": pick(rng, &["ios", "android", "web"])}),
    ),
    (90, &["auth.login.failure"], "failure", Actor::Nobody(40), |rng| {
        if rng.random_ratio(1, 20) {
            json!({"reason": "sso_required", "organization_id": uuid(rng)})
        } else {
            json!({"reason": "invalid_credentials"})
        }
    }),
    (
        60,
        &["security.invalid_credentials"],
        "failure",
        Actor::User,
        |rng| json!({"attempts": rng.random_range(1..9)}),
    ),
    (
        70,
        &["api.token_verify.failure"],
        "failure",
        Actor::Nobody(70),
        |rng| json!({"reason": pick(rng, &["unknown", "revoked", "expired"])}),
    ),
    (60, &["session.delete", "auth.logout"], "success", Actor::User, |_| json!({})),
    (
        60,
        &["mfa.verify.success"],
        "success",
        Actor::User,
        |rng| json!({"method": pick(rng, &["totp", "passkey"])}),
    ),
    (20, &["mfa.verify.failure"], "failure", Actor::User, |rng| json!({"attempts": rng.random_range(1..5)})),
    (
        40,
        &["oauth.authorize", "oauth.callback.success", "oauth.login_via_oauth"],
        "success",
        Actor::Nobody(30),
        |rng| json!({"provider": pick(rng, &["github", "google", "okta"])}),
    ),
    (
        20,
        &["auth.register.success", "auth.confirmation_verify.success"],
        "success",
        Actor::User,
        |_| json!({"method": "link"}),
    ),
    (
        20,
        &["auth.password_reset_request", "auth.password_reset_complete", "auth.magic_link_request"],
        "success",
        Actor::User,
        |_| json!({}),
    ),
    (
        10,
        &["account.password_change", "mfa.enroll.success", "mfa.disable", "oauth.link"],
        "success",
        Actor::User,
        |rng| json!({"note": text(rng, 0..120)}),
    ),
    (
        10,
        &["admin.impersonation.start", "admin.impersonation.stop"],
        "success",
        Actor::Operator,
        |rng| json!({"reason": text(rng, 10..160)}),
    ),
    (
        10,
        &["organization.member_remove", "organization.invitation.accepted"],
        "success",
        Actor::User,
        |rng| json!({"organization_id": uuid(rng), "role": "member"}),
    ),
    (
        5,
        &["security.lockout", "mfa.lockout", "security.suspicious_login", "api.jwt_refresh_reuse"],
        "failure",
        Actor::User,
        |rng| json!({"details": text(rng, 40..260)}),
    ),
    (5, &["session.create", "api.jwt_refresh"], "error", Actor::Nobody(50), |_| json!({})),
    (40, &["billing.subscription.upgraded", "billing.subscription.created"], "success", Actor::User, |rng| {
        // Mostly small, with a tail up to the library's limit of 8,192 bytes.
        let note = if rng.random_ratio(1, 100) { text(rng, 2_000..8_000) } else { text(rng, 0..200) };
        json!({"from_plan": "hobby", "to_plan": "pro", "amount_cents": 2900, "note": note})
    }),
];

/// Pairs that commit together.
const PAIRS: [(&str, &str, &str); 5] = [
    ("mfa.verify.success", "mfa.backup_code_used", "success"),
    ("account.deletion_execute", "account.deletion_executed", "success"),
    ("oauth.callback.success", "oauth.register_via_oauth", "success"),
    ("security.invalid_credentials", "security.lockout", "failure"),
    ("mfa.verify.failure", "mfa.lockout", "failure"),
];

/// The generator. Endless: it is an iterator of [`Transaction`]s.
#[derive(Debug)]
pub struct Workload {
    rng: StdRng,
    organizations: Vec<Uuid>,
    users: Vec<Uuid>,
    /// What is left of a burst: many rows of one kind from few addresses.
    burst: u32,
    /// Failed logins (a password spray) or revoked sessions.
    spray: bool,
}

impl Workload {
    /// The same seed gives the same rows except their times.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        // The organizations do not depend on the seed: several writers share them.
        let organizations =
            (1..=5).map(|n| Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0F00 | n)).collect();
        let users = (0..500).map(|_| uuid(&mut rng)).collect();
        Self { rng, organizations, users, burst: 0, spray: false }
    }

    /// The organizations that rows name; insert them first.
    #[must_use]
    pub fn organizations(&self) -> &[Uuid] {
        &self.organizations
    }

    fn row(&mut self) -> AuditRow {
        if self.burst > 0 {
            self.burst -= 1;
            let address = format!("203.0.113.{}", self.rng.random_range(1..4));
            let row = if self.spray {
                let reason = json!({"reason": "invalid_credentials"});
                self.build("auth.login.failure", "failure", Actor::Nobody(90), reason)
            } else {
                self.build("session.revoke_all", "success", Actor::User, json!({}))
            };
            return AuditRow { ip_address: Some(address), ..row };
        }
        let total: u32 = SHARES.iter().map(|share| share.0).sum();
        let mut ticket = self.rng.random_range(0..total);
        let share = SHARES
            .iter()
            .find(|share| {
                let hit = ticket < share.0;
                ticket = ticket.saturating_sub(share.0);
                hit
            })
            .unwrap_or(&SHARES[0]);
        let (_, actions, outcome, actor, metadata) = share;
        let action = *pick(&mut self.rng, actions);
        let metadata = metadata(&mut self.rng);
        self.build(action, outcome, *actor, metadata)
    }

    fn build(&mut self, action: &str, outcome: &str, actor: Actor, metadata: Value) -> AuditRow {
        let rng = &mut self.rng;
        let user = *pick(rng, &self.users);
        let now = OffsetDateTime::now_utc();
        let (actor_id, actor_type) = match actor {
            Actor::Nobody(share) if rng.random_range(0..100) < share => (None, "user"),
            Actor::User | Actor::Nobody(_) => (Some(user), "user"),
            Actor::Operator => (Some(*pick(rng, &self.users)), "admin"),
        };
        AuditRow {
            id: uuid(rng),
            occurred_at: now,
            action: action.to_owned(),
            outcome: outcome.to_owned(),
            actor_id,
            actor_type: actor_type.to_owned(),
            target_id: rng.random_ratio(3, 4).then_some(user),
            target_type: rng.random_ratio(3, 4).then(|| "user".to_owned()),
            organization_id: rng.random_bool(0.5).then(|| *pick(rng, &self.organizations)),
            effective_user_id: rng.random_bool(0.5).then_some(user),
            ip_address: rng.random_ratio(19, 20).then(|| ip(rng)),
            user_agent: rng.random_ratio(19, 20).then(|| text(rng, 60..512)),
            metadata,
            inserted_at: now,
        }
    }
}

impl Iterator for Workload {
    type Item = Transaction;

    fn next(&mut self) -> Option<Transaction> {
        if self.burst == 0 && self.rng.random_ratio(1, 5_000) {
            self.burst = self.rng.random_range(500..2_000);
            self.spray = self.rng.random_bool(0.7);
        }
        let mut rows = if self.rng.random_ratio(1, 20) {
            let (first, second, outcome) = *pick(&mut self.rng, &PAIRS);
            vec![
                self.build(first, outcome, Actor::User, json!({})),
                self.build(second, outcome, Actor::User, json!({})),
            ]
        } else {
            vec![self.row()]
        };
        let end = match self.rng.random_range(0..100) {
            0..5 => End::RollBack,
            5..7 => End::RollBackLast,
            _ => End::Commit,
        };
        if end == End::RollBackLast {
            rows.push(self.row());
        }
        // Late commits, 0.1 to 30 s: most are short, few are long.
        let held = if self.rng.random_ratio(1, 200) {
            0.1 * 300_f64.powf(self.rng.random::<f64>().powi(3))
        } else {
            0.0
        };
        Some(Transaction { rows, end, held: std::time::Duration::from_secs_f64(held) })
    }
}

fn pick<'a, T>(rng: &mut StdRng, from: &'a [T]) -> &'a T {
    from.choose(rng).expect("the list is not empty")
}

fn uuid(rng: &mut StdRng) -> Uuid {
    Builder::from_random_bytes(rng.random()).into_uuid()
}

fn ip(rng: &mut StdRng) -> String {
    if rng.random_ratio(1, 5) {
        std::net::Ipv6Addr::from(rng.random::<u128>()).to_string()
    } else {
        std::net::Ipv4Addr::from(rng.random::<u32>()).to_string()
    }
}

/// Words in several scripts; multi-byte text is where lengths go wrong.
fn text(rng: &mut StdRng, length: std::ops::Range<usize>) -> String {
    const WORDS: &[&str] = &[
        "Mozilla/5.0",
        "Safari",
        "support",
        "ticket",
        "Zürich",
        "東京",
        "مرحبا",
        "🔐",
        "quote\"",
        "back\\slash",
    ];
    let length = rng.random_range(length);
    let mut text = String::new();
    while text.chars().count() < length {
        text.push_str(pick::<&str>(rng, WORDS));
        text.push(' ');
    }
    text.chars().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(seed: u64) -> Vec<(Uuid, String, End)> {
        Workload::new(seed)
            .take(2_000)
            .flat_map(|transaction| {
                let end = transaction.end;
                transaction.rows.into_iter().map(move |row| (row.id, row.action, end))
            })
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_stream() {
        assert_eq!(fingerprint(7), fingerprint(7));
        assert_ne!(fingerprint(7), fingerprint(8));
    }

    #[test]
    fn the_stream_holds_every_shape_that_must_be_survived() {
        let transactions: Vec<_> = Workload::new(1).take(20_000).collect();
        let rows: Vec<_> = transactions.iter().flat_map(|transaction| &transaction.rows).collect();
        let share = |count: usize, of: usize| count * 1_000 / of;
        let rolled_back = transactions.iter().filter(|transaction| transaction.end == End::RollBack).count();
        assert!((30..=100).contains(&share(rolled_back, transactions.len())), "3 to 10 % roll back");
        assert!(transactions.iter().any(|transaction| transaction.end == End::RollBackLast));
        assert!(transactions.iter().any(|transaction| !transaction.held.is_zero()));
        assert!(rows.iter().any(|row| row.actor_id.is_none()));
        assert!(rows.iter().any(|row| row.outcome == "error"));
        assert!(rows.iter().any(|row| row.metadata.to_string().len() > 2_000));
        assert!(
            rows.iter().all(|row| row.user_agent.as_ref().is_none_or(|text| text.chars().count() <= 512))
        );
        let unorganized = rows.iter().filter(|row| row.organization_id.is_none()).count();
        assert!((400..=600).contains(&share(unorganized, rows.len())));
    }
}
