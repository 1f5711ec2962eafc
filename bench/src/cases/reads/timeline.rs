//! Pages of the timeline: the first one, and one far behind it.

use std::cell::Cell;

use threadline::query::{Cursor, Filter, From, Kind, PageRequest, Reader};
use uuid::Uuid;

use super::{
    DEEP, FIRST, Served,
    data::Rows,
    library::{self, Place, Stated},
    timing::{alone, beside},
};
use crate::cases::Bench;

/// As in the tests of plans. `{n}` is another number each time.
const FILTERS: [&str; 24] = [
    "",
    "kind:change",
    "kind:event",
    "table:orders",
    "table:rare",
    "table:public.orders key:{n}",
    "op:delete",
    "op:truncate",
    "changed:price after:7.50",
    "actor:user:frequent",
    "actor:user:middle",
    "actor:user:rare",
    "actor:user:u{n}",
    "actor:user:nobody{n}",
    "table:rare actor:user:frequent",
    "table:orders actor:user:middle",
    "action:auth.login",
    "action:user.suspended",
    "action:user.*",
    "status:error",
    "category:billing",
    "request:r{n}",
    "source:web",
    "text:\"length {n}\"",
];

/// Further pages that are read in turns with the deep one.
const DEEP_PAGES: u32 = 20;

/// Pages of a thousand entries that are gone through, or parts of them, on the way to the deep page.
const STEPS_MAX: u32 = 400;

/// Values of a filter that has `{n}`.
const VALUES: u64 = 50;

/// One filter with its values.
struct Asked {
    name: String,
    filters: Vec<Filter>,
}

impl Asked {
    fn of(text: &'static str, rows: Rows) -> anyhow::Result<Self> {
        let values = if text.contains("{n}") { VALUES } else { 1 };
        // Even, of every part of what there is, and of actors and rows that are there in each size.
        let number = |n: u64| 2 * ((n + 1) * (rows.transactions / VALUES / 2 - 7) % 2_500);
        let filters = (0..values).map(|n| text.replace("{n}", &number(n).to_string()).parse());
        let name = if text.is_empty() { "unfiltered".to_owned() } else { text.replace("{n}", "…") };
        Ok(Self { name, filters: filters.collect::<Result<_, _>>()? })
    }

    fn filter(&self, number: u32) -> &Filter {
        &self.filters[number as usize % self.filters.len()]
    }

    /// Whether the library's list is the same as ours, in the same order.
    fn is_same(&self) -> bool {
        let filter = &self.filters[0];
        filter.actor.is_none() && (filter.kind == Some(Kind::Change) || filter.table.is_some())
    }
}

/// Both pages of every filter.
pub(super) async fn take(
    bench: &mut Bench<'_>,
    served: &mut Served,
    rows: Rows,
    repeat: u32,
) -> anyhow::Result<()> {
    for text in FILTERS {
        let asked = Asked::of(text, rows)?;
        first(bench, served, &asked, repeat).await?;
        let from = cursors(&served.reader, asked.filter(0), bench.plan.deep).await?;
        // What has fewer pages has no such one.
        if !from.is_empty() {
            deep(bench, served, &asked, &from, repeat).await?;
        }
    }
    Ok(())
}

async fn first(bench: &mut Bench<'_>, served: &mut Served, asked: &Asked, repeat: u32) -> anyhow::Result<()> {
    let case = format!("{FIRST}{}", asked.name);
    let request = PageRequest::default();
    let stated: Vec<Option<Stated>> =
        asked.filters.iter().map(|filter| library::page(filter, request.size, None)).collect();
    let requests = [request];
    read(bench, served, (&case, repeat), asked, &requests, &stated).await
}

async fn deep(
    bench: &mut Bench<'_>,
    served: &mut Served,
    asked: &Asked,
    from: &[Cursor],
    repeat: u32,
) -> anyhow::Result<()> {
    let case = format!("{DEEP}{}", asked.name);
    let asked = &Asked { name: asked.name.clone(), filters: vec![asked.filter(0).clone()] };
    let size = PageRequest::default().size;
    let pages = (size, bench.plan.deep, DEEP_PAGES);
    let places: Vec<Place> = library::places(&mut served.library, asked.filter(0), pages).await?;
    let stated: Vec<Option<Stated>> =
        places.iter().map(|place| library::page(asked.filter(0), size, Some(*place))).collect();
    let request =
        |cursor: &Cursor| PageRequest { from: From::OlderThan(cursor.clone()), ..PageRequest::default() };
    let requests: Vec<PageRequest> = from.iter().map(request).collect();
    read(bench, served, (&case, repeat), asked, &requests, &stated).await
}

/// Requests and statements in turns, as many as there are of each.
async fn read(
    bench: &mut Bench<'_>,
    served: &mut Served,
    case: (&str, u32),
    asked: &Asked,
    requests: &[PageRequest],
    stated: &[Option<Stated>],
) -> anyhow::Result<()> {
    let Served { reader, library, .. } = served;
    let last = Cell::new(Vec::<Uuid>::new());
    let ours = async |number: u32| {
        let page = reader.page(asked.filter(number), &requests[number as usize % requests.len()]).await?;
        last.set(page.entries.iter().map(threadline::query::Entry::id).collect());
        Ok(())
    };
    if stated.is_empty() || stated.iter().any(Option::is_none) {
        return alone(bench, case, ours).await;
    }
    let size = PageRequest::default().size;
    let theirs = async |number: u32| {
        if let Some(stated) = &stated[number as usize % stated.len()] {
            let read = stated.read(library).await?;
            if number == 0 && asked.is_same() {
                library::same(case.0, &last.take(), &read, size)?;
            }
        }
        Ok(())
    };
    beside(bench, case, ours, theirs).await
}

/// Where the pages from this one on begin; none where there are not so many.
async fn cursors(reader: &Reader, filter: &Filter, page: u32) -> anyhow::Result<Vec<Cursor>> {
    let mut request = PageRequest::default();
    let mut left = u32::from(request.size) * (page - 1);
    for _ in 0..STEPS_MAX {
        if left == 0 {
            break;
        }
        request.size = u16::try_from(left.min(1_000))?;
        let read = reader.page(filter, &request).await?;
        left -= u32::try_from(read.entries.len())?;
        let Some(older) = read.older else { return Ok(Vec::new()) };
        request.from = From::OlderThan(older);
    }
    let mut cursors = Vec::new();
    request.size = PageRequest::default().size;
    while left == 0 && cursors.len() < DEEP_PAGES as usize {
        let From::OlderThan(cursor) = &request.from else { break };
        cursors.push(cursor.clone());
        let Some(older) = reader.page(filter, &request).await?.older else { break };
        request.from = From::OlderThan(older);
    }
    Ok(cursors)
}
