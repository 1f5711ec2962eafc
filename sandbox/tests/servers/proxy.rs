//! The proxy, in front of small servers and of the real ones.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};

use sandbox::{
    fixture,
    proxy::{Flow, Proxy},
    wait,
};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use super::DEADLINE;

/// How long nothing must happen to count as silence. A slow machine can only make a test pass that should not.
const SILENCE: Duration = Duration::from_millis(150);

/// Greets with one letter, then sends back what it gets.
async fn echo(letter: u8) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = socket.write_all(&[letter]).await;
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Ok(address)
}

/// What each connection to a [`collector`] brought, and how it ended.
type Collected = mpsc::UnboundedReceiver<(usize, std::io::Result<()>)>;

/// Greets with a letter, then reads every connection to its end.
async fn collector() -> anyhow::Result<(SocketAddr, Collected)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let (sender, collected) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let _ = socket.write_all(b"c").await;
                let mut bytes = Vec::new();
                let end = socket.read_to_end(&mut bytes).await.map(drop);
                let _ = sender.send((bytes.len(), end));
            });
        }
    });
    Ok((address, collected))
}

/// Connects and reads the greeting: the proxy has passed the connection on.
async fn greeted(proxy: &Proxy) -> anyhow::Result<(TcpStream, u8)> {
    let mut socket = TcpStream::connect(proxy.address()).await?;
    let letter = timeout(DEADLINE, socket.read_u8()).await??;
    Ok((socket, letter))
}

async fn round_trip(socket: &mut TcpStream) -> anyhow::Result<Duration> {
    let start = Instant::now();
    socket.write_all(b"x").await?;
    anyhow::ensure!(timeout(DEADLINE, socket.read_u8()).await?? == b'x', "another letter came back");
    Ok(start.elapsed())
}

async fn is_silent(socket: &mut TcpStream) -> bool {
    timeout(SILENCE, socket.read_u8()).await.is_err()
}

async fn is_reset(socket: &mut TcpStream) -> anyhow::Result<bool> {
    let read = timeout(DEADLINE, socket.read_u8()).await?;
    Ok(read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset))
}

#[tokio::test]
async fn a_delayed_round_trip_takes_two_delays_and_many_at_once_do_not_queue_up() -> anyhow::Result<()> {
    const DELAY: Duration = Duration::from_millis(200);
    let proxy = Proxy::start(echo(b'a').await?).await?;
    let (mut socket, _) = greeted(&proxy).await?;
    proxy.set(Flow::Delay(DELAY));
    assert!(round_trip(&mut socket).await? >= DELAY * 2);

    // Paced, so that they arrive as chunks of their own.
    let (mut from, mut to) = socket.split();
    let start = Instant::now();
    let sending = async {
        let mut pace = tokio::time::interval(DELAY / 100);
        for letter in 0..100 {
            pace.tick().await;
            to.write_u8(letter).await?;
        }
        std::io::Result::Ok(())
    };
    let mut letters = [0; 100];
    let (sent, read) = tokio::join!(sending, timeout(DEADLINE, from.read_exact(&mut letters)));
    sent?;
    read??;
    assert!(letters.is_sorted(), "the order stays");
    assert!(start.elapsed() < DELAY * 30, "{:?}", start.elapsed());

    proxy.set(Flow::Delay(DEADLINE * 60));
    socket.write_all(b"x").await?;
    assert!(is_silent(&mut socket).await);
    proxy.set(Flow::Open);
    assert_eq!(timeout(DEADLINE, socket.read_u8()).await??, b'x', "it need not wait for its time any more");
    Ok(())
}

#[tokio::test]
async fn in_a_silent_network_old_and_new_connections_wait_and_go_on_when_it_opens() -> anyhow::Result<()> {
    let proxy = Proxy::start(echo(b'a').await?).await?;
    let (mut old, _) = greeted(&proxy).await?;
    proxy.set(Flow::HoldBoth);
    old.write_all(b"x").await?;
    let mut new = TcpStream::connect(proxy.address()).await?;
    assert!(is_silent(&mut old).await);
    assert!(is_silent(&mut new).await);
    proxy.set(Flow::Open);
    assert_eq!(timeout(DEADLINE, old.read_u8()).await??, b'x');
    assert_eq!(timeout(DEADLINE, new.read_u8()).await??, b'a');
    Ok(())
}

#[tokio::test]
async fn a_server_learns_nothing_of_a_client_that_ends_in_a_silent_network() -> anyhow::Result<()> {
    let (address, mut collected) = collector().await?;
    let proxy = Proxy::start(address).await?;
    for flow in [Flow::HoldToServer, Flow::HoldBoth] {
        let (mut client, _) = greeted(&proxy).await?;
        client.write_all(b"before").await?;
        proxy.set(flow);
        client.write_all(b" and after").await?;
        drop(client);
        assert!(timeout(SILENCE, collected.recv()).await.is_err(), "{flow:?}");
        proxy.set(Flow::Open);
        let (bytes, end) = timeout(DEADLINE, collected.recv()).await?.expect("the collector lives");
        assert_eq!(bytes, b"before and after".len(), "{flow:?}");
        assert!(end.is_ok(), "{flow:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_cut_resets_both_ends_and_the_next_connection_is_served() -> anyhow::Result<()> {
    let (address, mut collected) = collector().await?;
    let proxy = Proxy::start(echo(b'a').await?).await?;
    let (mut client, _) = greeted(&proxy).await?;
    proxy.cut();
    assert!(is_reset(&mut client).await?, "the client's end");
    let (mut client, _) = greeted(&proxy).await?;
    round_trip(&mut client).await?;

    let proxy = Proxy::start(address).await?;
    let (mut client, _) = greeted(&proxy).await?;
    proxy.cut_after(3);
    client.write_all(b"abc").await?;
    let (bytes, end) = timeout(DEADLINE, collected.recv()).await?.expect("the collector lives");
    assert_eq!(bytes, 3);
    assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset), "the server's end");
    Ok(())
}

#[tokio::test]
async fn an_unreachable_server_resets_what_is_and_what_comes_until_it_is_back() -> anyhow::Result<()> {
    let proxy = Proxy::start(echo(b'a').await?).await?;
    let (mut client, _) = greeted(&proxy).await?;
    proxy.set(Flow::Refuse);
    assert!(is_reset(&mut client).await?);
    for _ in 0..3 {
        assert!(greeted(&proxy).await.is_err());
    }
    proxy.set(Flow::Open);
    greeted(&proxy).await?;
    Ok(())
}

#[tokio::test]
async fn a_cut_after_so_many_bytes_hits_every_connection_once_and_in_the_middle() -> anyhow::Result<()> {
    const BUDGET: usize = 123_457;
    let (address, mut collected) = collector().await?;
    let proxy = Proxy::start(address).await?;
    let (bystander, _) = greeted(&proxy).await?;
    let (mut client, _) = greeted(&proxy).await?;
    proxy.cut_after(BUDGET as u64);
    // How much the client gets rid of depends on buffers, and its error on whether it writes or waits.
    let _ = client.write_all(&vec![7; BUDGET * 3]).await;
    let mut ends = Vec::new();
    for _ in 0..2 {
        let (bytes, end) = timeout(DEADLINE, collected.recv()).await?.expect("the collector lives");
        assert!(end.is_err(), "cut, not closed");
        ends.push(bytes);
    }
    ends.sort_unstable();
    assert_eq!(ends, [0, BUDGET]);
    drop(bystander);

    let (mut client, _) = greeted(&proxy).await?;
    client.write_all(&vec![7; BUDGET * 3]).await?;
    drop(client);
    let (bytes, end) = timeout(DEADLINE, collected.recv()).await?.expect("the collector lives");
    assert_eq!(bytes, BUDGET * 3, "once only");
    assert!(end.is_ok());
    Ok(())
}

#[tokio::test]
async fn an_aimed_proxy_cuts_what_it_had_and_goes_to_the_other_server() -> anyhow::Result<()> {
    let proxy = Proxy::start(echo(b'a').await?).await?;
    let (mut client, letter) = greeted(&proxy).await?;
    assert_eq!(letter, b'a');
    proxy.aim(echo(b'b').await?);
    assert!(is_reset(&mut client).await?);
    assert_eq!(greeted(&proxy).await?.1, b'b');
    Ok(())
}

#[tokio::test]
async fn a_postgresql_session_cut_in_the_middle_of_an_answer_fails_and_a_new_one_works() -> anyhow::Result<()>
{
    let direct = fixture::empty_database().await?.url;
    let mut url = url::Url::parse(&direct)?;
    let proxy = Proxy::start(url.socket_addrs(|| None)?[0]).await?;
    url.set_port(Some(proxy.address().port())).expect("it has a host");
    let mut connection = PgConnection::connect(url.as_str()).await?;
    let large = "select string_agg(md5(n::text), '') from generate_series(1, 10000) n";
    proxy.cut_after(50_000);
    let failed = sqlx::query_scalar::<_, String>(large).fetch_one(&mut connection).await;
    assert!(matches!(failed, Err(sqlx::Error::Io(_))), "{failed:?}");
    let mut connection = PgConnection::connect(url.as_str()).await?;
    connection.execute(large).await?;
    Ok(())
}

#[tokio::test]
async fn a_nats_client_that_was_disconnected_connects_again() -> anyhow::Result<()> {
    let server = fixture::shared().nats.url().trim_start_matches("nats://").parse()?;
    let proxy = Proxy::start(server).await?;
    let client = async_nats::connect(format!("nats://{}", proxy.address())).await?;
    client.flush().await?;
    let connects = || client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed);
    let before = connects();
    proxy.cut();
    wait::until_some("the client to connect again", DEADLINE, async || {
        Ok((connects() > before).then_some(()))
    })
    .await?;
    client.flush().await?;
    Ok(())
}
