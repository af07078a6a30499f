use super::Failure;
use super::channel::{Channel, Consume};
use super::connection::{Connection, Login, Proof};
use super::content::{Assembly, Properties, bodies, header};
use super::frame::{END, Frame, Kind};
use super::method::{self, Deliver, Exchange, Method, Queue};
use super::wire::{Reader, Table, Value, put_table};
use bytes::{Bytes, BytesMut};
use outrigger_daemon::dial::Dial;
use outrigger_daemon::drain;
use outrigger_daemon::tasks::Tasks;
use outrigger_testkit::log;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const MOST: usize = 4096;

fn frames(bytes: &[u8]) -> Result<Vec<Frame>, Failure> {
    let mut read = BytesMut::from(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = Frame::next(&mut read, MOST)? {
        frames.push(frame);
    }
    Ok(frames)
}

#[test]
fn frames_come_in_any_pieces() {
    let mut sent = BytesMut::new();
    method::ack(&mut sent, 3, 7);
    method::close_ok(&mut sent, 0);
    sent.extend_from_slice(&super::frame::HEARTBEAT);
    let whole = frames(&sent).unwrap();
    assert_eq!(whole.len(), 3);
    assert_eq!(
        (whole[0].kind, whole[0].channel, whole[2].kind),
        (Kind::Method, 3, Kind::Heartbeat)
    );
    let mut read = BytesMut::new();
    let mut pieces = Vec::new();
    for byte in &sent {
        read.extend_from_slice(&[*byte]);
        pieces.extend(Frame::next(&mut read, MOST).unwrap());
    }
    assert_eq!(pieces, whole);
}

#[test]
fn what_is_no_frame() {
    for (bytes, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], Failure::NotAmqp),
        (b"-ERR unknown command\r\n", Failure::NotAmqp),
        (
            &[1, 0, 0, 0, 0, 0, 0, 0],
            Failure::Malformed("a frame without its end mark"),
        ),
        (
            &[1, 0, 0, 0x7f, 0xff, 0xff, 0xff],
            Failure::Malformed("a frame longer than was agreed"),
        ),
    ] {
        assert_eq!(frames(bytes), Err(expected), "{bytes:?}");
    }
    assert_eq!(frames(&[1, 0, 0]), Ok(Vec::new()), "not complete");
}

/// What we send is what others read: the numbers are written out.
#[test]
fn methods_as_bytes() {
    let mut to = BytesMut::new();
    method::publish(&mut to, 1, "ex", "k").unwrap();
    assert_eq!(
        to[..],
        [
            1, 0, 1, 0, 0, 0, 12, 0, 60, 0, 40, 0, 0, 2, b'e', b'x', 1, b'k', 0, END
        ]
    );
    to.clear();
    let queue = Queue {
        name: "q",
        durable: true,
        exclusive: false,
        auto_delete: true,
        arguments: Table::from([("a".to_owned(), Value::Int(1))]),
    };
    method::queue_declare(&mut to, 2, &queue).unwrap();
    let table = [0, 0, 0, 11, 1, b'a', b'l', 0, 0, 0, 0, 0, 0, 0, 1];
    let expected = [
        &[1, 0, 2, 0, 0, 0, 24, 0, 50, 0, 10, 0, 0, 1, b'q', 0b1010][..],
        &table,
        &[END],
    ]
    .concat();
    assert_eq!(to[..], expected);
    to.clear();
    let exchange = Exchange {
        name: "e",
        kind: "fanout",
        durable: true,
        auto_delete: false,
    };
    method::exchange_declare(&mut to, 2, &exchange).unwrap();
    assert_eq!(to[7..13], [0, 40, 0, 10, 0, 0]);
    assert_eq!(to[13..], *b"\x01e\x06fanout\x02\0\0\0\0\xce");
    let long = "x".repeat(256);
    let before = to.clone();
    assert_eq!(
        method::publish(&mut to, 1, "", &long),
        Err(Failure::TooLong("a routing key"))
    );
    assert_eq!(to, before, "nothing is appended");
}

#[test]
fn methods_that_come() {
    for (bytes, expected) in [
        (
            &[0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 9, 1][..],
            Method::Ack {
                tag: 9,
                multiple: true,
            },
        ),
        (
            &[0, 60, 0, 120, 0, 0, 0, 0, 0, 0, 0, 9, 0],
            Method::Nack {
                tag: 9,
                multiple: false,
            },
        ),
        (
            &[0, 20, 0, 40, 1, 0x94, 2, b'n', b'o', 0, 0, 0, 0],
            Method::ChannelClose {
                code: 404,
                text: "no".to_owned(),
            },
        ),
        (
            &[0, 60, 0, 60, 1, b'c', 0, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0],
            Method::Deliver(Deliver {
                tag: 5,
                redelivered: true,
            }),
        ),
    ] {
        assert_eq!(Method::read(Bytes::copy_from_slice(bytes)).unwrap(), expected);
        for length in 0..bytes.len().min(8) {
            let short = Method::read(Bytes::copy_from_slice(&bytes[..length]));
            assert!(short.is_err(), "{length} of {bytes:?}: {short:?}");
        }
    }
    assert!(Method::read(Bytes::from_static(&[9, 9, 9, 9])).is_err());
}

#[test]
fn tables_there_and_back() {
    let table = Table::from([
        ("void".to_owned(), Value::Void),
        ("yes".to_owned(), Value::Bool(true)),
        ("int".to_owned(), Value::Int(-5)),
        ("float".to_owned(), Value::Float(1.5)),
        ("decimal".to_owned(), Value::Decimal(2, 314)),
        ("text".to_owned(), Value::from("t")),
        ("time".to_owned(), Value::Time(9)),
        (
            "array".to_owned(),
            Value::Array(vec![Value::Int(1), Value::from("x")]),
        ),
        (
            "table".to_owned(),
            Value::Table(Table::from([("n".to_owned(), Value::Int(1))])),
        ),
    ]);
    let mut to = BytesMut::new();
    put_table(&mut to, &table).unwrap();
    assert_eq!(Reader(to.clone().freeze()).table().unwrap(), table);
    for length in 0..to.len() {
        assert!(
            Reader(to.clone().split_to(length).freeze()).table().is_err(),
            "{length}"
        );
    }
    let printed: Vec<String> = table.values().map(ToString::to_string).collect();
    assert_eq!(
        printed,
        [
            "[1 x]", "{2 314}", "1.5", "-5", "map[n:1]", "t", "9", "<nil>", "true"
        ]
    );
    // Everything that RabbitMQ may send beside what we do.
    for (bytes, expected) in [
        (&[b'b', 0xff][..], Value::Int(-1)),
        (&[b'B', 0xff], Value::Int(255)),
        (&[b's', 0xff, 0xfe], Value::Int(-2)),
        (&[b'u', 0xff, 0xfe], Value::Int(65534)),
        (&[b'I', 0xff, 0xff, 0xff, 0xff], Value::Int(-1)),
        (&[b'i', 0xff, 0xff, 0xff, 0xff], Value::Int(4_294_967_295)),
        (&[b'f', 0x3f, 0x80, 0, 0], Value::Float(1.0)),
        (&[b'x', 0, 0, 0, 1, b'y'], Value::from("y")),
    ] {
        let length = u8::try_from(bytes.len() + 2).unwrap();
        let table = [&[0, 0, 0, length, 1, b'n'][..], bytes].concat();
        let read = Reader(Bytes::from(table)).table().unwrap();
        assert_eq!(read.get("n"), Some(&expected), "{bytes:?}");
    }
}

#[test]
fn tables_within_tables_have_an_end() {
    let mut table = Table::new();
    for _ in 0..100 {
        table = Table::from([("t".to_owned(), Value::Table(table))]);
    }
    let mut to = BytesMut::new();
    put_table(&mut to, &table).unwrap();
    assert_eq!(
        Reader(to.freeze()).table(),
        Err(Failure::Malformed("a table within too many tables"))
    );
}

#[test]
fn messages_there_and_back() {
    let properties = Properties {
        content_type: "text/plain".to_owned(),
        headers: Table::from([("h".to_owned(), Value::from("v"))]),
        delivery_mode: 2,
        priority: 3,
        correlation_id: "c".to_owned(),
        expiration: "100".to_owned(),
        message_id: "m".to_owned(),
        kind: "t".to_owned(),
    };
    let body: Bytes = (0..10_000_u32)
        .map(|number| u8::try_from(number % 251).unwrap())
        .collect();
    for body in [Bytes::new(), body.slice(..10), body] {
        let mut to = BytesMut::new();
        header(&mut to, 1, &properties, body.len()).unwrap();
        for (head, part) in bodies(1, &body, MOST) {
            to.extend_from_slice(&head);
            to.extend_from_slice(&part);
            to.extend_from_slice(&[END]);
        }
        let mut assembly = Assembly::new(5, false);
        for frame in frames(&to).unwrap() {
            assert!(!assembly.is_complete());
            match frame.kind {
                Kind::Header => assembly.header(frame.payload).unwrap(),
                _ => assembly.body(frame.payload).unwrap(),
            }
        }
        assert!(assembly.is_complete());
        let delivery = assembly.delivery();
        assert_eq!((delivery.tag, &delivery.body), (5, &body));
        assert_eq!(delivery.properties().unwrap(), properties);
    }
}

#[test]
fn messages_that_are_none() {
    let announced = |size: u64| {
        let mut assembly = Assembly::new(1, false);
        let head = [&[0, 60, 0, 0][..], &size.to_be_bytes(), &[0, 0]].concat();
        assembly.header(Bytes::from(head)).map(|()| assembly)
    };
    assert!(announced(u64::MAX).is_err(), "too large");
    assert!(
        announced(3).unwrap().body(Bytes::from_static(b"four")).is_err(),
        "too long"
    );
    assert!(
        Assembly::new(1, false).body(Bytes::from_static(b"x")).is_err(),
        "no header"
    );
    let mut twice = announced(3).unwrap();
    assert!(
        twice
            .header(Bytes::from_static(&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
            .is_err()
    );
}

/// Whatever comes, nothing panics. The bytes are random, and the same in each run.
#[test]
fn noise() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..20_000 {
        let length = usize::try_from(random() % 64).unwrap();
        let mut bytes: Vec<u8> = (0..length)
            .map(|_| u8::try_from(random() & 0xff).unwrap())
            .collect();
        let _any = frames(&bytes);
        let _any = Reader(Bytes::from(bytes.clone())).table();
        if bytes.len() > 4 {
            let numbers = [
                (10, 10),
                (10, 30),
                (10, 50),
                (20, 40),
                (60, 60),
                (60, 80),
                (60, 120),
            ];
            let (class, method) = numbers[usize::try_from(random() % 7).unwrap()];
            bytes[..4].copy_from_slice(&[0, class, 0, method]);
            let _any = Method::read(Bytes::from(bytes.clone()));
        }
        let mut assembly = Assembly::new(1, false);
        if assembly.header(Bytes::from(bytes.clone())).is_ok() {
            let _any = assembly.body(Bytes::from(bytes));
            let _any = assembly.delivery().properties();
        }
    }
}

/// A server that follows a script: what it sends after each thing that it reads.
struct Script(TcpStream);

impl Script {
    async fn greeted(listener: &TcpListener) -> Self {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut greeting = [0; 8];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting, super::frame::GREETING);
        Self(stream)
    }

    /// Logs in whoever asks, opens channel 1 and turns on confirms.
    async fn publisher(listener: &TcpListener) -> Self {
        let mut this = Self::greeted(listener).await;
        this.send(
            0,
            (10, 10),
            &[&[0, 9, 0, 0, 0, 0][..], &[0, 0, 0, 5], b"PLAIN", &[0, 0, 0, 0]].concat(),
        )
        .await;
        this.expect((10, 11)).await;
        this.send(0, (10, 30), &[0, 10, 0, 2, 0, 0, 0, 1]).await;
        this.expect((10, 31)).await;
        this.expect((10, 40)).await;
        this.send(0, (10, 41), &[0]).await;
        this.expect((20, 10)).await;
        this.send(1, (20, 11), &[0, 0, 0, 0]).await;
        this.expect((85, 10)).await;
        this.send(1, (85, 11), &[]).await;
        this
    }

    async fn send(&mut self, channel: u16, (class, number): (u16, u16), arguments: &[u8]) {
        let size = u32::try_from(arguments.len() + 4).unwrap();
        let parts = [
            &[1][..],
            &channel.to_be_bytes(),
            &size.to_be_bytes(),
            &class.to_be_bytes(),
            &number.to_be_bytes(),
            arguments,
            &[END],
        ];
        self.0.write_all(&parts.concat()).await.unwrap();
    }

    async fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            let mut head = [0; 7];
            self.0.read_exact(&mut head).await.unwrap();
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
            let mut payload = vec![0; usize::try_from(size).unwrap() + 1];
            self.0.read_exact(&mut payload).await.unwrap();
            assert_eq!(payload.pop(), Some(END));
            if head[0] != 8 {
                return (head[0], payload);
            }
        }
    }

    async fn expect(&mut self, (class, number): (u16, u16)) {
        let (kind, payload) = self.frame().await;
        let found = (kind, &payload[..4]);
        assert_eq!(
            found,
            (1, &[class.to_be_bytes(), number.to_be_bytes()].concat()[..])
        );
    }
}

fn login() -> Login {
    Login {
        vhost: "/".to_owned(),
        proof: Proof::Password {
            user: "u".to_owned(),
            password: "p".to_owned(),
        },
        name: None,
        heartbeat: Duration::from_secs(1),
    }
}

async fn connect(listener: &TcpListener, tasks: &Tasks) -> Result<Connection, Failure> {
    let dial = Dial::plain(listener.local_addr().unwrap().to_string());
    let stream = dial
        .connect()
        .await
        .map_err(|failure| Failure::Lost(failure.to_string()))?;
    Connection::open(stream, &login(), &tasks.spawner()).await
}

async fn confirming(listener: &TcpListener, tasks: &Tasks) -> (Connection, Channel) {
    let connection = connect(listener, tasks).await.unwrap();
    let mut channel = connection.channel().await.unwrap();
    channel.confirm().await.unwrap();
    (connection, channel)
}

fn tasks() -> Tasks {
    Tasks::new(&log::captured().0, drain::channel().0)
}

/// Confirms come in any order, one by one and several at once, and reach whom they are for.
#[tokio::test]
async fn each_confirm_reaches_its_message() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tasks = tasks();
    let server = async {
        let mut server = Script::publisher(&listener).await;
        let mut bodies = Vec::new();
        while bodies.len() < 6 {
            if let (3, body) = server.frame().await {
                bodies.push(body);
            }
        }
        // The third is refused; the first two are confirmed together; the last is never answered.
        let tag = |number: u8, flag: u8| [0, 0, 0, 0, 0, 0, 0, number, flag];
        server.send(1, (60, 80), &tag(5, 0)).await;
        server.send(1, (60, 120), &tag(3, 0)).await;
        server.send(1, (60, 80), &tag(2, 1)).await;
        server.send(1, (60, 80), &tag(4, 1)).await;
        (bodies, server)
    };
    let client = async {
        let (connection, channel) = confirming(&listener, &tasks).await;
        let publish = |number: u8| {
            let channel = &channel;
            async move {
                let body = Bytes::from(vec![number]);
                channel.publish("e", "", &Properties::default(), &body).await
            }
        };
        let sixth = publish(6);
        let others = futures::future::join_all((1..=5).map(publish));
        let outcomes = tokio::select! {
            biased;
            outcomes = others => outcomes,
            outcome = sixth => panic!("{outcome:?} for what was never answered"),
        };
        drop(channel);
        (outcomes, connection)
    };
    let ((bodies, _server), (outcomes, _connection)) = tokio::join!(server, client);
    assert_eq!(
        bodies,
        (1..=6).map(|number| vec![number]).collect::<Vec<_>>(),
        "in order"
    );
    assert_eq!(outcomes, [Ok(()), Ok(()), Err(Failure::Refused), Ok(()), Ok(())]);
}

/// What is not confirmed when the connection is lost has failed, for everybody who waits.
#[tokio::test]
async fn a_lost_connection_fails_what_is_under_way() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tasks = tasks();
    let server = async {
        let mut server = Script::publisher(&listener).await;
        let mut bodies = 0;
        while bodies < 3 {
            bodies += usize::from(server.frame().await.0 == 3);
        }
    };
    let client = async {
        let (connection, channel) = confirming(&listener, &tasks).await;
        let body = Bytes::from_static(b"x");
        let properties = Properties::default();
        let publish = || channel.publish("e", "", &properties, &body);
        let outcomes = futures::future::join_all([publish(), publish(), publish()]).await;
        let late = publish().await;
        (outcomes, late, connection.ended().await)
    };
    let ((), (outcomes, late, end)) = tokio::join!(server, client);
    for outcome in outcomes.into_iter().chain([late, Err(end)]) {
        assert!(matches!(outcome, Err(Failure::Lost(_))), "{outcome:?}");
    }
}

/// Somebody who accepts and says nothing any more is noticed by the heartbeats that do not come.
#[tokio::test]
async fn silence_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tasks = tasks();
    let client = async {
        let (connection, _channel) = confirming(&listener, &tasks).await;
        connection.ended().await
    };
    let (_server, end) = tokio::join!(Script::publisher(&listener), client);
    assert_eq!(end, Failure::Silent(Duration::from_secs(3)));
}

/// A message for a subscriber who has left goes back.
#[tokio::test]
async fn what_nobody_takes_goes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tasks = tasks();
    let server = async {
        let mut server = Script::publisher(&listener).await;
        server.expect((60, 20)).await;
        server.send(1, (60, 21), &[1, b'q']).await;
        server.expect((60, 30)).await;
        server
            .send(1, (60, 60), &[1, b'q', 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0])
            .await;
        server
            .0
            .write_all(&[
                2, 0, 1, 0, 0, 0, 14, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, END,
            ])
            .await
            .unwrap();
        let (_, payload) = server.frame().await;
        assert_eq!(payload, [0, 60, 0, 120, 0, 0, 0, 0, 0, 0, 0, 7, 0b10]);
    };
    let client = async {
        let (connection, mut channel) = confirming(&listener, &tasks).await;
        let consume = Consume {
            queue: "q",
            tag: "q",
            auto_ack: false,
            room: 1,
        };
        drop(channel.consume(consume).await.unwrap());
        channel.cancel("q");
        (connection, channel)
    };
    let ((), _connection) = tokio::join!(server, client);
}

#[tokio::test]
async fn who_is_no_broker() {
    // The last is a connection.start that offers another way to log in.
    let start = [
        1, 0, 0, 0, 0, 0, 21, 0, 10, 0, 10, 0, 9, 0, 0, 0, 0, 0, 0, 0, 3, b'X', b'-', b'Y', 0, 0, 0, 0, END,
    ];
    for (answer, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], Failure::NotAmqp),
        (b"AMQP\x00\x01\x00\x00", Failure::NotAmqp),
        (b"", Failure::NotAmqp),
        (&start, Failure::Login),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tasks = tasks();
        let server = async {
            let mut server = Script::greeted(&listener).await;
            server.0.write_all(answer).await.unwrap();
        };
        let ((), outcome) = tokio::join!(server, connect(&listener, &tasks));
        assert_eq!(outcome.err(), Some(expected), "{answer:?}");
    }
}
