//! The query of a URL, and a form: names and values.

use threadline::query::{
    Filter, FilterError,
    filter::{keys, url::from_pairs},
};

use crate::failure::Failure;

/// Names that are no filter's, of all pages.
const OWN: [&str; 17] = [
    "act", "as", "at", "children", "compare", "form", "format", "group", "id", "newer", "older", "part",
    "position", "profile", "q", "safe", "size",
];

/// Names and values, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Reads `application/x-www-form-urlencoded`. Of a form (it has a field `form`), fields that were left empty are not there.
    pub(crate) fn read(encoded: &[u8]) -> Self {
        let pairs: Vec<_> = url::form_urlencoded::parse(encoded).into_owned().collect();
        let is_form = pairs.iter().any(|(name, _)| name == "form");
        Self(pairs.into_iter().filter(|(_, value)| !is_form || !value.is_empty()).collect())
    }

    /// The value of this name; of several the last one. None where it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A name that is none of these, where there is one.
    #[cfg(feature = "pipeline")]
    pub(crate) fn other_than(&self, known: &[&str]) -> Option<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).find(|name| !known.contains(name))
    }

    /// All values of this name, in their order, without empty ones.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let found = self.0.iter().filter(|(found, value)| found == name && !value.is_empty());
        found.map(|(_, value)| value.as_str()).collect()
    }

    /// Whether it has this value.
    pub(crate) fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == Some(value)
    }

    /// What of it is a filter. A name that nothing is known by is an error: a filter that lacks what somebody has misspelt finds too much.
    pub(crate) fn filter(&self) -> Result<Filter, FilterError> {
        let filter = from_pairs(self.0.iter().filter(|(name, _)| !OWN.contains(&name.as_str())).cloned())?;
        filter.check()?;
        Ok(filter)
    }

    /// The same of a page that uses these words of a filter alone: what it does not use would be taken, and change nothing.
    pub(crate) fn filter_of(&self, used: &[&str]) -> Result<Filter, Failure> {
        let unused = self
            .0
            .iter()
            .map(|(name, _)| name.as_str())
            .find(|name| !used.contains(name) && keys().any(|key| key.key == *name));
        if let Some(name) = unused {
            let used = used.join(", ");
            return Err(Failure::unusable(
                "filter_unused",
                format!(
                    "{name} changes nothing on this page, which takes {used}. The timeline takes every word of a filter."
                ),
            ));
        }
        Ok(self.filter()?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_empty_field_of_a_form_is_none_and_an_empty_value_of_a_link_is_one() {
        let form = Pairs::read(b"form=1&table=posts&changed=title&before=&status=");
        assert_eq!(form.filter().unwrap().to_string(), "table:posts changed:title");
        let link = Pairs::read(b"table=posts&changed=title&before=&size=5&older=");
        assert_eq!(link.filter().unwrap().to_string(), "table:posts changed:title before:\"\"");
        assert_eq!((link.get("size"), link.get("older"), link.get("newer")), (Some("5"), None, None));
        assert_eq!(Pairs::read(b"tabel=posts").filter().unwrap_err().term(), "unknown_filter");
    }
}
