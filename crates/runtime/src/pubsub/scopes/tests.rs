use super::Scopes;
use outrigger_component::metadata::Metadata;

#[test]
fn scopes_table() {
    // (metadata, topic, may publish, may subscribe) for the app `me`.
    type Row = (&'static [(&'static str, &'static str)], &'static str, bool, bool);
    let rows: &[Row] = &[
        (&[], "t", true, true),
        (&[("allowedTopics", "a, b")], "b", true, true),
        (&[("allowedTopics", "a,b")], "c", false, false),
        (&[("ALLOWEDTOPICS", "a,b")], "c", false, false),
        (&[("allowedTopics", "")], "c", true, true),
        (&[("publishingScopes", "me=a,b;other=c")], "a", true, true),
        (&[("publishingScopes", "me=a,b;other=c")], "c", false, true),
        (&[("publishingScopes", "other=c")], "x", true, true),
        (&[("publishingScopes", "me=")], "a", false, true),
        (&[("publishingScopes", "me=a;me=b")], "b", true, true),
        (&[("publishingScopes", "me")], "b", true, true),
        (&[("subscriptionScopes", "me = a ; you = b")], "a", true, true),
        (&[("subscriptionScopes", "me = a ; you = b")], "b", true, false),
        (&[("protectedTopics", "p")], "p", false, false),
        (&[("protectedTopics", "p")], "q", true, true),
        (
            &[("protectedTopics", "p"), ("publishingScopes", "me=p")],
            "p",
            true,
            false,
        ),
        (
            &[("protectedTopics", "p"), ("publishingScopes", "me=p")],
            "q",
            false,
            true,
        ),
        (
            &[("allowedTopics", "a"), ("publishingScopes", "me=a,b")],
            "b",
            false,
            false,
        ),
    ];
    for (metadata, topic, publish, subscribe) in rows {
        let scopes = Scopes::parse(&metadata.iter().copied().collect::<Metadata>(), "me");
        assert_eq!(
            scopes.may_publish(topic),
            *publish,
            "publish {topic} with {metadata:?}"
        );
        assert_eq!(
            scopes.may_subscribe(topic),
            *subscribe,
            "subscribe {topic} with {metadata:?}"
        );
    }
}
