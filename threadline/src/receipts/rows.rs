//! Which rows a receipt takes, which ones no receipt has taken, and those of leaves: the statements.

use uuid::Uuid;

use super::{columns::Kind, leaf::WIDTH, store::LEAVES};
use crate::{
    StorageSchema,
    query::{IS_EVENT, Position, Statement},
};

/// What a receipt takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Members<'p> {
    /// Everything that is there, for the first one.
    Everything,
    /// What no receipt has taken: in another cluster numbers of transactions say nothing.
    Unsealed,
    /// What is new behind a position.
    New { from: &'p Position, to: &'p Position },
}

impl Members<'_> {
    /// Its rows of a kind: the columns of [`Kind::select`]. They come in no order.
    pub(super) fn statement(self, kind: Kind, schema: &StorageSchema) -> Statement {
        let mut statement = Statement::new(format!("select {} from ", kind.select()));
        let table = schema.table(kind.table());
        match (self, kind) {
            // A change arrives with its transaction.
            (Self::New { from, to }, Kind::Change) => {
                let transactions = schema.table(Kind::Transaction.table());
                statement.push(&format!("{transactions} t join {table} c on c.transaction_id = t.id where "));
                from.push_is_new(to, from.next(), "t", &mut statement);
            }
            (Self::New { from, to }, _) => {
                let alias = kind.alias();
                statement.push(&format!("{table} {alias} where "));
                from.push_is_new(to, from.next(), alias, &mut statement);
                // Whoever puts another table in the place of the actions may give its rows new numbers.
                if kind == Kind::Action && !from.has_table_of(to) {
                    statement.push(" and ");
                    push_is_unsealed(kind, schema, &mut statement);
                }
            }
            (Self::Everything, _) => {
                statement.push(&format!("{table} {} where true", kind.alias()));
            }
            (Self::Unsealed, _) => push_unsealed(kind, schema, &mut statement),
        }
        push_is_covered(kind, &mut statement);
        statement
    }
}

/// Rows of a kind that are in no receipt, each with whether the next one will take it.
pub(super) fn unsealed(kind: Kind, next: Members<'_>, schema: &StorageSchema) -> Statement {
    let mut statement = Statement::new("select ");
    match next {
        Members::Everything | Members::Unsealed => {
            statement.push("true");
        }
        Members::New { from, to } if kind == Kind::Change => {
            statement.push(&format!(
                "exists (select from {} t where t.id = c.transaction_id and ",
                schema.table(Kind::Transaction.table())
            ));
            from.push_is_new(to, from.next(), "t", &mut statement);
            statement.push(")");
        }
        Members::New { from, to } => {
            statement.push("(");
            from.push_is_new(to, from.next(), kind.alias(), &mut statement);
            statement.push(") is true");
        }
    }
    statement.push(&format!(", {} from ", kind.select()));
    push_unsealed(kind, schema, &mut statement);
    push_is_covered(kind, &mut statement);
    statement
}

/// The rows of which no leaf has the id. They are found by their ids alone, so that what they hold is not part of what the server sorts
/// and writes to disk meanwhile.
fn push_unsealed(kind: Kind, schema: &StorageSchema, statement: &mut Statement) {
    let (table, alias) = (schema.table(kind.table()), kind.alias());
    statement.push(&format!("(select {alias}.id from {table} {alias} where "));
    push_is_unsealed(kind, schema, statement);
    // Which snapshot sees it: of a change, that is asked of its transaction.
    let number = if kind == Kind::Change { "" } else { ", r.xmin" };
    statement.push(&format!(
        " offset 0) free cross join lateral (select r.*{number} from {table} r where r.id = free.id offset 0) {alias} where true"
    ));
}

/// The rows of these ids in their order, each with its place in it, from 1; of a row that is not there all columns are null. Whatever was
/// sealed counts, also as something that it was not.
pub(super) fn of_ids(kind: Kind, ids: Vec<Uuid>, schema: &StorageSchema) -> Statement {
    let (table, alias) = (schema.table(kind.table()), kind.alias());
    let mut statement = Statement::new(format!("select k.place, {} from unnest(", kind.select()));
    statement.bind(ids).push(&format!(
        "::uuid[]) with ordinality k (id, place) left join {table} {alias} on {alias}.id = k.id order by k.place"
    ));
    statement
}

/// Events that the pipeline projects have receipts of their own.
fn push_is_covered(kind: Kind, statement: &mut Statement) {
    if kind == Kind::Action {
        statement.push(" and not ").push(IS_EVENT);
    }
}

/// That no leaf has the id of the row. A part is taken out of its storage once, not for each leaf, and the ids are what is compared: with each,
/// the server would keep the whole part that it stands in.
fn push_is_unsealed(kind: Kind, schema: &StorageSchema, statement: &mut Statement) {
    statement.push(&format!(
        "not exists (
             select from (
                 select encode(substring(p.leaves from i * {WIDTH} + 2 for 16), 'hex')::uuid as id
                 from (select leaves || ''::bytea as leaves from {} offset 0) p
                 cross join lateral generate_series(0, octet_length(p.leaves) / {WIDTH} - 1) i
                 where get_byte(p.leaves, i * {WIDTH}) = {}
                 offset 0) s
             where s.id = {}.id)",
        schema.table(LEAVES),
        kind as u8,
        kind.alias()
    ));
}
