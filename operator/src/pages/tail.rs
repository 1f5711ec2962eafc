//! What is new, as it comes: server-sent events.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::response::{
    IntoResponse as _,
    sse::{Event, KeepAlive, Sse},
};
use futures::stream::{self, StreamExt as _};
use threadline::query::{Position, ReadError, Tail, Window};
use time::OffsetDateTime;

use crate::{
    answer::Answer,
    asked::{Answered, Asked},
    failure::Failure,
    feeds::{Feed, News, PAUSE},
    limits::Turn,
    links::Links,
    preferences::Preferences,
    shared::Ended,
};

/// After this time a browser has to ask again, so that whoever asks is asked for again.
const LIFE: Duration = Duration::from_secs(60);

/// How often a browser is told how far it is while nothing comes that it shows. When it comes back it goes on from there.
const TOLD: Duration = Duration::from_secs(10);

struct Following {
    feed: Arc<Feed>,
    tail: Tail,
    links: Links,
    preferences: Preferences,
    until: Instant,
    /// Not before this is looked again, however much is new.
    next: Instant,
    /// Where it is as the browser knows, and since when it does.
    told: (Position, Instant),
    ended: Ended,
    _one_of_few: Turn,
}

pub(crate) async fn page(asked: Asked) -> Answered {
    let filter = asked.query.filter()?.within(Window::Everything);
    let turn = asked.shared.tails.try_take(asked.grant.actor()).ok_or(Failure::Busy)?;
    let feed = asked.shared.feeds.of(asked.grant.scope(), &filter);
    // A browser that comes back says up to where it knows: by itself, or in the URL where somebody had stopped it. The former is newer.
    let known = asked.last_event.as_deref().or_else(|| asked.query.get("position"));
    let known = known.and_then(|position| position.parse().ok());
    let tail = match known.or_else(|| feed.position()) {
        Some(position) => asked.follower().tail_from(&filter, position)?,
        None => asked.follower().tail(&filter).await?,
    };
    let following = Following {
        feed,
        told: (tail.position().clone(), Instant::now()),
        tail,
        // What is written here stands on the page of the timeline.
        links: Links::of("/timeline"),
        preferences: asked.preferences.clone(),
        until: Instant::now() + asked.grant.lasts(OffsetDateTime::now_utc(), LIFE),
        next: Instant::now(),
        ended: asked.shared.ended.clone(),
        _one_of_few: turn,
    };
    let begin = at("begin", following.tail.position());
    let events = stream::unfold(following, |following| async {
        next(following).await.map(|(event, following)| (Ok::<_, Infallible>(event), following))
    });
    let events = stream::once(async { Ok(begin) }).chain(events);
    let response = Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)));
    // A proxy that keeps answers back shows nothing until the end.
    Ok(Answer::Whole(
        ([("x-accel-buffering", "no"), ("cache-control", "no-store")], response).into_response(),
    ))
}

/// The next event; none where it is time to ask again, or the service ends.
async fn next(mut following: Following) -> Option<(Event, Following)> {
    let (ended, until) = (following.ended.clone(), following.until);
    let event = tokio::select! {
        biased;
        () = tokio::time::sleep_until(until.into()) => None,
        () = ended => None,
        event = news(&mut following) => event,
    };
    Some((event?, following))
}

/// The next event; none where the database says no more.
async fn news(following: &mut Following) -> Option<Event> {
    loop {
        tokio::time::sleep_until(following.next.into()).await;
        following.next = Instant::now() + PAUSE;
        match fetch(following).await? {
            Ok(news) if news.is_empty() => {
                let position = following.tail.position();
                let (told, since) = &following.told;
                if position != told && since.elapsed() >= TOLD {
                    following.told = (position.clone(), Instant::now());
                    return Some(at("at", position));
                }
            }
            Ok(news) => {
                let shown = news.write(&following.links, &following.preferences);
                let position = following.tail.position();
                following.told = (position.clone(), Instant::now());
                let kind = if news.has_more { "many" } else { "entries" };
                return Some(Event::default().event(kind).id(position.to_string()).data(shown));
            }
            Err(error) => {
                tracing::warn!(error = %errors::line(&error), "a tail of the operator surface ends");
                return None;
            }
        }
    }
}

/// What is new. It is looked for by itself: a browser that reads slowly, or goes away, keeps nobody waiting who waits for the same.
async fn fetch(following: &mut Following) -> Option<Result<Arc<News>, ReadError>> {
    let (feed, mut tail) = (Arc::clone(&following.feed), following.tail.clone());
    let looked = tokio::spawn(async move { (feed.news(&mut tail).await, tail) });
    let (news, tail) = looked.await.ok()?;
    following.tail = tail;
    Some(news)
}

/// Where a browser is. Without data its script would not be told.
fn at(kind: &str, position: &Position) -> Event {
    Event::default().event(kind).id(position.to_string()).data("-")
}
