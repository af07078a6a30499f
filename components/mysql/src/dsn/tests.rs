use super::{Dsn, Tls};
use mysql_async::Opts;
use outrigger_component::error::Error;

fn parse(text: &str) -> Result<Dsn, Error> {
    Dsn::parse(text, &outrigger_testkit::log::captured().0)
}

#[test]
fn forms() {
    for (text, expected) in [
        ("u:p@tcp(h:3307)/db", "u p h 3307 db []"),
        ("u:p@tcp(h)/?allowNativePasswords=true", "u p h 3306 - []"),
        ("u:p@w:d@tcp(127.0.0.1:1)/", "u p@w:d 127.0.0.1 1 - []"),
        ("u@tcp([::1]:5)/d", "u - ::1 5 d []"),
        ("/", " - 127.0.0.1 3306 - []"),
        (
            "u:p@tcp(h:1)/d?time_zone=%27%2B00%3A00%27&parseTime=true",
            "u p h 1 d [\"SET time_zone = '+00:00'\"]",
        ),
    ] {
        let dsn = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let options = Opts::from(dsn.options(Tls::Off, "").unwrap());
        let shown = format!(
            "{} {} {} {} {} {:?}",
            options.user().unwrap_or("-"),
            options.pass().unwrap_or("-"),
            options.ip_or_hostname(),
            options.tcp_port(),
            options.db_name().unwrap_or("-"),
            options.init()
        );
        assert_eq!(shown, expected, "{text}");
    }
    let unix = parse("u:p@unix(/run/m/s.sock)/db").unwrap();
    assert_eq!(
        Opts::from(unix.options(Tls::Off, "").unwrap()).socket(),
        Some("/run/m/s.sock")
    );
    assert_eq!(unix.address(), "/run/m/s.sock");
}

#[test]
fn the_machines_authorities_are_trusted() {
    let options = parse("u@tcp(h)/?tls=true").unwrap().options(Tls::On, "").unwrap();
    let options = mysql_async::Opts::from(options);
    let trusted = options.ssl_opts().expect("with TLS").root_certs().len();
    assert_eq!(trusted, outrigger_daemon::tls::authorities().len());
}

#[test]
fn tls() {
    for (text, expected) in [
        ("", Tls::Off),
        ("tls=false", Tls::Off),
        ("tls=true", Tls::On),
        ("tls=skip-verify", Tls::Unchecked),
        ("tls=preferred", Tls::Preferred),
        ("tls=custom", Tls::Custom),
    ] {
        assert_eq!(
            parse(&format!("u@tcp(h)/?{text}")).unwrap().tls(),
            expected,
            "{text}"
        );
    }
    let error = parse("u@tcp(h)/?tls=custom")
        .unwrap()
        .options(Tls::Custom, "")
        .err();
    assert!(error.unwrap().message.contains("pemPath"));
}

#[test]
fn illegal() {
    for (text, expected) in [
        ("", "there must be a slash"),
        ("u:hunter2@tcp(h)", "there must be a slash"),
        ("u:hunter2@tcp(h:many)/", "written as tcp(host:port)"),
        ("u:hunter2@pipe(x)/", "written as tcp(host:port)"),
        ("u:hunter2@tcp(h)/?tls=maybe", "not \"maybe\""),
        ("u:hunter2@tcp(h)/?x;y=1", "cannot be set"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.message.contains(expected), "{text}: {error}");
        assert!(!error.message.contains("hunter2"), "{error}");
    }
    let shown = format!("{:?}", parse("u:hunter2@tcp(h)/").unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
}
