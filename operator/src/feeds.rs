//! What several people follow alike is looked for once.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use jiff::tz::TimeZone;
use threadline::query::{Entry, Filter, Newest, Position, ReadError, Scope, Tail};
use time::OffsetDateTime;

use crate::{
    links::Links,
    preferences::Preferences,
    view::{View, list},
};

/// Between two looks for what is new.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// How old a look is that somebody else need not repeat: less than a pause, or whoever looked last would be kept from looking again.
const FRESH: Duration = Duration::from_millis(900);

/// Entries that one look shows; further ones are said to be there.
const SHOWN: u16 = 50;

/// Those that somebody follows.
#[derive(Default)]
pub(crate) struct Feeds(Mutex<Vec<Weak<Feed>>>);

/// What one filter shows in one scope, as it comes.
pub(crate) struct Feed {
    scope: Scope,
    filter: Filter,
    last: tokio::sync::Mutex<Option<Look>>,
}

/// What was new between two positions.
struct Look {
    from: Position,
    to: Position,
    begun: Instant,
    done: Instant,
    news: Arc<News>,
}

/// Entries as they are shown.
pub(crate) struct News {
    /// The newest first.
    entries: Vec<Entry>,
    pub(crate) has_more: bool,
    /// As they were written for a zone.
    written: Mutex<Vec<(TimeZone, Arc<str>)>>,
}

impl Feeds {
    /// The one that others follow who ask for the same, or a new one.
    pub(crate) fn of(&self, scope: &Scope, filter: &Filter) -> Arc<Feed> {
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|feed| feed.strong_count() > 0);
        let mut followed = feeds.iter().filter_map(Weak::upgrade);
        if let Some(feed) = followed.find(|feed| feed.scope == *scope && feed.filter == *filter) {
            return feed;
        }
        let feed = Arc::new(Feed {
            scope: scope.clone(),
            filter: filter.clone(),
            last: tokio::sync::Mutex::default(),
        });
        feeds.push(Arc::downgrade(&feed));
        feed
    }
}

impl Feed {
    /// Where somebody begins who has just read a page: where the others are, if they have just looked. What came since stands on the page
    /// already, and a browser shows no entry twice.
    pub(crate) fn position(&self) -> Option<Position> {
        // Whoever looks may take long.
        let last = self.last.try_lock().ok()?;
        last.as_ref().filter(|look| look.is_fresh()).map(|look| look.to.clone())
    }

    /// What is new behind the position of a tail of this scope and filter, which goes to where the others are; whoever comes first looks.
    ///
    /// # Errors
    /// What the database says. It may be called again then.
    pub(crate) async fn news(&self, tail: &mut Tail) -> Result<Arc<News>, ReadError> {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(look) = last.as_ref() {
            // Who has waited for it need not look again, however long it took.
            let is_fresh = look.is_fresh() || look.done > asked;
            if *tail.position() == look.from && (is_fresh || look.from != look.to) {
                tail.go_on_from(look.to.clone());
                return Ok(Arc::clone(&look.news));
            }
            if *tail.position() == look.to && is_fresh {
                return Ok(Arc::new(News::default()));
            }
            if tail.position().precedes(&look.to) {
                // A browser that comes back: nobody waits for what it alone lacks.
                let to = look.to.clone();
                drop(last);
                return Ok(Arc::new(tail.newest_up_to(&to, SHOWN).await?.into()));
            }
        }
        let (from, begun) = (tail.position().clone(), Instant::now());
        let news = Arc::new(News::from(tail.newest(SHOWN).await?));
        let (to, done) = (tail.position().clone(), Instant::now());
        *last = Some(Look { from, to, begun, done, news: Arc::clone(&news) });
        Ok(news)
    }
}

impl Look {
    fn is_fresh(&self) -> bool {
        self.begun.elapsed() < FRESH
    }
}

impl Default for News {
    fn default() -> Self {
        Newest::default().into()
    }
}

impl From<Newest> for News {
    fn from(Newest { mut entries, has_more }: Newest) -> Self {
        entries.reverse();
        Self { entries, has_more, written: Mutex::default() }
    }
}

impl News {
    /// Nothing came. Where only something may have, that is to be said.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && !self.has_more
    }

    /// One line of HTML. Of what somebody prefers, only the zone changes it.
    pub(crate) fn write(&self, links: &Links, preferences: &Preferences) -> Arc<str> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = written.iter().find(|(zone, _)| *zone == preferences.zone) {
            return Arc::clone(text);
        }
        let view = View { links, preferences, now: OffsetDateTime::now_utc() };
        let text: Arc<str> =
            list::entries(&view, &self.entries).into_string().replace(['\n', '\r'], " ").into();
        written.push((preferences.zone.clone(), Arc::clone(&text)));
        text
    }
}
