//! Plain groups on the wire.

use std::time::Duration;

use proto::v1::{self, plain_server::Plain, plain_write_request::What};
use ring::{Epoch, NodeId};
use tonic::{Request, Response, Status};
use wire::{Kept, Write};

use super::grpc::{Service, hop};

#[tonic::async_trait]
impl Plain for Service {
    async fn write(
        &self,
        request: Request<v1::PlainWriteRequest>,
    ) -> Result<Response<v1::PlainWriteReply>, Status> {
        let request = request.into_inner();
        let write = match request.what {
            Some(What::Put(put)) => Write::Put(put.into()),
            Some(What::ExpireMs(ttl)) if ttl > 0 => Write::Expire(Duration::from_millis(ttl)),
            Some(What::Remove(true)) => Write::Remove,
            Some(What::ExpireMs(_) | What::Remove(_)) | None => {
                let reason = "nothing to write: send one of put, expire_ms above 0 and remove = true";
                return Err(Status::invalid_argument(reason));
            }
        };
        let key = self.node().resolve(&request.key)?;
        let epoch = Epoch(request.epoch);
        let ordered = self.node().write_key(&key, write, hop(request.forwarded), epoch).await?;
        Ok(Response::new(ordered.into()))
    }

    async fn attend(
        &self,
        request: Request<v1::PlainAttendRequest>,
    ) -> Result<Response<v1::PlainAttendReply>, Status> {
        let request = request.into_inner();
        let (from, key) = (NodeId::from(request.node), Some(&*request.key).filter(|key| !key.is_empty()));
        let (epoch, token) = self.node().attend(&from, Epoch(request.epoch), request.protocol, key).await?;
        Ok(Response::new(v1::PlainAttendReply { epoch: epoch.0, token: token.map(Into::into) }))
    }

    async fn keep(
        &self,
        request: Request<v1::PlainKeepRequest>,
    ) -> Result<Response<v1::PlainKeepReply>, Status> {
        let (refused, epoch) = self.node().keep(Kept::from(request.into_inner())).await?;
        Ok(Response::new(v1::PlainKeepReply {
            refused: refused.unwrap_or_default().to_owned(),
            epoch: epoch.0,
        }))
    }
}
