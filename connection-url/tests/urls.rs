//! What is read of a URL, what is refused, and what is shown.

use connection_url::ConnectionUrl;
use proptest::prelude::*;
use sqlx::postgres::PgSslMode;

fn refusal(url: &str) -> String {
    ConnectionUrl::new(url).postgres().expect_err(url).to_string()
}

#[test]
fn hosts_ports_databases_and_sockets_are_read_as_libpq_reads_them() {
    for (url, host, port, database, user) in [
        ("postgres://app@db/prod", "db", 5432, Some("prod"), "app"),
        ("postgresql://app@db:6432/prod", "db", 6432, Some("prod"), "app"),
        ("postgres://app@[::1]:5433/prod", "::1", 5433, Some("prod"), "app"),
        ("postgres://app@[2001:db8::7]/prod", "2001:db8::7", 5432, Some("prod"), "app"),
        ("postgres://app@/prod?host=::1", "::1", 5432, Some("prod"), "app"),
        ("postgres://app@10.0.0.7/prod?port=7", "10.0.0.7", 7, Some("prod"), "app"),
        ("postgres://app@db/prod?hostaddr=10.0.0.7", "10.0.0.7", 5432, Some("prod"), "app"),
        ("postgres://app:pa,ss@db/prod", "db", 5432, Some("prod"), "app"),
        ("postgres://app:p@ss:w@db/prod", "db", 5432, Some("prod"), "app"),
        ("postgres://app:p%2Fs%3Fs%23@db/pr%20od", "db", 5432, Some("pr od"), "app"),
        ("postgres://a,b:x@db/prod", "db", 5432, Some("prod"), "a,b"),
        ("postgres://app@db/x?dbname=prod&user=other", "db", 5432, Some("prod"), "other"),
        ("postgres://app@d%62/prod", "db", 5432, Some("prod"), "app"),
        ("postgres://team%2Fapp%40x:pw@[::1]/prod", "::1", 5432, Some("prod"), "team/app@x"),
    ] {
        let options = ConnectionUrl::new(url).postgres().expect(url);
        assert_eq!(options.get_host(), host, "{url}");
        assert_eq!((options.get_port(), options.get_database()), (port, database), "{url}");
        assert_eq!(options.get_username(), user, "{url}");
        assert!(ConnectionUrl::new(url).postgres_with_files().is_ok(), "{url}");
        assert!(options.get_socket().is_none(), "{url}");
    }
    // libpq's user is that of the system.
    let id = std::process::Command::new("id").arg("-un").output().expect("id");
    let name = String::from_utf8(id.stdout).expect("a name");
    for url in ["postgres://db/prod", "postgres://db", "postgres://:pw@db/prod"] {
        let options = ConnectionUrl::new(url).postgres().expect(url);
        assert_eq!(options.get_username(), name.trim(), "{url}");
    }
    for url in ["postgres://%2Frun%2Fpostgresql/prod", "postgres://app@/prod?host=/run/postgresql"] {
        let options = ConnectionUrl::new(url).postgres_with_files().expect(url);
        assert_eq!(
            options.get_socket().map(std::path::PathBuf::as_path),
            Some("/run/postgresql".as_ref()),
            "{url}"
        );
    }
}

#[test]
fn parameters_may_hold_commas_and_reach_the_session() {
    let url =
        "postgres://app@db/prod?options=-c%20search_path%3Da,b&application_name=one,two&options[jit]=off";
    let options = ConnectionUrl::new(url).postgres().expect("valid");
    assert_eq!(options.get_options(), Some("-c search_path=a,b -c jit=off"));
    assert_eq!(options.get_application_name(), Some("one,two"));
}

#[test]
fn what_is_said_of_tls_means_what_libpq_means_by_it() {
    for (query, mode) in [
        ("", PgSslMode::Prefer),
        ("?sslmode=disable", PgSslMode::Disable),
        ("?sslmode=require", PgSslMode::Require),
        ("?sslmode=require&sslrootcert=/etc/ca.pem", PgSslMode::VerifyCa),
        ("?sslmode=verify-full&sslrootcert=system", PgSslMode::VerifyFull),
        ("?sslrootcert=system", PgSslMode::VerifyFull),
    ] {
        let options = ConnectionUrl::new(format!("postgres://app@db/prod{query}")).postgres().expect(query);
        let shown = |mode: PgSslMode| format!("{mode:?}");
        assert_eq!(shown(options.get_ssl_mode()), shown(mode), "{query}");
    }
}

#[test]
fn what_the_driver_would_misread_is_refused_by_name() {
    for url in [
        "postgres://app@db1,db2/prod",
        "postgres://app@db1:5432,db2:5433/prod?target_session_attrs=read-write",
        "postgres://app@[::1],[::2]/prod",
        "postgres:///prod?host=db1,db2",
        "postgres://app@db/prod?port=5432,5433",
        "postgres://app@db/prod?hostaddr=10.0.0.1,10.0.0.2",
    ] {
        assert!(refusal(url).contains("several hosts"), "{url}: {}", refusal(url));
    }
    for url in
        ["mysql://app@db/prod", "nats://db:4222", "http://db/prod", "jdbc:postgresql://db/prod", "db", ""]
    {
        assert!(refusal(url).contains("must begin with postgres://"), "{url}: {}", refusal(url));
    }
    for (url, named) in [
        ("postgres://app@db/prod?sslpassword=x", "sslpassword"),
        ("postgres://app@db/prod?channel_binding=require", "channel_binding"),
        ("postgres://app@db/prod?target_session_attrs=standby", "target_session_attrs"),
        ("postgres://app@db/prod?pool_size=10", "pool_size"),
        ("postgres://app@db/prod?sslmode=maybe", "sslmode"),
        ("postgres://app@db/prod?sslmode=disable&sslmode=require", "sslmode twice"),
        ("postgres://app@db/prod?host=a&hostaddr=10.0.0.7", "together"),
        ("postgres://app@db:port/prod", "port"),
        ("postgres://app@::1/prod", "IPv6"),
    ] {
        assert!(refusal(url).contains(named), "{url}: {}", refusal(url));
    }
    let harmless = "postgres://app@db/prod?connect_timeout=5&keepalives=1&target_session_attrs=primary";
    assert!(ConnectionUrl::new(harmless).postgres().is_ok());
}

#[test]
fn nats_servers_are_listed_with_one_login_and_commas_in_it_are_its_own() {
    type Login = Option<(&'static str, Option<&'static str>)>;
    let table: [(&str, &[&str], Login); 9] = [
        ("nats://one:4222", &["nats://one:4222"], None),
        ("nats://one:4222/", &["nats://one:4222"], None),
        ("nats://one,tls://two:5", &["nats://one", "tls://two:5"], None),
        ("nats://one:4222,two:4223", &["nats://one:4222", "nats://two:4223"], None),
        ("nats://u:p@[::1]:4222,[::2]", &["nats://[::1]:4222", "nats://[::2]"], Some(("u", Some("p")))),
        ("nats://u:pa,ss@one", &["nats://one"], Some(("u", Some("pa,ss")))),
        ("nats://to,ken@one,two", &["nats://one", "nats://two"], Some(("to,ken", None))),
        ("nats://u:p%40%2Fs@one", &["nats://one"], Some(("u", Some("p@/s")))),
        ("tls://$2a:p@ss@one", &["tls://one"], Some(("$2a", Some("p@ss")))),
    ];
    for (url, addresses, login) in table {
        let servers = ConnectionUrl::new(url).nats().expect(url);
        let found: Vec<&str> = servers.iter().map(|server| &*server.address).collect();
        assert_eq!(found, addresses, "{url}");
        let found = servers.iter().find_map(|server| server.login.clone());
        let login = login.map(|(user, password)| (user.to_owned(), password.map(str::to_owned)));
        assert_eq!(found, login, "{url}");
    }
    for (url, said) in [
        ("postgres://one/db", "must begin with nats://"),
        ("http://one:8222", "must begin with nats://"),
        ("ws://one:80", "WebSocket"),
        ("nats://one:4222,wss://two", "WebSocket"),
        ("nats://one:4222,u:p@two:4222", "%2C"),
        ("nats://one:4222?tls=true", "parameters are not supported"),
        ("nats://u:p/s@one", "%2F"),
        ("nats://", "host"),
        ("nats://one,", "host"),
        ("nats://::1:4222", "IPv6"),
    ] {
        let refusal = ConnectionUrl::new(url).nats().expect_err(url).to_string();
        assert!(refusal.contains(said), "{url}: {refusal}");
    }
}

#[test]
fn what_is_no_secret_stays_readable() {
    for (url, shown) in [
        ("postgres://app:hunter2@db:5433/prod", "postgres://app:***@db:5433/prod"),
        ("postgres://app@[::1]/prod?sslmode=require", "postgres://app@[::1]/prod?sslmode=require"),
        (
            "postgres://app@db/prod?password=x&sslmode=require",
            "postgres://app@db/prod?password=***&sslmode=require",
        ),
        ("nats://broker:4222", "nats://broker:4222"),
        ("nats://a:x@one:4222,two:4222", "nats://a:***@one:4222,nats://two:4222"),
        ("nats://token@one:4222", "nats://***@one:4222"),
        // It may as well be a user with a password that begins with slashes.
        ("app://hunter2?", "***"),
    ] {
        assert_eq!(ConnectionUrl::new(url).to_string(), shown);
    }
}

fn renderings(url: &str) -> Vec<String> {
    let url = ConnectionUrl::new(url);
    let mut all = vec![url.to_string(), format!("{url:?}"), serde_json::to_string(&url).expect("serialises")];
    all.extend(url.postgres().err().map(|error| error.to_string()));
    all.extend(url.nats().err().map(|error| error.to_string()));
    all.extend(url.nats().ok().map(|servers| format!("{servers:?}")));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    /// Whatever stands in the password, encoded as it should be or not.
    #[test]
    fn no_rendering_shows_the_secret(
        before in "[a-z0-9/?#@:,;&=%\\[\\] -]{0,6}",
        after in "[a-z0-9/?#@:,;&=%\\[\\] -]{0,6}",
        form in 0_usize..12,
    ) {
        let secret = format!("{before}HUNTER{after}");
        // With a colon it is a user's name and a password.
        let token = secret.replace(':', "");
        let url = match form {
            0 => format!("postgres://app:{secret}@db/prod?sslmode=verify-full"),
            1 => format!("postgres://app@db/prod?password={secret}"),
            2 => format!("postgres://app:{secret}@[::1]:5432/prod"),
            3 => format!("postgres://app:{secret}@db1,db2/prod"),
            4 => format!("nats://{token}@broker:4222"),
            5 => format!("nats://app:{secret}@one:4222,nats://app:{secret}@two:4222"),
            6 => format!("nats://app:{secret}@one:4222,two:4222"),
            7 => format!("tls://one:4222,tls://{token}@two:4222"),
            8 => format!("app:{secret} at db"),
            9 => secret.clone(),
            10 => format!("postgres://app@db/prod?sslmode=require&sslpassword={secret}&x{secret}=1"),
            _ => format!("mysql://app:{secret}@db/prod"),
        };
        for rendering in renderings(&url) {
            prop_assert!(!rendering.contains("HUNTER"), "{url}: {rendering}");
        }
    }
}

#[test]
fn blanks_and_broken_escapes_are_refused_by_name() {
    for (text, word) in [
        ("nats://one:4222, nats://two:4222", "a blank"),
        ("nats://u:%zz@one:4222", "does not begin an escape"),
        ("nats://u:%FF@one:4222", "does not begin an escape"),
        ("nats://u:%00@one:4222", "does not begin an escape"),
        ("nats://u:a%@one:4222", "does not begin an escape"),
    ] {
        let error = ConnectionUrl::new(text).nats().expect_err(text).to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
    let error = ConnectionUrl::new("postgres://u:%zz@db/x").postgres().expect_err("broken").to_string();
    assert!(error.contains("does not begin an escape"), "{error}");
    assert!(ConnectionUrl::new("postgres://u:%25%C3%A9@db/x").postgres().is_ok());
}
