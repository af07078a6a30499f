//! What an app's answer to an event asks for: state to be saved, output bindings to be called.
//!
//! It is done before the event is answered, and a failure is logged only: the app has taken the event.

use super::read::Reader;
use bytes::Bytes;
use futures::StreamExt as _;
use outrigger_channel::app::binding::FollowUp;
use outrigger_component::binding::Invoke;
use outrigger_component::metadata::Metadata;
use outrigger_component::state::Set;

/// The operation of output bindings that an app's answer calls.
const OPERATION: &str = "create";
/// Output bindings called at once.
const AT_ONCE: usize = 16;

impl Reader {
    pub(super) async fn follow_up(&self, asked: FollowUp) {
        if asked.is_empty() {
            return;
        }
        let FollowUp {
            states,
            store,
            to,
            parallel,
            data,
        } = asked;
        if !states.is_empty() {
            self.save(&store, states).await;
        }
        if parallel {
            futures::stream::iter(&to)
                .for_each_concurrent(AT_ONCE, |binding| async {
                    self.send(binding, data.clone()).await;
                })
                .await;
        } else {
            for binding in &to {
                if !self.send(binding, data.clone()).await {
                    break;
                }
            }
        }
    }

    async fn save(&self, store: &str, states: Vec<Set>) {
        let saved = match self.surroundings.state.store(store) {
            Ok(store) => store.save(states).await,
            Err(error) => Err(error),
        };
        if let Err(error) = saved {
            self.surroundings
                .log
                .error(format_args!("error saving state from app response: {error}"));
        }
    }

    /// Whether it went well.
    async fn send(&self, binding: &str, data: Bytes) -> bool {
        let invoke = Invoke {
            operation: OPERATION.to_owned(),
            data,
            metadata: Metadata::new(),
        };
        match self.surroundings.outputs.call(binding, invoke).await {
            Ok(_answer) => true,
            Err(failed) => {
                self.surroundings
                    .log
                    .error(format_args!("error executing app response: {}", failed.error));
                false
            }
        }
    }
}
