//! Actions by their correlation id. One that the pipeline has projected has its own id as that, and is found by it: the index of
//! correlation ids has the others alone.

use uuid::Uuid;

use super::{condition::Conditions, statement::Statement};

/// Pushes a query for the actions with this correlation id; `further` adds conditions of an action `a`.
pub(super) fn push_correlated(
    actions: &str,
    correlation: &str,
    further: impl Fn(&mut Conditions<'_>),
    statement: &mut Statement,
) {
    statement.push(&format!("select a.* from {actions} a"));
    let mut conditions = Conditions::new(statement);
    conditions.and().push("a.correlation_id = ").bind(correlation);
    conditions.and().push("a.correlation_id <> a.id::text");
    further(&mut conditions);
    let Some(id) = as_id(correlation) else { return };
    statement.push(&format!(" union all select a.* from {actions} a"));
    let mut conditions = Conditions::new(statement);
    conditions.and().push("a.id = ").bind(id);
    conditions.and().push("a.correlation_id = ").bind(correlation);
    further(&mut conditions);
}

/// The id that is written as this correlation id.
fn as_id(correlation: &str) -> Option<Uuid> {
    Uuid::parse_str(correlation).ok().filter(|id| id.to_string() == correlation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_as_the_server_writes_it_is_that_of_an_action() {
        let id = "d0e158f8-97ac-4a0c-af51-c1c235e11a66";
        assert_eq!(as_id(id).map(|id| id.to_string()).as_deref(), Some(id));
        let written_otherwise =
            [id.to_uppercase(), id.replace('-', ""), format!("{{{id}}}"), format!("{id} ")];
        for other in written_otherwise.iter().map(String::as_str).chain(["", "c7000"]) {
            assert_eq!(as_id(other), None, "{other}");
        }
    }
}
