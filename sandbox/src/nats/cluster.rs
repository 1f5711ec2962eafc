//! A cluster of private nats-servers, for replicated streams.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::jetstream::{self, context::ContextBuilder, stream};
use nix::sys::signal::Signal;

use super::{Configuration, server::Server};
use crate::{
    wait,
    work_dir::{WorkDir, free_ports},
};

/// Elections take a few seconds each, more on a slow machine.
const LEADER_DEADLINE: Duration = Duration::from_secs(60);

/// How long one request may wait: without a leader nobody answers, and the next attempt is worth more.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Some nodes, each of which can be killed and started again on the same port and data. Dropped, all are killed.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<Server>,
    urls: Vec<String>,
}

impl NatsCluster {
    /// Starts that many nodes, three or more, in the sandbox's folder: one cluster in each folder. Returns when
    /// streams with as many replicas can be created.
    ///
    /// The nodes do not tell their clients of each other: who is to find another node is given its URL, or is led
    /// there by a proxy.
    ///
    /// # Errors
    /// When there are too few nodes, nats-server is not installed, a node does not start, or they do not find together.
    pub async fn start(work_dir: &WorkDir, nodes: usize) -> anyhow::Result<Self> {
        Self::start_with(work_dir, nodes, &Configuration::default()).await
    }

    /// The same with a configuration of its own for all nodes.
    ///
    /// # Errors
    /// When there are too few nodes, nats-server is not installed, a node does not start, or they do not find together.
    pub async fn start_with(
        work_dir: &WorkDir,
        nodes: usize,
        configuration: &Configuration,
    ) -> anyhow::Result<Self> {
        ensure!(nodes >= 3, "fewer than three nodes cannot lose one and have a majority left");
        let ports = free_ports(nodes * 2)?;
        let (clients, routes) = ports.split_at(nodes);
        let routes: Vec<_> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let mut servers = Vec::new();
        for (node, (client, route)) in clients.iter().zip(&routes).enumerate() {
            let name = name(node);
            let arguments = [
                ["--server_name", &name],
                ["--cluster_name", "sandbox"],
                ["--cluster", route],
                ["--routes", &routes.join(",")],
            ];
            let mut arguments: Vec<_> = arguments.iter().flatten().map(ToString::to_string).collect();
            arguments.push("--no_advertise=true".to_owned());
            servers.push(Server::prepare(work_dir, &name, *client, &arguments, configuration)?);
        }
        // All of them first: each alone would wait for the others.
        for server in &mut servers {
            server.launch()?;
        }
        for server in &servers {
            server.await_greeting()?;
        }
        let urls = servers.iter().map(Server::url).collect();
        let cluster = Self { nodes: servers, urls };
        cluster.await_leader().await?;
        Ok(cluster)
    }

    /// Where to connect: the URLs of all nodes, separated by commas.
    #[must_use]
    pub fn url(&self) -> String {
        self.urls.join(",")
    }

    /// The URL of each node.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The node that leads a stream at this moment. Waits for an election, and out of an old leader's shadow: a node
    /// that was ended from here is never the answer.
    ///
    /// # Errors
    /// When the stream has no leader after a minute, because it does not exist or too many nodes are down.
    pub async fn leader_of(&self, stream: &str) -> anyhow::Result<usize> {
        let leader = wait::until_some("the stream to have a leader", LEADER_DEADLINE, async || {
            let Ok(context) = self.connect().await else {
                return Ok(None);
            };
            let Ok(stream) = context.get_stream(stream).await else {
                return Ok(None);
            };
            let leader = stream.cached_info().cluster.as_ref().and_then(|cluster| cluster.leader.as_deref());
            let started = self.nodes.iter().enumerate().filter(|(_, server)| server.is_started());
            Ok(started.map(|(node, _)| node).find(|node| leader == Some(&name(*node))))
        });
        leader.await.with_context(|| format!("stream {stream}"))
    }

    /// `kill -9` of one node. Does nothing to one that is down.
    ///
    /// # Errors
    /// When there is no such node, or it has ended by itself.
    pub fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        self.node(node)?.end(Signal::SIGKILL)
    }

    /// Stops one node as an administrator would. Does nothing to one that is down.
    ///
    /// # Errors
    /// When there is no such node, or it has ended by itself.
    pub fn stop(&mut self, node: usize) -> anyhow::Result<()> {
        self.node(node)?.end(Signal::SIGTERM)
    }

    /// Starts one node again, on the same port and data. Returns when it greets its clients; what it missed it
    /// learns from the others after that.
    ///
    /// # Errors
    /// When there is no such node, it runs, or it does not start.
    pub fn restart(&mut self, node: usize) -> anyhow::Result<()> {
        self.node(node)?.start()
    }

    fn node(&mut self, node: usize) -> anyhow::Result<&mut Server> {
        self.nodes.get_mut(node).with_context(|| format!("the cluster has no node {node}"))
    }

    /// Creates and deletes a stream with a replica on every node.
    async fn await_leader(&self) -> anyhow::Result<()> {
        const PROBE: &str = "SANDBOX_PROBE";
        let config = stream::Config {
            name: PROBE.to_owned(),
            subjects: vec!["sandbox.probe".to_owned()],
            num_replicas: self.nodes.len(),
            ..stream::Config::default()
        };
        let ready = wait::until_some("the cluster to have a leader", LEADER_DEADLINE, async || {
            let Ok(context) = self.connect().await else {
                return Ok(None);
            };
            // Whether or not an answer was lost on the way, the stream is there now, and then it is gone.
            let created = context.create_stream(config.clone()).await.is_ok();
            Ok((created && context.delete_stream(PROBE).await.is_ok()).then_some(()))
        });
        ready.await.with_context(|| {
            let logs = self.nodes.iter().map(|node| tail(&node.log()));
            format!("the nodes' logs say:\n{}", logs.collect::<Vec<_>>().join("\n\n"))
        })
    }

    async fn connect(&self) -> anyhow::Result<jetstream::Context> {
        let client = async_nats::connect(&self.urls).await?;
        Ok(ContextBuilder::new().timeout(REQUEST_TIMEOUT).build(client))
    }
}

fn name(node: usize) -> String {
    format!("nats-{node}")
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
