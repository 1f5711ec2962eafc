//! What a library says by `tracing`, so that a test can look at all of it.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt as _},
};

/// Everything that is said, with its fields, at every level: a line for each event and each span. For how long something took, which
/// differs, stands `_`.
#[derive(Debug, Clone)]
pub struct Heard {
    of: &'static str,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Heard {
    /// What this thread says from now on, until the guard is dropped: what has a name or a target that begins like this.
    #[must_use]
    pub fn of(beginning: &'static str) -> (Self, DefaultGuard) {
        let heard = Self::new(beginning);
        let guard = tracing::subscriber::set_default(Registry::default().with(heard.clone()));
        (heard, guard)
    }

    /// What the whole process says from now on. Once in a process.
    ///
    /// # Panics
    /// The second time.
    #[must_use]
    pub fn everywhere(beginning: &'static str) -> Self {
        let heard = Self::new(beginning);
        tracing::subscriber::set_global_default(Registry::default().with(heard.clone()))
            .expect("nobody else listens to the process");
        heard
    }

    fn new(of: &'static str) -> Self {
        // While there is one listener, an event is asked for by the thread that says it first, and another thread's listener may never hear
        // of it. While there are two, all are asked.
        static SECOND: OnceLock<Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| Dispatch::new(Registry::default().with(Self { of, lines: Arc::default() })));
        Self { of, lines: Arc::default() }
    }

    /// What was heard since it was asked last.
    #[must_use]
    pub fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether something that begins like this was heard since then.
    #[must_use]
    pub fn has(&self, beginning: &str) -> bool {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().any(|line| line.starts_with(beginning))
    }

    fn hear(&self, name: &str, record: impl FnOnce(&mut Line)) {
        let mut line = Line(name.to_owned());
        record(&mut line);
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
    }
}

/// A name and its fields.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "duration_ms" => write!(self.0, " duration_ms=_"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

impl<S: Subscriber> Layer<S> for Heard {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        [metadata.name(), metadata.target()].iter().any(|name| name.starts_with(self.of))
    }

    fn on_new_span(&self, span: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        self.hear(span.metadata().name(), |line| span.record(line));
    }

    fn on_record(&self, _: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        self.hear("", |line| values.record(line));
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.hear(event.metadata().name(), |line| event.record(line));
    }
}
