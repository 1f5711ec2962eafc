//! The golden fixture: 43 rows of a demo installation, the same on every call.
//!
//! Under the profile `correct` they project to 36 ok and 7 error, under `compat` to 37 and 6.

use time::{Duration, OffsetDateTime, macros::datetime};
use uuid::Uuid;

use crate::audit::AuditRow;

/// The newest row's time; the others lie one day apart before it.
pub const REFERENCE: OffsetDateTime = datetime!(2026-05-15 12:00:00 UTC);

/// Acme, Beta, and one without members.
pub const ORGANIZATIONS: [Uuid; 3] = [persona(0xA1), persona(0xA2), persona(0xA3)];

/// The operator who acts in most rows.
pub const ADMIN: Uuid = persona(1);

/// The user whom the operator impersonates.
pub const ALICE: Uuid = persona(2);

/// alice, bob, carol, dave, frank, morgan, pat, grace.
const PEOPLE: [Uuid; 8] =
    [ALICE, persona(3), persona(4), persona(5), persona(6), persona(7), persona(8), persona(9)];

/// Action, outcome, how many by the operator, how many by the people.
const MIX: [(&str, &str, usize, usize); 16] = [
    ("auth.login.success", "success", 5, 3),
    ("auth.login.failure", "failure", 3, 2),
    ("auth.login.failure", "error", 0, 1),
    ("session.create", "success", 4, 2),
    ("session.revoke_all", "success", 2, 1),
    ("admin.impersonation.start", "success", 3, 0),
    ("admin.impersonation.stop", "success", 3, 0),
    ("mfa.enroll.success", "success", 2, 1),
    ("mfa.disable", "success", 1, 1),
    ("mfa.regenerate_backup_codes", "success", 1, 1),
    ("auth.oauth.link", "success", 1, 1),
    ("auth.lockout.start", "failure", 0, 1),
    ("account.deletion.schedule", "success", 1, 0),
    ("auth.password.change", "success", 1, 0),
    ("auth.magic_link.sent", "success", 0, 1),
    ("api.token.create", "success", 0, 1),
];

const fn persona(n: u128) -> Uuid {
    // The version and variant bits of a random id.
    Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0000 | n)
}

/// The rows, newest first.
#[must_use]
pub fn rows() -> Vec<AuditRow> {
    let by_operator =
        MIX.iter().flat_map(|&(action, outcome, count, _)| std::iter::repeat_n((action, outcome), count));
    let by_people =
        MIX.iter().flat_map(|&(action, outcome, _, count)| std::iter::repeat_n((action, outcome), count));
    let operator = by_operator.enumerate().map(|(index, (action, outcome))| {
        // One start and one stop are on behalf of alice; otherwise the operator acts as herself.
        let impersonates = action.starts_with("admin.impersonation.") && index % 3 == 0;
        AuditRow {
            actor_id: Some(ADMIN),
            effective_user_id: Some(if impersonates { ALICE } else { ADMIN }),
            ..plain(action, outcome)
        }
    });
    let people = by_people.enumerate().map(|(index, (action, outcome))| {
        let subject = PEOPLE[index % PEOPLE.len()];
        AuditRow {
            actor_id: Some(subject),
            target_id: Some(subject),
            target_type: Some("user".to_owned()),
            organization_id: match index {
                0..10 => Some(ORGANIZATIONS[0]),
                10..13 => Some(ORGANIZATIONS[1]),
                _ => None,
            },
            ..plain(action, outcome)
        }
    });
    operator
        .chain(people)
        .zip(0_u32..)
        .map(|(row, day)| {
            let time = REFERENCE - Duration::days(i64::from(day));
            AuditRow {
                id: Uuid::from_u128(0x901D_0000_0000_4000_8000_0000_0000_0000 | u128::from(day)),
                occurred_at: time,
                inserted_at: time,
                ..row
            }
        })
        .collect()
}

fn plain(action: &str, outcome: &str) -> AuditRow {
    AuditRow { outcome: outcome.to_owned(), ..AuditRow::sample(action) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(matches: impl Fn(&AuditRow) -> bool) -> usize {
        rows().iter().filter(|row| matches(row)).count()
    }

    #[test]
    fn the_mix_is_the_documented_one() {
        assert_eq!(rows().len(), 43);
        assert_eq!(count(|row| row.outcome == "success"), 36);
        assert_eq!(count(|row| row.outcome == "failure"), 6);
        assert_eq!(count(|row| row.outcome == "error"), 1);
        assert_eq!(count(|row| row.actor_id == Some(ADMIN)), 27);
        assert_eq!(count(|row| row.target_id.is_some()), 16);
        assert_eq!(count(|row| row.organization_id == Some(ORGANIZATIONS[0])), 10);
        assert_eq!(count(|row| row.organization_id == Some(ORGANIZATIONS[1])), 3);
        assert_eq!(count(|row| row.action == "auth.login.success"), 8);
        assert_eq!(count(|row| row.action == "auth.login.failure"), 6);
    }

    #[test]
    fn one_start_and_one_stop_act_for_somebody_else() {
        for action in ["admin.impersonation.start", "admin.impersonation.stop"] {
            assert_eq!(
                count(|row| row.action == action && row.effective_user_id == Some(ALICE)),
                1,
                "{action}"
            );
        }
    }

    #[test]
    fn the_rows_are_the_same_on_every_call() {
        let ids =
            |rows: Vec<AuditRow>| rows.into_iter().map(|row| (row.id, row.occurred_at)).collect::<Vec<_>>();
        assert_eq!(ids(rows()), ids(rows()));
        assert_eq!(rows().last().expect("43 rows").occurred_at, REFERENCE - Duration::days(42));
    }
}
