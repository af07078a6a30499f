use super::slots::{Owner, key, read, slot};
use crate::client::dial::Address;
use redis::Value;

/// Made with `CLUSTER KEYSLOT`.
#[test]
fn slots_of_keys() {
    for (key, expected) in [
        ("", 0),
        ("foo", 12182),
        ("bar", 5061),
        ("{foo}bar", 12182),
        ("app||{foo}||x{bar}", 12182),
        ("123456789", 12739),
        ("{}foo", 9500),
        ("{foo", 13308),
    ] {
        assert_eq!(slot(key.as_bytes()), expected, "{key}");
    }
}

#[test]
fn keys_of_requests() {
    for (words, expected) in [
        ("PING", None),
        ("INFO replication", None),
        ("GET a", Some("a")),
        ("XADD a * data x", Some("a")),
        ("XGROUP CREATE a g 0 MKSTREAM", Some("a")),
        ("EVALSHA hash 2 a b x", Some("a")),
        ("EVAL script 0 x", None),
        ("EVAL", None),
    ] {
        let mut words = words.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        for word in words {
            cmd.arg(word);
        }
        assert_eq!(key(&cmd), expected.map(str::as_bytes), "{expected:?}");
    }
}

#[test]
fn what_nodes_say() {
    let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
    let range = |first, last, master| {
        Value::Array(vec![
            Value::Int(first),
            Value::Int(last),
            master,
            node(text("r"), 9),
        ])
    };
    let asked = Address::new("::1", 7);
    let answer = Value::Array(vec![
        range(0, 99, node(text("a"), 1)),
        range(100, 16383, node(Value::Nil, 2)),
        range(5, 5, node(text(""), 3)),
    ]);
    let owner = |slots, host, port| Owner {
        slots,
        address: Address::new(host, port),
    };
    assert_eq!(
        read(answer, &asked),
        Some(vec![
            owner(0..=99, "a", 1),
            owner(100..=16383, "::1", 2),
            owner(5..=5, "::1", 3)
        ])
    );
    for odd in [
        Value::Nil,
        Value::Array(vec![Value::Int(1)]),
        Value::Array(vec![range(5, 4, node(text("a"), 1))]),
        Value::Array(vec![range(0, 16384, node(text("a"), 1))]),
        Value::Array(vec![range(0, 1, node(text("a"), 70_000))]),
        Value::Array(vec![range(0, 1, text("a"))]),
    ] {
        assert_eq!(read(odd.clone(), &asked), None, "{odd:?}");
    }
}
