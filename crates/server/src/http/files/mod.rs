//! Files over HTTP: uploads by the tus protocol, links, and downloads.
//!
//! Whoever may connect at `/ws` may upload at `/files`, with the same credential and from the same web pages; a download needs no
//! credential but a [link](outspoke_files::Part) that was given to somebody who may have the file. What files are and how they are
//! kept is [`outspoke_files`]'s, which blocks, and so is called on threads for that.

mod content;
mod error;
mod headers;
mod links;
mod messages;
mod turns;
mod uploads;
mod visitor;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{get, post};
use outspoke_files::{FileId, Files, FilesConfig, FilesError, Limits, Owner, Record};
use outspoke_hub::UpgradeService;
use tokio::sync::Semaphore;

pub(crate) use self::messages::FileMessages;
use self::turns::Turns;
use super::api::error::ApiError;
use crate::config::settings;

/// The files, for whoever comes over HTTP. Outlives the routes.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) files: Files,
    turns: Turns,
    /// Those who may wait for a preview that is being made, each with a thread: others get what there is.
    waiting: Arc<Semaphore>,
}

/// Who may wait for previews at a time.
const WAITING_MAX: usize = 16;

impl Door {
    pub(crate) fn new(files: Files) -> Self {
        Self { files, turns: Turns::default(), waiting: Arc::new(Semaphore::new(WAITING_MAX)) }
    }

    /// Files, with their previews if those are made in time.
    async fn with_previews(&self, ids: Vec<FileId>, patience: Duration) -> Result<Vec<Record>, ApiError> {
        let place = Arc::clone(&self.waiting).try_acquire_owned().ok();
        let patience = if place.is_some() { patience } else { Duration::ZERO };
        self.run(move |files| {
            let _place = place;
            let deadline = Instant::now() + patience;
            let left = || deadline.saturating_duration_since(Instant::now());
            ids.into_iter().map(|id| files.with_preview(id, left())).collect()
        })
        .await
    }

    /// Everything of a user's, finished or not.
    pub(super) async fn of_user(&self, tenant: &str, user: &str) -> Result<Vec<Record>, ApiError> {
        let owner = Owner::new(tenant, user);
        self.run(move |files| files.of_user(&owner)).await
    }

    /// Takes away everything of a user's, or of a tenant's. Returns how much that was.
    pub(super) async fn erase(&self, tenant: &str, user: Option<&str>) -> Result<usize, ApiError> {
        let (tenant, user) = (tenant.to_owned(), user.map(str::to_owned));
        self.run(move |files| files.erase(&tenant, user.as_deref())).await
    }

    /// Does something with files that may block.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, FilesError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let files = self.files.clone();
        blocking(move || work(&files)).await
    }
}

/// Does something that may block. It is done to its end even if nobody waits for it any more.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FilesError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => {
            tracing::error!(%error, "work on a file panicked");
            Err(ApiError::http(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server has a fault"))
        }
    }
}

/// What every request needs.
#[derive(Clone, Debug)]
struct Api {
    door: Door,
    /// Who judges who comes.
    endpoint: UpgradeService,
}

/// The files of one endpoint: those who may connect there may come here.
pub(super) fn routes(door: Door, endpoint: UpgradeService) -> Router {
    Router::new()
        .route("/files", post(uploads::create))
        .route(
            "/files/{id}",
            get(links::facts)
                .head(uploads::status)
                .patch(uploads::append)
                .delete(uploads::remove)
                .post(uploads::overridden),
        )
        .route("/files/{id}/link", post(links::link))
        .route("/files/{id}/content", get(content::content))
        .route("/files/{id}/preview", get(content::preview))
        .layer(map_response(headers::say_version))
        .with_state(Api { door, endpoint })
}

/// The same routes, which say what they understand to who asks with OPTIONS: inside are the answers to browsers that ask what
/// another site's page may do.
pub(super) fn answering_options(door: &Door, routes: Router) -> Router {
    routes.layer(from_fn_with_state(door.clone(), answer_options))
}

async fn answer_options(State(door): State<Door>, request: Request, next: Next) -> Response {
    let asks = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if asks {
        *response.status_mut() = StatusCode::NO_CONTENT;
        headers::describe(response.headers_mut(), door.files.limits().file_bytes_max);
    }
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The file that a path names; the path may name a tenant before it.
#[derive(Debug, serde::Deserialize)]
struct Named {
    id: String,
}

impl Named {
    fn id(Path(named): Path<Self>) -> Result<FileId, ApiError> {
        named.id.parse().map_err(|_| FilesError::NotFound.into())
    }
}

/// How the settings want files.
pub(crate) fn config(settings: &settings::Config) -> FilesConfig {
    let files = &settings.files;
    let mut config = FilesConfig::at(files.folder(&settings.data));
    config.link_key = (!files.link_key.is_empty()).then(|| files.link_key.as_bytes().to_vec());
    config.preview_threads = files.preview_threads;
    config.preview_queue_max = files.preview_queue_max;
    config.limits = limits(files);
    config
}

/// What the settings let files use.
pub(crate) fn limits(files: &settings::files::Files) -> Limits {
    let mut limits = Limits::default();
    limits.file_bytes_max = files.file_bytes_max as u64;
    limits.user_bytes_max = files.user_bytes_max as u64;
    limits.tenant_bytes_max = files.tenant_bytes_max as u64;
    limits.unfinished_per_user_max = files.unfinished_per_user_max;
    limits.unfinished_lifetime = files.unfinished_lifetime;
    limits.orphan_lifetime = files.orphan_lifetime;
    limits.types.clone_from(&files.types);
    limits.image_pixels_max = files.image_pixels_max as u64;
    limits.image_frames_max = files.image_frames_max as u64;
    limits.preview_memory_max = files.preview_memory_max as u64;
    limits.preview_timeout = files.preview_timeout;
    limits.preview_pixels = u32::try_from(files.preview_pixels).unwrap_or(u32::MAX);
    limits.link_lifetime = files.link_lifetime;
    limits
}
