use super::*;
use futures::FutureExt as _;
use outrigger_component::pubsub::Outcome;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// A session with a broker at the other end of it.
struct Pair {
    session: Arc<Session>,
}

impl Pair {
    fn new(qos: Qos) -> Self {
        let session = Arc::new(Session::new(qos));
        session.connected(false).unwrap();
        Self { session }
    }

    /// What was written since the last time.
    fn written(&self) -> Vec<u8> {
        match self.session.work() {
            Work::Write(chunks, _) => chunks.into_iter().flatten().collect(),
            Work::Wait | Work::Stop => Vec::new(),
        }
    }

    /// The first number of a packet in what was written, of a packet that begins with `head`.
    fn asked(&self, head: u8) -> u16 {
        let written = self.written();
        assert_eq!(written.first(), Some(&head), "{written:?}");
        u16::from_be_bytes([written[2], written[3]])
    }

    async fn subscribe(&self, filter: &str) -> Inbox {
        let opening = Inbox::open(&self.session, filter, false, PATIENCE);
        let granting = async {
            let id = self.asked(0x82);
            self.session.take(Packet::SubAck(id, vec![true])).unwrap();
        };
        let (inbox, ()) = tokio::join!(opening, granting);
        inbox.unwrap()
    }

    fn arrives(&self, topic: &str, content: &'static str, qos: Qos, id: u16) {
        let publish = Publish {
            topic: topic.to_owned(),
            payload: Bytes::from_static(content.as_bytes()),
            qos,
            retained: false,
            id,
        };
        self.session.take(Packet::Publish(publish)).unwrap();
    }

    fn publish<'a>(&'a self, content: &'static str) -> impl Future<Output = Result<(), Failure>> + 'a {
        let message = Outgoing {
            topic: "t",
            payload: Bytes::from_static(content.as_bytes()),
            retain: false,
        };
        self.session.publish(message, PATIENCE)
    }
}

fn next(inbox: &Inbox) -> Option<(String, u64)> {
    let (publish, token) = inbox.next().now_or_never()?;
    Some((String::from_utf8(publish.payload.to_vec()).unwrap(), token))
}

/// The number of the packet in a message to topic `t` with a number.
fn id_of(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[5], message[6]])
}

#[tokio::test]
async fn acknowledged_when_settled() {
    let pair = Pair::new(Qos::One);
    let inbox = pair.subscribe("t").await;
    pair.arrives("t", "1", Qos::One, 5);
    pair.arrives("t", "2", Qos::One, 6);
    let (first, one) = next(&inbox).unwrap();
    let (second, two) = next(&inbox).unwrap();
    assert_eq!((first.as_str(), second.as_str()), ("1", "2"));
    assert!(pair.written().is_empty(), "not before");
    inbox.settle().settle(two, Outcome::Ack);
    assert_eq!(pair.written(), [0x40, 2, 0, 6]);
    inbox.settle().settle(one, Outcome::Nack);
    assert!(pair.written().is_empty());
    assert_eq!(next(&inbox).unwrap(), ("1".to_owned(), one), "again");
    inbox.settle().settle(one, Outcome::Ack);
    assert_eq!(pair.written(), [0x40, 2, 0, 5]);
    inbox.settle().settle(one, Outcome::Ack);
    assert!(pair.written().is_empty(), "once");
}

/// A message that two subscriptions want is acknowledged when both have it.
#[tokio::test]
async fn for_all_whom_it_is_for() {
    let pair = Pair::new(Qos::One);
    let wild = pair.subscribe("a/+").await;
    let exact = pair.subscribe("a/b").await;
    let shared = pair.subscribe("$share/g/c").await;
    pair.arrives("a/b", "x", Qos::One, 5);
    pair.arrives("c", "y", Qos::One, 6);
    let (_, one) = next(&wild).unwrap();
    let (_, two) = next(&exact).unwrap();
    assert_eq!(next(&shared).unwrap().0, "y");
    wild.settle().settle(one, Outcome::Ack);
    assert!(pair.written().is_empty());
    exact.settle().settle(two, Outcome::Ack);
    assert_eq!(pair.written(), [0x40, 2, 0, 5]);
}

/// What comes for nobody waits for the next who subscribes; what a subscription leaves, too.
#[tokio::test]
async fn strays_find_their_subscription() {
    let pair = Pair::new(Qos::One);
    pair.arrives("t", "early", Qos::One, 5);
    pair.arrives("other", "other", Qos::One, 6);
    pair.arrives("t", "passing", Qos::Zero, 0);
    let inbox = pair.subscribe("t").await;
    pair.arrives("t", "waiting", Qos::One, 7);
    let (content, token) = next(&inbox).unwrap();
    assert_eq!(content, "early");
    let settle = Arc::clone(inbox.settle());
    drop(inbox);
    settle.give_back(token);
    let inbox = pair.subscribe("t").await;
    let mut contents = [next(&inbox).unwrap().0, next(&inbox).unwrap().0];
    contents.sort();
    assert_eq!(contents, ["early", "waiting"]);
    assert_eq!(next(&inbox), None);
}

/// The broker sends again what was not acknowledged, if it remembers us; if not, what is here is all there is.
#[tokio::test]
async fn a_lost_connection_brings_messages_again() {
    for known in [true, false] {
        let pair = Pair::new(Qos::One);
        let inbox = pair.subscribe("t").await;
        pair.arrives("t", "held", Qos::One, 5);
        pair.arrives("t", "waiting", Qos::One, 6);
        let (_, held) = next(&inbox).unwrap();
        pair.session.lost(Failure::Ended);
        pair.session.connected(known).unwrap();
        let written = pair.written();
        assert_eq!(written[0], 0x82, "subscribed again: {written:?}");
        inbox.settle().settle(held, Outcome::Ack);
        assert!(pair.written().is_empty(), "it is another connection's");
        assert_eq!(
            next(&inbox).map(|(content, _)| content),
            (!known).then(|| "waiting".to_owned())
        );
        pair.arrives("t", "waiting", Qos::One, 6);
        let (content, token) = next(&inbox).unwrap();
        assert_eq!(content, "waiting");
        inbox.settle().settle(token, Outcome::Ack);
        assert_eq!(pair.written(), [0x40, 2, 0, 6]);
    }
}

#[tokio::test]
async fn exactly_once_receiving() {
    let pair = Pair::new(Qos::Two);
    let inbox = pair.subscribe("t").await;
    pair.arrives("t", "x", Qos::Two, 5);
    let (_, token) = next(&inbox).unwrap();
    inbox.settle().settle(token, Outcome::Ack);
    assert_eq!(pair.written(), [0x50, 2, 0, 5]);
    // The answer was lost: it is the same message.
    pair.arrives("t", "x", Qos::Two, 5);
    assert_eq!(next(&inbox), None);
    assert_eq!(pair.written(), [0x50, 2, 0, 5]);
    pair.session.take(Packet::PubRel(5)).unwrap();
    assert_eq!(pair.written(), [0x70, 2, 0, 5]);
    pair.arrives("t", "y", Qos::Two, 5);
    assert_eq!(next(&inbox).unwrap().0, "y");
}

#[tokio::test]
async fn publishing_waits_for_the_broker() {
    let pair = Pair::new(Qos::One);
    let publishing = pair.publish("x");
    let answering = async {
        let written = pair.written();
        assert_eq!((written[0], &written[2..5]), (0x32, &[0, 1, b't'][..]));
        pair.session.take(Packet::PubAck(id_of(&written))).unwrap();
    };
    let (published, ()) = tokio::join!(publishing, answering);
    published.unwrap();
}

/// A message that was sent is sent again, marked; one that nobody waits for any more is not.
#[tokio::test]
async fn publishing_survives_a_lost_connection() {
    let pair = Pair::new(Qos::One);
    let publishing = pair.publish("x");
    let answering = async {
        let given_up = pair.publish("y").now_or_never();
        assert_eq!(given_up, None);
        let written = pair.written();
        assert_eq!(written.len(), 16, "two messages");
        pair.session.lost(Failure::Ended);
        let late = pair.publish("z");
        tokio::pin!(late);
        assert_eq!(late.as_mut().now_or_never(), None);
        pair.session.connected(true).unwrap();
        let again = pair.written();
        assert_eq!(again.len(), 16, "{again:?}");
        assert_eq!((again[0], again[7]), (0x3a, b'x'));
        assert_eq!(id_of(&again), id_of(&written));
        assert_eq!((again[8], again[15]), (0x32, b'z'));
        pair.session.take(Packet::PubAck(id_of(&again[8..]))).unwrap();
        late.await.unwrap();
        pair.session.take(Packet::PubAck(id_of(&again))).unwrap();
    };
    let (published, ()) = tokio::join!(publishing, answering);
    published.unwrap();
}

#[tokio::test]
async fn exactly_once_publishing() {
    let pair = Pair::new(Qos::Two);
    let publishing = pair.publish("x");
    let answering = async {
        let written = pair.written();
        assert_eq!(written[0], 0x34);
        let id = id_of(&written);
        let [high, low] = id.to_be_bytes();
        pair.session.take(Packet::PubRec(id)).unwrap();
        assert_eq!(pair.written(), [0x62, 2, high, low]);
        pair.session.lost(Failure::Ended);
        pair.session.connected(true).unwrap();
        assert_eq!(
            pair.written(),
            [0x62, 2, high, low],
            "the message itself is there"
        );
        pair.session.take(Packet::PubComp(id)).unwrap();
    };
    let (published, ()) = tokio::join!(publishing, answering);
    published.unwrap();
}

#[tokio::test(start_paused = true)]
async fn publishing_has_an_end() {
    let pair = Pair::new(Qos::One);
    assert_eq!(pair.publish("x").await, Err(Failure::Silent(PATIENCE)));
    let why = Failure::Lost("gone".to_owned());
    pair.session.lost(why.clone());
    assert_eq!(pair.publish("x").await, Err(why.clone()));
    let at_most_once = Pair::new(Qos::Zero);
    at_most_once.publish("x").await.unwrap();
    assert_eq!(at_most_once.written()[0], 0x30);
    at_most_once.session.lost(why.clone());
    assert_eq!(at_most_once.publish("x").await, Err(why));
    pair.session.close();
    assert_eq!(pair.publish("x").await, Err(Failure::Ended));
}

#[tokio::test]
async fn who_may_not_subscribe() {
    let pair = Pair::new(Qos::One);
    let opening = Inbox::open(&pair.session, "t", true, PATIENCE);
    let refusing = async {
        let id = pair.asked(0x82);
        pair.session.take(Packet::SubAck(id, vec![false])).unwrap();
    };
    let (inbox, ()) = tokio::join!(opening, refusing);
    assert_eq!(inbox.err(), Some(Failure::Forbidden));
    assert_eq!(pair.written()[0], 0xa2, "and no more of it");
}
