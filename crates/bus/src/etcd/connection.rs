//! A connection to one member: the calls that are made, and what their failures mean.

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::EtcdOptions;
use super::proto::{
    AuthenticateRequest, AuthenticateResponse, Headed, LeaseGrantRequest, LeaseGrantResponse, PutRequest,
    RangeRequest, RequestOp, ResponseHeader, TxnRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};

/// A watch's answers come in pieces of about etcd's longest request, which an operator may have raised.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Seconds that keys live after the lease that they share was granted.
const LEASE_TTL: i64 = 30;

/// Somebody to ask.
#[derive(Debug)]
pub(super) struct Connection {
    grpc: Grpc<Channel>,
    token: Option<MetadataValue<Ascii>>,
    timeout: Duration,
}

/// Why etcd did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("it cannot be connected to ({0}): is it running, and is `endpoints` right?")]
    Unreachable(String),
    #[error("it does not answer within {0:?}")]
    Silent(Duration),
    #[error("it refuses the user or the password: correct them, or enable authentication in etcd ({0})")]
    Login(String),
    #[error(
        "the user may not read and write the keys below `prefix`: grant its role `readwrite` on them ({0})"
    )]
    Permission(String),
    /// The token has had its time.
    #[error("it wants to know again who we are")]
    Token,
    #[error("the lease is gone")]
    Lease,
    #[error("it takes fewer operations in a transaction")]
    TooManyOperations,
    #[error(
        "its database is full: compact and defragment it, then disarm its alarm; see to it that it compacts by itself"
    )]
    Full,
    #[error("{0}")]
    Other(String),
}

impl Connection {
    /// Connects to a member and, if there is somebody to be, says who we are.
    pub(super) async fn open(endpoint: &Endpoint, options: &EtcdOptions) -> Result<Self, Failure> {
        let connecting = timeout(options.dial_timeout, endpoint.connect());
        let channel = connecting.await.map_err(|_| Failure::Silent(options.dial_timeout))?;
        let channel = channel.map_err(|error| Failure::Unreachable(innermost(&error)))?;
        let grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let mut connection = Self { grpc, token: None, timeout: options.timeout };
        if let Some(login) = &options.login {
            let request =
                AuthenticateRequest { name: login.username.clone(), password: login.password.clone() };
            let answer: AuthenticateResponse =
                connection.call("/etcdserverpb.Auth/Authenticate", request).await?;
            let token =
                answer.token.parse().map_err(|_| Failure::Other("its token is no text".to_owned()))?;
            connection.token = Some(token);
        }
        Ok(connection)
    }

    /// Where the cluster is, as most of its members have it.
    pub(super) async fn header(&self, key: Bytes) -> Result<ResponseHeader, Failure> {
        let answer: Headed =
            self.call("/etcdserverpb.KV/Range", RangeRequest { key, keys_only: true }).await?;
        answer.header.ok_or_else(|| Failure::Other("its answer has no header".to_owned()))
    }

    /// A new lease.
    pub(super) async fn grant(&self) -> Result<i64, Failure> {
        let request = LeaseGrantRequest { ttl: LEASE_TTL };
        let answer: LeaseGrantResponse = self.call("/etcdserverpb.Lease/LeaseGrant", request).await?;
        Ok(answer.id)
    }

    /// Puts keys, of which none comes twice, all at once.
    pub(super) async fn put(&self, mut puts: Vec<PutRequest>) -> Result<(), Failure> {
        let _: Headed = match (puts.pop(), puts.is_empty()) {
            (None, _) => return Ok(()),
            (Some(put), true) => self.call("/etcdserverpb.KV/Put", put).await?,
            (Some(put), false) => {
                puts.push(put);
                let success = puts.into_iter().map(|put| RequestOp { put: Some(put) }).collect();
                self.call("/etcdserverpb.KV/Txn", TxnRequest { success }).await?
            }
        };
        Ok(())
    }

    /// A watch, and where more can be asked on it.
    pub(super) async fn watch(
        &self,
        create: WatchCreateRequest,
    ) -> Result<(mpsc::Sender<WatchRequest>, Streaming<WatchResponse>), Failure> {
        let (asks, asked) = mpsc::channel(4);
        let first = WatchRequest { create: Some(create), progress: None };
        let rest = futures_util::stream::unfold(asked, async |mut asked: mpsc::Receiver<_>| {
            asked.recv().await.map(|request| (request, asked))
        });
        let requests = futures_util::StreamExt::chain(futures_util::stream::iter([first]), rest);
        let mut request = self.request(requests);
        // A member that has lost the others ends the watch rather than say nothing for ever.
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let mut grpc = self.grpc.clone();
        let opening = async {
            grpc.ready().await.map_err(|error| Failure::Unreachable(innermost(&error)))?;
            let answer = grpc.streaming(request, path, ProstCodec::default()).await;
            answer.map_err(|status| Failure::from(&status))
        };
        let answer = timeout(self.timeout, opening).await.map_err(|_| Failure::Silent(self.timeout))??;
        Ok((asks, answer.into_inner()))
    }

    async fn call<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Failure>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc.clone();
        let calling = async {
            grpc.ready().await.map_err(|error| Failure::Unreachable(innermost(&error)))?;
            let path = PathAndQuery::from_static(path);
            let answer = grpc.unary(self.request(question), path, ProstCodec::default()).await;
            answer.map_err(|status| Failure::from(&status))
        };
        let answer = timeout(self.timeout, calling).await.map_err(|_| Failure::Silent(self.timeout))??;
        Ok(answer.into_inner())
    }

    fn request<Q>(&self, question: Q) -> Request<Q> {
        let mut request = Request::new(question);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }
}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        let says = status.message();
        match status.code() {
            Code::Unavailable if std::error::Error::source(status).is_some() => {
                Self::Unreachable(innermost(status))
            }
            Code::Unauthenticated => Self::Token,
            Code::NotFound if says.contains("lease not found") => Self::Lease,
            Code::InvalidArgument if says.contains("too many operations") => Self::TooManyOperations,
            Code::ResourceExhausted if says.contains("space exceeded") => Self::Full,
            _ => Self::said(says),
        }
    }
}

impl Failure {
    /// By etcd's words alone: a watch that it ends has no others.
    pub(super) fn said(words: &str) -> Self {
        if words.contains("permission denied") {
            Self::Permission(words.to_owned())
        } else if words.contains("authentication failed") || words.contains("authentication is not enabled") {
            Self::Login(words.to_owned())
        } else if words.contains("invalid auth token") || words.contains("user name is empty") {
            Self::Token
        } else {
            Self::Other(words.to_owned())
        }
    }
}

/// The last reason of an error: the ones before only say that there was an error.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
