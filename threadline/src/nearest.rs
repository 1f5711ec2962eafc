//! The table that a misspelt name probably means.

use std::collections::BTreeSet;

use crate::capture::HostTable;

/// The same name in another schema, or one that differs in a third of its letters at most. A name that was given without a schema is
/// compared without schemas.
pub(crate) fn nearest<'k>(
    schema: Option<&str>,
    name: &str,
    known: &'k BTreeSet<HostTable>,
) -> Option<&'k HostTable> {
    let text = schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}")).to_lowercase();
    let distance = |other: &HostTable| {
        let other = if schema.is_some() { other.to_string() } else { other.name.clone() };
        strsim::damerau_levenshtein(&text, &other.to_lowercase())
    };
    known.iter().find(|other| other.name == name).or_else(|| {
        let near = known.iter().min_by_key(|other| distance(other))?;
        (distance(near) <= (name.len() / 3).max(1)).then_some(near)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Refusal;

    #[test]
    fn a_misspelt_name_finds_the_one_that_is_meant_and_no_other() -> Result<(), Refusal> {
        let known = ["billing.invoices", "public.posts", "public.notes", "public.users"];
        let known = known.iter().map(|name| name.parse()).collect::<Result<BTreeSet<HostTable>, _>>()?;
        for (schema, name, expected) in [
            (Some("billing"), "invoces", Some("billing.invoices")),
            (Some("billing"), "INVOICES", Some("billing.invoices")),
            (Some("public"), "invoices", Some("billing.invoices")),
            (Some("biling"), "invoice", Some("billing.invoices")),
            (Some("public"), "psots", Some("public.posts")),
            (Some("public"), "hosts", Some("public.posts")),
            (Some("public"), "sessions", None),
            (Some("billing"), "users2026", None),
            (None, "invoces", Some("billing.invoices")),
            (None, "invoices", Some("billing.invoices")),
            (None, "psots", Some("public.posts")),
            (None, "sessions", None),
        ] {
            let near = nearest(schema, name, &known).map(HostTable::to_string);
            assert_eq!(near.as_deref(), expected, "{name}");
        }
        Ok(())
    }
}
