//! An HTTP server in the test's process: an identity provider, or an application.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(crate) type Answer = Response<Full<Bytes>>;
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

pub(crate) fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

pub(crate) fn json(body: &Value) -> Answer {
    answer(200, body.to_string())
}

/// Ends with its guard.
#[derive(Debug)]
pub(crate) struct Provider {
    url: String,
    requests: Arc<AtomicUsize>,
    begun: watch::Receiver<usize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    /// Answers as `respond` says, which may wait.
    pub(crate) async fn start<F>(respond: impl Fn(Received) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/path", listener.local_addr().unwrap());
        let respond: Arc<dyn Fn(Received) -> Answering + Send + Sync> =
            Arc::new(move |received| Box::pin(respond(received)));
        let requests = Arc::new(AtomicUsize::new(0));
        let (begin, begun) = watch::channel(0);
        let (count, begin) = (Arc::clone(&requests), Arc::new(begin));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (respond, count, begin) = (Arc::clone(&respond), Arc::clone(&count), Arc::clone(&begin));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (respond, count, begin) =
                        (Arc::clone(&respond), Arc::clone(&count), Arc::clone(&begin));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let before = count.fetch_add(1, Ordering::SeqCst);
                        begin.send_replace(before + 1);
                        Ok::<_, Infallible>(respond(Received { headers: parts.headers, body }).await)
                    }
                });
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, requests, begun, task }
    }

    /// Answers everything in the same way.
    pub(crate) async fn always(status: u16, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::start(move |_| std::future::ready(answer(status, body.clone()))).await
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have come.
    pub(crate) async fn has_requests(&self, count: usize) {
        self.begun.clone().wait_for(|begun| *begun >= count).await.unwrap();
    }
}
