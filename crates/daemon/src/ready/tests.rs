use super::Ready;
use crate::testing;

#[tokio::test]
async fn parts_become_ready_one_by_one() {
    let ready = Ready::new();
    assert!(ready.is_ready());
    let components = ready.part("components");
    let http = ready.part("http");
    assert_eq!(ready.pending(), ["components", "http"]);
    let waiting = testing::spawn({
        let ready = ready.clone();
        async move { ready.wait().await }
    });
    components.done();
    assert!(!ready.is_ready());
    assert_eq!(ready.pending(), ["http"]);
    drop(http);
    waiting.await.unwrap();
    assert!(ready.is_ready());
    let closing = ready.part("shutting down");
    assert!(!ready.is_ready());
    drop(closing);
}
