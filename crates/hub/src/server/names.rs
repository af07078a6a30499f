//! `Names`: who runs on this machine.

use super::{check_name, closing, status};
use crate::broker::Broker;
use futures::Stream;
use outrigger_proto::hub::v1;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

pub(super) struct Service(pub(super) Arc<Broker>);

#[tonic::async_trait]
impl v1::names_server::Names for Service {
    type RegisterStream = Pin<Box<dyn Stream<Item = Result<v1::RegisterResponse, Status>> + Send>>;

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let instance = request.into_inner().instance;
        let instance = instance.ok_or_else(|| Status::invalid_argument("the instance is missing"))?;
        check_name("app", &instance.app_id).map_err(|failure| status(&failure))?;
        check_name("address", &instance.address).map_err(|failure| status(&failure))?;
        let lease = self.0.parts().names.register(instance);
        let (responses, stream) = mpsc::channel(1);
        // The channel is new: it has room.
        drop(responses.try_send(Ok(v1::RegisterResponse {})));
        let watch = self.0.parts().doors.watch();
        let hold = async move {
            tokio::select! {
                () = responses.closed() => {}
                () = watch.draining() => drop(responses.try_send(Err(closing()))),
            }
            drop(lease);
        };
        self.0.parts().spawner.spawn("registration", hold);
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn resolve(
        &self,
        request: Request<v1::ResolveRequest>,
    ) -> Result<Response<v1::ResolveResponse>, Status> {
        let request = request.into_inner();
        let instances = self.0.parts().names.resolve(&request.app_id, &request.namespace);
        Ok(Response::new(v1::ResolveResponse { instances }))
    }

    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let names = self.0.parts().names.clone();
        let watch = self.0.parts().doors.watch();
        let (responses, stream) = mpsc::channel(1);
        let tell = async move {
            let mut changes = names.changes();
            changes.mark_changed();
            let mut draining = std::pin::pin!(watch.draining());
            loop {
                let told = async {
                    changes.changed().await.ok()?;
                    let instances = names.all();
                    responses.send(Ok(v1::WatchResponse { instances })).await.ok()
                };
                tokio::select! {
                    told = told => if told.is_none() { return },
                    () = responses.closed() => return,
                    // Without an error: so whoever watches can tell an end on purpose from a crash.
                    () = &mut draining => return,
                }
            }
        };
        self.0.parts().spawner.spawn("watch", tell);
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
