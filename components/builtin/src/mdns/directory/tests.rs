use super::*;

fn ourselves(app_id: &str, address: &str, port: u16) -> Ourselves {
    Ourselves::new(
        app_id,
        "box",
        &format!("box:{port}"),
        address.parse().unwrap(),
        port,
    )
    .unwrap()
}

fn endpoints(directory: &mut Directory, app_id: &str, now: Instant) -> Vec<String> {
    directory
        .look_up(app_id, now)
        .into_iter()
        .map(|endpoint| endpoint.0)
        .collect()
}

fn ask(app_id: &str) -> Packet {
    Packet::query(vec![Question {
        name: service(app_id).unwrap(),
        kind: PTR,
        unicast: false,
    }])
}

#[test]
fn an_answer_can_be_learnt() {
    for (app_id, address, expected) in [
        ("app", "10.0.0.1", "10.0.0.1:50002"),
        ("my.app", "10.0.0.1", "10.0.0.1:50002"),
        ("App", "fd00::1", "[fd00::1]:50002"),
    ] {
        let mut directory = Directory::default();
        let now = Instant::now();
        assert!(endpoints(&mut directory, app_id, now).is_empty());
        let (answer, alone) = ourselves(app_id, address, 50002).answer(&ask(app_id)).unwrap();
        assert!(!alone);
        // Through the wire, as others see it.
        let answer = Packet::read(&answer.write()).unwrap();
        assert!(directory.learn(&answer, now), "{app_id} is new");
        assert!(!directory.learn(&answer, now), "{app_id} is not new twice");
        assert_eq!(endpoints(&mut directory, app_id, now), [expected]);
    }
}

#[test]
fn who_answers_what() {
    let us = ourselves("app", "10.0.0.1", 50002);
    let question = |text: &str, kind| Question {
        name: Name::new(text).unwrap(),
        kind,
        unicast: false,
    };
    for (text, kind, answers) in [
        ("app.local", PTR, 1),
        ("app.local", ANY, 1),
        ("app.local", SRV, 0),
        ("APP.local", PTR, 0),
        ("other.local", PTR, 0),
        ("box:50002.app.local", SRV, 1),
        ("box:50002.app.local", TXT, 1),
        ("box:50002.app.local", ANY, 2),
        ("_services._dns-sd._udp.local", PTR, 1),
        ("box.local", A, 0),
    ] {
        let answer = us.answer(&Packet::query(vec![question(text, kind)]));
        assert_eq!(
            answer.map_or(0, |(packet, _)| packet.answers.len()),
            answers,
            "{text} {kind}"
        );
    }
    let mut alone = ask("app");
    alone.questions[0].unicast = true;
    assert!(us.answer(&alone).unwrap().1, "asked for an answer alone");
    let mut known = ask("app");
    known.answers = vec![us.pointer(OUR_TTL)];
    assert_eq!(us.answer(&known), None, "the querier knows us");
    known.answers = vec![us.pointer(OUR_TTL / 3)];
    assert!(us.answer(&known).is_some(), "but not for long");
    let mut claim = ask("app");
    claim.authorities = vec![us.service_record(OUR_TTL)];
    assert_eq!(us.answer(&claim), None, "somebody claims a name");
    assert_eq!(us.answer(&us.announcement()), None, "a response is no question");
}

#[test]
fn addresses_come_and_go() {
    let mut directory = Directory::default();
    let start = Instant::now();
    let (one, two) = (ourselves("app", "10.0.0.1", 1), ourselves("app", "10.0.0.2", 2));
    let stranger = ourselves("stranger", "10.0.0.9", 9);
    directory.look_up("app", start);
    assert!(directory.learn(&one.announcement(), start));
    assert!(
        !directory.learn(&stranger.announcement(), start),
        "nobody asked for it"
    );
    let later = start + TRUSTED / 2;
    assert!(directory.learn(&two.announcement(), later));
    assert_eq!(
        endpoints(&mut directory, "app", later),
        ["10.0.0.1:1", "10.0.0.2:2"]
    );
    assert_eq!(directory.refresh(later), ["app"]);
    assert_eq!(
        endpoints(&mut directory, "app", start + TRUSTED),
        ["10.0.0.2:2"],
        "one was not heard of again"
    );
    assert!(
        directory.learn(&one.announcement(), start + TRUSTED),
        "it is back"
    );
    directory.learn(&two.farewell(), later);
    assert_eq!(endpoints(&mut directory, "app", later), ["10.0.0.1:1"]);
    assert!(directory.forget("app", &Endpoint("10.0.0.1:1".to_owned())));
    assert!(!directory.forget("app", &Endpoint("10.0.0.1:1".to_owned())));
    assert!(endpoints(&mut directory, "app", later).is_empty());
    assert!(directory.refresh(later + REMEMBERED).is_empty());
    assert!(directory.apps.is_empty(), "nobody has asked for long");
}

#[test]
fn only_complete_answers_count() {
    let now = Instant::now();
    let whole = ourselves("app", "10.0.0.1", 1).announcement();
    let without = |kind: u16| {
        let mut packet = whole.clone();
        packet.answers.retain(|record| record.data.kind() != kind);
        packet
    };
    let mut lying = whole.clone();
    for record in &mut lying.answers {
        if let Data::Txt(texts) = &mut record.data {
            *texts = vec![b"other".to_vec()];
        }
    }
    for (what, packet) in [
        ("no service", without(SRV)),
        ("no text", without(TXT)),
        ("no address", without(A)),
        ("another app's text", lying),
    ] {
        let mut directory = Directory::default();
        directory.look_up("app", now);
        directory.look_up("other", now);
        assert!(!directory.learn(&packet, now), "{what}");
    }
}

#[test]
fn version_4_is_preferred() {
    let mut directory = Directory::default();
    let now = Instant::now();
    directory.look_up("app", now);
    directory.learn(&ourselves("app", "fd00::1", 1).announcement(), now);
    assert_eq!(endpoints(&mut directory, "app", now), ["[fd00::1]:1"]);
    directory.learn(&ourselves("app", "10.0.0.1", 2).announcement(), now);
    assert_eq!(endpoints(&mut directory, "app", now), ["10.0.0.1:2"]);
}

#[test]
fn many_callers_ask_once() {
    let mut directory = Directory::default();
    let now = Instant::now();
    assert_eq!(directory.question("app", now), None, "nobody wants to know");
    directory.look_up("app", now);
    assert!(directory.question("app", now).is_some());
    assert_eq!(directory.question("app", now + NOT_TWICE_WITHIN / 2), None);
    assert!(directory.question("app", now + NOT_TWICE_WITHIN).is_some());
    directory.look_up("no..name", now);
    assert_eq!(directory.question("no..name", now), None);
}

#[test]
fn a_noisy_network_is_bounded() {
    let mut directory = Directory::default();
    let now = Instant::now();
    for number in 0..MOST_APPS + 10 {
        directory.look_up(
            &number.to_string(),
            now + Duration::from_millis(number.try_into().unwrap()),
        );
    }
    assert_eq!(directory.apps.len(), MOST_APPS);
    assert!(!directory.apps.contains_key("0") && directory.apps.contains_key("10"));
}
