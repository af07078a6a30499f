use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn example() -> Packet {
    let record = |owner: &str, data| Record {
        name: name(owner),
        ttl: 120,
        unique: true,
        data,
    };
    Packet {
        id: 7,
        is_response: true,
        questions: vec![Question {
            name: name("app.local"),
            kind: PTR,
            unicast: true,
        }],
        answers: vec![record("app.local", Data::Ptr(name("host:1.app.local")))],
        authorities: Vec::new(),
        additional: vec![
            record(
                "host:1.app.local",
                Data::Srv {
                    port: 50002,
                    target: name("host.local"),
                },
            ),
            record("host:1.app.local", Data::Txt(vec![b"app".to_vec(), Vec::new()])),
            record("host.local", Data::A([10, 0, 0, 1].into())),
            record("host.local", Data::Aaaa("fe80::1".parse().unwrap())),
        ],
    }
}

#[test]
fn what_is_written_is_read_back() {
    assert_eq!(Packet::read(&example().write()), Some(example()));
}

#[test]
fn names() {
    for (text, sound) in [
        ("app.local", true),
        ("app.local.", true),
        ("my app.local", true),
        ("", false),
        (".local", false),
        ("a..local", false),
        (&format!("{}.local", "x".repeat(63)), true),
        (&format!("{}.local", "x".repeat(64)), false),
        (&["x".repeat(60).as_str(); 4].join("."), true),
        (&["x".repeat(63).as_str(); 4].join("."), false),
    ] {
        assert_eq!(Name::new(text).is_some(), sound, "{text}");
    }
    assert!(name("a.app.local").is_below(&name("app.local")));
    for other in ["app.local", "ap.local", "b.app.local"] {
        assert!(!name("app.local").is_below(&name(other)), "{other}");
    }
}

/// As `grandcat/zeroconf` writes it: names compressed, one record of a kind that is of no use.
#[test]
fn compressed_names_and_unknown_records() {
    let mut bytes = vec![0, 0, 0x84, 0, 0, 0, 0, 2, 0, 0, 0, 1];
    bytes.extend(b"\x03app\x05local\x00\x00\x0c\x00\x01\x00\x00\x0c\x80\x00\x09\x06host:1\xc0\x0c");
    bytes.extend(b"\xc0\x10\x00\x2f\x00\x01\x00\x00\x00\x78\x00\x03\x01\x02\x03");
    bytes.extend(b"\xc0\x21\x00\x21\x80\x01\x00\x00\x0c\x80\x00\x0d\x00\x00\x00\x00\xc3\x52\x04host\xc0\x10");
    let packet = Packet::read(&bytes).unwrap();
    assert_eq!(packet.answers.len(), 1);
    assert_eq!(packet.answers[0].data, Data::Ptr(name("host:1.app.local")));
    assert_eq!(packet.additional[0].name, name("host:1.app.local"));
    assert_eq!(
        packet.additional[0].data,
        Data::Srv {
            port: 50002,
            target: name("host.local")
        }
    );
}

#[test]
fn malformed_packets_end() {
    let header = |questions: u8| vec![0, 0, 0, 0, 0, questions, 0, 0, 0, 0, 0, 0];
    let question = |name: &[u8]| [header(1).as_slice(), name, b"\x00\x0c\x00\x01"].concat();
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("half a header", vec![0; 11]),
        ("a question less", header(1)),
        ("a name that points at itself", question(b"\xc0\x0c")),
        ("a name that points forward", question(b"\xc0\x20")),
        (
            "two names that point at each other",
            question(b"\x01a\xc0\x10\xc0\x0c"),
        ),
        ("a label beyond the end", question(b"\x3fa")),
        ("a label of a reserved kind", question(b"\x80a\x00")),
        ("an answer code", vec![0, 0, 0x80, 3, 0, 0, 0, 0, 0, 0, 0, 0]),
        (
            "a name without end",
            question(&[b"\x3f".as_slice(), &[b'a'; 63]].concat().repeat(5)),
        ),
    ] {
        assert_eq!(Packet::read(&bytes), None, "{what}");
    }
}

/// Every prefix and every damaged byte of a good packet is answered, one way or the other.
#[test]
fn damage_is_survived() {
    let good = example().write();
    for end in 0..good.len() {
        assert_eq!(Packet::read(&good[..end]), None, "cut at {end}");
    }
    for at in 0..good.len() {
        for flip in [0x01, 0x40, 0x80, 0xc0, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            let _survived = Packet::read(&bad);
        }
    }
}
