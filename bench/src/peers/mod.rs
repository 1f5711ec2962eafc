//! stub
use tokio_util::sync::CancellationToken;
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Peer {
    Fenced,
    SkipLocked,
}
impl Peer {
    pub(crate) const ALL: [Self; 2] = [Self::Fenced, Self::SkipLocked];
    pub(crate) fn lacks(self) -> &'static str {
        "x"
    }
    pub(crate) const QUEUES: [Self; 0] = [];
    pub(crate) fn name(self) -> &'static str {
        "x"
    }
    pub(crate) fn word(self) -> &'static str {
        "x"
    }
    pub(crate) fn batches(self) -> bool {
        false
    }
    pub(crate) async fn prepare(self, _: &str) -> anyhow::Result<()> {
        Ok(())
    }
    pub(crate) async fn enqueue_all(self, _: &str) -> anyhow::Result<u64> {
        Ok(0)
    }
    pub(crate) async fn attach(self, _: &str) -> anyhow::Result<()> {
        Ok(())
    }
    pub(crate) async fn work(self, _: &str, _: &str, _: CancellationToken) -> anyhow::Result<()> {
        Ok(())
    }
    pub(crate) async fn dead_tuples(self, _: &str) -> anyhow::Result<u64> {
        Ok(0)
    }
}
