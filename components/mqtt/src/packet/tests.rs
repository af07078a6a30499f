use super::*;

fn packets(bytes: &[u8]) -> Result<Vec<Packet>, Failure> {
    let mut read = BytesMut::from(bytes);
    let mut packets = Vec::new();
    while let Some(packet) = Packet::next(&mut read)? {
        packets.push(packet);
    }
    Ok(packets)
}

fn publish_of(topic: &str, payload: &'static [u8], qos: Qos, id: u16, retained: bool) -> Packet {
    Packet::Publish(Publish {
        topic: topic.to_owned(),
        payload: Bytes::from_static(payload),
        qos,
        retained,
        id,
    })
}

/// The bytes are those of the standard's figures.
#[test]
fn what_comes() {
    for (bytes, expected) in [
        (&[0x20, 2, 0, 0][..], Packet::Welcome { session: false }),
        (&[0x20, 2, 1, 0], Packet::Welcome { session: true }),
        (&[0x20, 2, 0, 4], Packet::NotWelcome(Refusal::Password)),
        (&[0x20, 2, 0, 5], Packet::NotWelcome(Refusal::Forbidden)),
        (&[0x20, 2, 0, 99], Packet::NotWelcome(Refusal::Other(99))),
        (
            b"\x30\x05\x00\x03a/bx"[..7].as_ref(),
            publish_of("a/b", b"", Qos::Zero, 0, false),
        ),
        (
            b"\x31\x05\x00\x01a\x01\x02",
            publish_of("a", b"\x01\x02", Qos::Zero, 0, true),
        ),
        (
            b"\x3a\x06\x00\x01a\x00\x0ax",
            publish_of("a", b"x", Qos::One, 10, false),
        ),
        (
            b"\x34\x05\x00\x01a\x12\x34",
            publish_of("a", b"", Qos::Two, 0x1234, false),
        ),
        (&[0x40, 2, 0, 9], Packet::PubAck(9)),
        (&[0x50, 2, 0, 9], Packet::PubRec(9)),
        (&[0x62, 2, 0, 9], Packet::PubRel(9)),
        (&[0x70, 2, 0, 9], Packet::PubComp(9)),
        (
            &[0x90, 5, 0, 9, 0, 2, 0x80],
            Packet::SubAck(9, vec![true, true, false]),
        ),
        (&[0xb0, 2, 0, 9], Packet::UnsubAck(9)),
        (&[0xd0, 0], Packet::Pong),
    ] {
        assert_eq!(packets(bytes).unwrap(), [expected], "{bytes:?}");
        for length in 0..bytes.len() {
            assert_eq!(packets(&bytes[..length]), Ok(Vec::new()), "{length} of {bytes:?}");
        }
    }
}

#[test]
fn what_is_none() {
    for bytes in [
        &b"HTTP/1.1 400 Bad Request"[..],
        b"-ERR unknown command\r\n",
        &[0x15, 3, 1, 0, 2, 2, 0x50],
        &[0x30, 0xff, 0xff, 0xff, 0xff],
        &[0x20, 1, 0],
        &[0x20, 3, 0, 0, 0],
        &[0x36, 3, 0, 1, b'a'],
        &[0x30, 3, 0, 9, b'a'],
        &[0x32, 5, 0, 1, b'a', 0, 0],
        &[0x30, 3, 0, 1, 0xff],
        &[0x40, 2, 0, 0],
        &[0x60, 2, 0, 1],
        &[0x10, 0],
        &[0xf0, 0],
    ] {
        assert!(packets(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn what_we_send() {
    let hello = Hello {
        client: "c".to_owned(),
        user: Some("u".to_owned()),
        password: Some("p".to_owned()),
        clean: true,
        keep_alive_seconds: 30,
    };
    let mut to = BytesMut::new();
    connect(&mut to, &hello).unwrap();
    assert_eq!(
        to[..],
        *b"\x10\x13\x00\x04MQTT\x04\xc2\x00\x1e\x00\x01c\x00\x01u\x00\x01p"
    );
    let anonymous = Hello {
        user: None,
        password: None,
        clean: false,
        ..hello
    };
    to.clear();
    connect(&mut to, &anonymous).unwrap();
    assert_eq!(to[..], *b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x1e\x00\x01c");
    to.clear();
    subscribe(&mut to, 10, ["a/b", "c/d"], Qos::One).unwrap();
    assert_eq!(to[..], *b"\x82\x0e\x00\x0a\x00\x03a/b\x01\x00\x03c/d\x01");
    to.clear();
    unsubscribe(&mut to, 10, "a/b").unwrap();
    assert_eq!(to[..], *b"\xa2\x07\x00\x0a\x00\x03a/b");
    to.clear();
    for kind in [Ack::Done, Ack::Received, Ack::Release, Ack::Complete] {
        ack(&mut to, kind, 5);
    }
    ping(&mut to);
    disconnect(&mut to);
    assert_eq!(
        to[..],
        *b"\x40\x02\x00\x05\x50\x02\x00\x05\x62\x02\x00\x05\x70\x02\x00\x05\xc0\x00\xe0\x00"
    );
}

/// What we send as a publisher is what we understand as a subscriber; the lengths are those where digits are added.
#[test]
fn messages_there_and_back() {
    for length in [0, 1, 120, 121, 122, 16_376, 16_377, 2_097_143, 2_097_144] {
        for qos in [Qos::Zero, Qos::One, Qos::Two] {
            let payload = Bytes::from(vec![7; length]);
            let id = if qos == Qos::Zero { 0 } else { 77 };
            let mut to = BytesMut::new();
            publish(&mut to, "a/b", (qos, id), true, length).unwrap();
            mark_repeated(&mut to);
            to.extend_from_slice(&payload);
            let expected = Packet::Publish(Publish {
                topic: "a/b".to_owned(),
                payload,
                qos,
                retained: true,
                id,
            });
            assert!(packets(&to).unwrap() == [expected], "{length} bytes, {qos:?}");
        }
    }
}

#[test]
fn limits() {
    let mut to = BytesMut::new();
    let long = "x".repeat(65_536);
    for outcome in [
        publish(&mut to, "t", (Qos::Zero, 0), false, LONGEST),
        publish(&mut to, &long, (Qos::Zero, 0), false, 0),
        subscribe(&mut to, 1, [long.as_str()], Qos::One),
    ] {
        assert!(matches!(outcome, Err(Failure::Invalid(_))), "{outcome:?}");
    }
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
    for _ in 0..50_000 {
        let length = usize::try_from(random() % 48).unwrap();
        let mut bytes: Vec<u8> = (0..length)
            .map(|_| u8::try_from(random() & 0xff).unwrap())
            .collect();
        if let [first, second, ..] = &mut bytes[..] {
            *first = [0x20, 0x30, 0x32, 0x34, 0x40, 0x62, 0x90, 0xb0][usize::from(*first & 7)];
            *second &= 0x1f;
        }
        let _any = packets(&bytes);
    }
}
