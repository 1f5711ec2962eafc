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
use threadline::query::{Tail, Window};

use crate::{
    answer::Answer,
    asked::{Answered, Asked},
    failure::Failure,
    feeds::{Feed, PAUSE},
    limits::Turn,
    links::Links,
    preferences::Preferences,
    shared::Ended,
};

/// After this time a browser has to ask again, so that whoever asks is asked for again.
const LIFE: Duration = Duration::from_secs(60);

struct Following {
    feed: Arc<Feed>,
    tail: Tail,
    links: Links,
    preferences: Preferences,
    until: Instant,
    /// Not before this is looked again, however much is new.
    next: Instant,
    ended: Ended,
    _one_of_few: Turn,
}

pub(crate) async fn page(asked: Asked) -> Answered {
    let filter = asked.query.filter()?.within(Window::Everything);
    let turn = asked.shared.tails.try_take(asked.grant.actor()).ok_or(Failure::Busy)?;
    let feed = asked.shared.feeds.of(asked.grant.scope(), &filter);
    // A browser that comes back says up to where it knows.
    let known = asked.last_event.as_deref().and_then(|position| position.parse().ok());
    let tail = match known.or(feed.position().await) {
        Some(position) => asked.follower().tail_from(&filter, position)?,
        None => asked.follower().tail(&filter).await?,
    };
    let following = Following {
        feed,
        tail,
        // What is written here stands on the page of the timeline.
        links: Links::of("/timeline"),
        preferences: asked.preferences.clone(),
        until: Instant::now() + asked.grant.lasts(asked.now, LIFE),
        next: Instant::now(),
        ended: asked.shared.ended.clone(),
        _one_of_few: turn,
    };
    // Without data: a browser keeps its id and hands nothing on.
    let begin = Event::default().event("begin").id(following.tail.position().to_string()).data("");
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
    let ended = following.ended.clone();
    let event = tokio::select! {
        event = news(&mut following) => event,
        () = ended => None,
    };
    Some((event?, following))
}

/// The next event; none where it is time to ask again.
async fn news(following: &mut Following) -> Option<Event> {
    loop {
        if Instant::now() >= following.until {
            return None;
        }
        tokio::time::sleep_until(following.next.into()).await;
        following.next = Instant::now() + PAUSE;
        match following.feed.news(&mut following.tail).await {
            Ok(news) if news.is_empty() => {}
            Ok(news) => {
                let shown = news.write(&following.links, &following.preferences);
                let position = following.tail.position().to_string();
                let kind = if news.has_more { "many" } else { "entries" };
                return Some(Event::default().event(kind).id(position).data(shown));
            }
            Err(error) => {
                tracing::warn!(error = %errors::line(&error), "a tail of the operator surface ends");
                return None;
            }
        }
    }
}
