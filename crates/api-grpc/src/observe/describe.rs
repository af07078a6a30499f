//! What spans say of each request.
//!
//! COMPAT(pkg/proto/runtime/v1/dapr_tracing.go): which requests say something, and what.

use outrigger_daemon::trace::Span;
use outrigger_proto::dapr::runtime::v1 as proto;

pub(crate) trait Describe {
    /// Sets attributes. `path` is the full method.
    fn describe(&self, _span: &mut Span, _path: &str) {}
}

const SERVICE: &str = "Dapr";

fn database(span: &mut Span, path: &str, system: &str, name: &str) {
    span.text("rpc.service", SERVICE);
    span.text("db.system", system);
    span.text("db.connection_string", system);
    span.text("db.statement", path);
    span.text("db.name", name);
}

fn messaging(span: &mut Span, topic: &str) {
    span.text("rpc.service", SERVICE);
    span.text("messaging.system", "pubsub");
    span.text("messaging.destination.name", topic);
}

impl Describe for proto::InvokeServiceRequest {
    fn describe(&self, span: &mut Span, _path: &str) {
        span.text("rpc.service", "ServiceInvocation");
        span.text("net.peer.name", &self.id);
        let method = self
            .message
            .as_ref()
            .map_or("", |message| message.method.as_str());
        span.rename(&format!("CallLocal/{}/{method}", self.id));
    }
}

impl Describe for proto::GetStateRequest {
    fn describe(&self, span: &mut Span, path: &str) {
        database(span, path, "state", &self.store_name);
    }
}

impl Describe for proto::SaveStateRequest {
    fn describe(&self, span: &mut Span, path: &str) {
        database(span, path, "state", &self.store_name);
    }
}

impl Describe for proto::DeleteStateRequest {
    fn describe(&self, span: &mut Span, path: &str) {
        database(span, path, "state", &self.store_name);
    }
}

impl Describe for proto::GetSecretRequest {
    fn describe(&self, span: &mut Span, path: &str) {
        database(span, path, "secrets", &self.store_name);
    }
}

impl Describe for proto::InvokeBindingRequest {
    fn describe(&self, span: &mut Span, path: &str) {
        database(span, path, "bindings", &self.name);
    }
}

impl Describe for proto::PublishEventRequest {
    fn describe(&self, span: &mut Span, _path: &str) {
        messaging(span, &self.topic);
    }
}

impl Describe for proto::BulkPublishRequest {
    fn describe(&self, span: &mut Span, _path: &str) {
        messaging(span, &self.topic);
    }
}

impl Describe for proto::GetBulkStateRequest {}
impl Describe for proto::DeleteBulkStateRequest {}
impl Describe for proto::ExecuteStateTransactionRequest {}
impl Describe for proto::QueryStateRequest {}
impl Describe for proto::GetBulkSecretRequest {}
impl Describe for proto::GetConfigurationRequest {}
impl Describe for proto::SubscribeConfigurationRequest {}
impl Describe for proto::UnsubscribeConfigurationRequest {}
impl Describe for proto::TryLockRequest {}
impl Describe for proto::UnlockRequest {}
impl Describe for proto::GetMetadataRequest {}
impl Describe for proto::SetMetadataRequest {}
impl Describe for proto::ShutdownRequest {}
