//! The shell under a paused clock, with a recording observer.

use super::{Error, Outcome, Policy};
use crate::core::breaker::Refusal;
use crate::core::retry::Status;
use crate::event::{Event, Observer, Usage};
use crate::load::load;
use crate::policies::{Flow, Kind, Policies};
use outrigger_resources::disk::Documents;
use outrigger_resources::resiliency::Resiliency;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, Clone, PartialEq)]
struct Failure {
    status: Option<Status>,
    permanent: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it failed")
    }
}

impl Outcome for Failure {
    fn status(&self) -> Option<Status> {
        self.status
    }
    fn is_permanent(&self) -> bool {
        self.permanent
    }
}

const PLAIN: Failure = Failure {
    status: None,
    permanent: false,
};

#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Recorder {
    fn observe(&self, event: &Event<'_>) {
        let usage = |word: &str, usage: &Usage<'_>| {
            let state = usage.state.map_or("", |state| state.as_str());
            format!(
                "{word} {} {} {} {} {} [{state}]",
                usage.resource,
                usage.namespace,
                usage.part.as_str(),
                usage.flow.as_str(),
                usage.target
            )
        };
        let mut events = self.0.lock().unwrap();
        match event {
            Event::Applied(with) => events.push(usage("applied", with)),
            Event::Activated(with) => events.push(usage("activated", with)),
            event => events.extend(event.lines().into_iter().map(|(_, line)| line)),
        }
    }
}

fn policies(spec: &str) -> (Policies, Arc<Recorder>) {
    let text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {{name: r, namespace: ns}}\nspec:\n{spec}"
    );
    let loaded = Documents::of_text("r.yaml", &text).load::<Resiliency>();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let recorder = Arc::new(Recorder::default());
    let policies = load(&loaded.items, recorder.clone());
    recorder.take();
    (policies, recorder)
}

/// Runs an operation that fails as often as told, then succeeds with the number of the attempt.
async fn run(policy: &Policy<'_>, failures: u32, failure: Failure) -> Result<u32, Error<Failure>> {
    policy
        .run(|attempt| {
            let failure = failure.clone();
            async move {
                if attempt > failures {
                    Ok(attempt)
                } else {
                    Err(failure)
                }
            }
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn nothing_applies() {
    let (policies, recorder) = policies("  policies: {}\n");
    let policy = policies.app("a", "a:m");
    assert!(policy.is_none() && !policy.has_retries());
    assert_eq!(run(&policy, 1, PLAIN).await, Err(Error::Operation(PLAIN)));
    assert_eq!(run(&Policy::none(), 0, PLAIN).await, Ok(1));
    assert!(recorder.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn retries() {
    let spec = "
  policies: {retries: {some: {duration: 100ms, maxRetries: 3, matching: {httpStatusCodes: 500-599}}}}
  targets: {components: {store: {outbound: {retry: some}}}}
";
    let with = |status, permanent| Failure { status, permanent };
    for (failures, failure, expect, slept) in [
        (0, PLAIN, Some(1), 0),
        (2, PLAIN, Some(3), 200),
        (9, PLAIN, None, 300),
        (9, with(Some(Status::Http(503)), false), None, 300),
        (9, with(Some(Status::Http(404)), false), None, 0),
        (9, with(Some(Status::Grpc(3)), false), None, 300),
        (9, with(None, true), None, 0),
    ] {
        let (policies, recorder) = policies(spec);
        let policy = policies.component("store", Kind::Statestore, Flow::Outbound);
        assert!(policy.has_retries());
        let start = Instant::now();
        let found = run(&policy, failures, failure.clone()).await;
        assert_eq!(found, expect.ok_or(Error::Operation(failure.clone())));
        assert_eq!(start.elapsed().as_millis(), slept, "{failures} {failure:?}");
        let mut events = vec!["applied r ns retry outbound Statestore_store []".to_owned()];
        if slept > 0 {
            events.push("activated r ns retry outbound Statestore_store []".to_owned());
            events.push("Error processing operation component[store] output. Retrying in 100ms…".to_owned());
            events.push("Error for operation component[store] output was: it failed".to_owned());
            if let Some(attempts) = expect {
                events.push(format!(
                    "Recovered processing operation component[store] output after {attempts} attempts"
                ));
            }
        }
        assert_eq!(recorder.take(), events);
    }
}

#[tokio::test(start_paused = true)]
async fn timeouts_cancel_and_are_retried() {
    let (policies, recorder) = policies(
        "
  policies: {timeouts: {t: 50}, retries: {r: {duration: 1s, maxRetries: 2}}}
  targets: {apps: {a: {timeout: t, retry: r}}}
",
    );
    struct Dropped(Arc<Mutex<u32>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let dropped = Arc::new(Mutex::new(0));
    let start = Instant::now();
    let policy = policies.app("a", "a:m");
    let outcome = policy
        .run(|_| {
            let guard = Dropped(dropped.clone());
            async move {
                let _guard = guard;
                pending::<()>().await;
                Ok::<(), Failure>(())
            }
        })
        .await;
    assert_eq!(outcome, Err(Error::Timeout));
    assert_eq!(outcome.unwrap_err().to_string(), "context deadline exceeded");
    assert_eq!(start.elapsed(), Duration::from_millis(2150));
    assert_eq!(*dropped.lock().unwrap(), 3);
    let events = recorder.take();
    assert_eq!(
        events,
        [
            "applied r ns timeout outbound app_a []",
            "applied r ns retry outbound app_a []",
            "activated r ns timeout outbound app_a []",
            "activated r ns retry outbound app_a []",
            "Error processing operation endpoint[a, a:m]. Retrying in 1s…",
            "Error for operation endpoint[a, a:m] was: context deadline exceeded",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn breakers_are_shared_and_end_retries() {
    let (policies, recorder) = policies(
        "
  policies:
    retries: {r: {duration: 10ms, maxRetries: 10}}
    circuitBreakers: {cb: {timeout: 5s, trip: consecutiveFailures >= 3}}
  targets: {apps: {a: {retry: r, circuitBreaker: cb}}}
",
    );
    let policy = policies.app("a", "a:m");
    let refused = run(&policy, 99, PLAIN).await.unwrap_err();
    assert_eq!(refused, Error::Refused(Refusal::Open));
    assert_eq!(refused.to_string(), "circuit breaker is open");
    assert_eq!(
        recorder.take(),
        [
            "applied r ns retry outbound app_a []",
            "applied r ns circuitbreaker outbound app_a [closed]",
            "activated r ns retry outbound app_a []",
            "Error processing operation endpoint[a, a:m]. Retrying in 10ms…",
            "Error for operation endpoint[a, a:m] was: it failed",
            "Circuit breaker \"a:m\" changed state from closed to open",
            "activated r ns circuitbreaker outbound app_a [open]",
        ]
    );
    // Another endpoint has its own breaker; the same endpoint shares it.
    assert_eq!(run(&policies.app("a", "a:other"), 0, PLAIN).await, Ok(1));
    assert_eq!(
        run(&policies.app("a", "a:m"), 0, PLAIN).await,
        Err(Error::Refused(Refusal::Open))
    );
    tokio::time::sleep(Duration::from_millis(5001)).await;
    recorder.take();
    let policy = policies.app("a", "a:m");
    // Half-open lets one through at a time.
    let (first, second) = tokio::join!(
        policy.run(|_| async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok::<_, Failure>(1)
        }),
        policy.run(|_| async { Ok::<_, Failure>(2) })
    );
    assert_eq!((first, second), (Ok(1), Err(Error::Refused(Refusal::TooMany))));
    assert_eq!(
        recorder.take(),
        [
            "Circuit breaker \"a:m\" changed state from open to half-open",
            "applied r ns retry outbound app_a []",
            "applied r ns circuitbreaker outbound app_a [half-open]",
            "Circuit breaker \"a:m\" changed state from half-open to closed",
            "activated r ns circuitbreaker outbound app_a [closed]",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn abandoned_attempts_count_as_failed() {
    let (policies, _) = policies(
        "
  policies: {circuitBreakers: {cb: {timeout: 5s, trip: consecutiveFailures >= 1}}}
  targets: {components: {c: {outbound: {circuitBreaker: cb}, inbound: {circuitBreaker: cb}}}}
",
    );
    let policy = policies.component("c", Kind::Pubsub, Flow::Outbound);
    let abandoned = policy.run(|_| pending::<Result<(), Failure>>());
    assert!(
        tokio::time::timeout(Duration::from_millis(1), abandoned)
            .await
            .is_err()
    );
    assert_eq!(run(&policy, 0, PLAIN).await, Err(Error::Refused(Refusal::Open)));
    // The other direction has the same breaker.
    let inbound = policies.component("c", Kind::Pubsub, Flow::Inbound);
    assert_eq!(run(&inbound, 0, PLAIN).await, Err(Error::Refused(Refusal::Open)));
    tokio::time::sleep(Duration::from_millis(5001)).await;
    let abandoned = policy.run(|_| pending::<Result<(), Failure>>());
    assert!(
        tokio::time::timeout(Duration::from_millis(1), abandoned)
            .await
            .is_err()
    );
    tokio::time::sleep(Duration::from_millis(5001)).await;
    assert_eq!(run(&policy, 0, PLAIN).await, Ok(1));
}

#[test]
fn runs_can_be_spawned() {
    fn is_send<T: Send>(_: T) {}
    is_send(Policy::none().run(|_| async { Ok::<(), Failure>(()) }));
}
