//! Secrets. Values go from the store into the answer and nowhere else.

use outrigger_proto::dapr::runtime::v1 as proto;
use outrigger_runtime::error::Result;
use outrigger_runtime::secrets::Secrets;

pub(crate) async fn get(
    secrets: &Secrets,
    request: proto::GetSecretRequest,
) -> Result<proto::GetSecretResponse> {
    let metadata = request.metadata.into_iter().collect();
    let secret = secrets.get(&request.store_name, &request.key, &metadata).await?;
    Ok(proto::GetSecretResponse {
        data: secret.0.into_iter().collect(),
    })
}

pub(crate) async fn bulk(
    secrets: &Secrets,
    request: proto::GetBulkSecretRequest,
) -> Result<proto::GetBulkSecretResponse> {
    let metadata = request.metadata.into_iter().collect();
    let all = secrets.bulk(&request.store_name, &metadata).await?;
    let shown = all.into_iter().map(|(name, secret)| {
        (
            name,
            proto::SecretResponse {
                secrets: secret.0.into_iter().collect(),
            },
        )
    });
    Ok(proto::GetBulkSecretResponse {
        data: shown.collect(),
    })
}
