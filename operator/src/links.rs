//! Links within the surface. They are relative: wherever it is mounted, and whatever a proxy cuts from the path, they lead there.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use threadline::query::{Filter, filter::url::to_query};

/// What is escaped in a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Links as they are written on one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Links {
    /// From the page to the root of the surface: `./`, `../` and so on.
    root: String,
}

impl Links {
    /// Of a page at this path within the surface.
    pub(crate) fn of(path: &str) -> Self {
        let depth = path.trim_start_matches('/').matches('/').count();
        Self { root: if depth == 0 { "./".to_owned() } else { "../".repeat(depth) } }
    }

    /// To a path within the surface, without a slash at its beginning.
    pub(crate) fn to(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    /// The same with a query.
    pub(crate) fn with(&self, path: &str, pairs: &[(&str, &str)]) -> String {
        let mut link = self.to(path);
        for (number, (name, value)) in pairs.iter().enumerate() {
            link.push(if number == 0 { '?' } else { '&' });
            link.push_str(name);
            link.push('=');
            link.extend(utf8_percent_encode(value, ESCAPED));
        }
        link
    }

    /// To what a filter finds, with more behind it.
    pub(crate) fn filtered(&self, path: &str, filter: &Filter, pairs: &[(&str, &str)]) -> String {
        let query = to_query(filter);
        let more = self.with("", pairs);
        let more = more.strip_prefix(&format!("{}?", self.root)).unwrap_or_default();
        match (query.is_empty(), more.is_empty()) {
            (true, true) => self.to(path),
            (false, true) => format!("{}?{query}", self.to(path)),
            (true, false) => format!("{}?{more}", self.to(path)),
            (false, false) => format!("{}?{query}&{more}", self.to(path)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_the_root_from_every_depth() {
        for (path, link) in [
            ("/", "./help"),
            ("/timeline", "./help"),
            ("/transactions/1", "../help"),
            ("/a/b/c", "../../help"),
        ] {
            assert_eq!(Links::of(path).to("help"), link, "{path}");
        }
    }

    #[test]
    fn a_query_holds_whatever_a_value_holds() {
        let links = Links::of("/timeline");
        assert_eq!(links.with("row", &[("key", "a&b=c/d \"é")]), "./row?key=a%26b%3Dc%2Fd%20%22%C3%A9");
        let filter: Filter = "table:posts last:1d".parse().unwrap();
        assert_eq!(
            links.filtered("timeline", &filter, &[("size", "5")]),
            "./timeline?table=posts&last=1d&size=5"
        );
        assert_eq!(links.filtered("timeline", &filter, &[]), "./timeline?table=posts&last=1d");
        assert_eq!(links.filtered("timeline", &Filter::default(), &[("size", "5")]), "./timeline?size=5");
        assert_eq!(links.filtered("timeline", &Filter::default(), &[]), "./timeline");
    }
}
