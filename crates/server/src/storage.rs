//! Opens the stores that the settings describe.
//!
//! Used by [`crate::serve`] at the start and by `outspoke store`. The default store, which the section `store`
//! describes, comes first; those of the list `stores` follow under their names. Which back ends this build has is
//! decided by cargo features, and a configuration that names another one was refused before it gets here.

use std::path::PathBuf;
use std::sync::Arc;

use outspoke_store::{MemoryStore, Store, StoreError};

use crate::banner::absolute;
use crate::config::settings::{Config, NamedStore};
use crate::config::{Backend, DEFAULT_STORE, Loaded, Source, mask_userinfo};
use crate::startup::StartError;

/// One store as it is configured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What room classes and commands call it.
    pub name: String,
    /// What keeps the data.
    pub backend: Backend,
    /// Where that was written, for complaints.
    setting: Source,
    /// The section or entry with its settings: `store.postgresql`, `stores[0]`.
    section: String,
    options: NamedStore,
    folder: PathBuf,
}

/// A store that is open.
#[derive(Debug, Clone)]
pub struct OpenStore {
    /// How it was configured.
    pub plan: Plan,
    /// What "kept" means with it, in a sentence.
    pub durability: String,
    /// The store.
    pub store: Arc<dyn Store>,
}

/// Every store that the settings describe, the default one first.
pub fn plans(loaded: &Loaded) -> Vec<Plan> {
    let config = &loaded.config;
    let named = config.stores.iter().enumerate().map(|(index, store)| Plan {
        name: store.name.clone(),
        backend: store.backend,
        setting: loaded.source("stores"),
        section: format!("stores[{index}]"),
        folder: store.folder(&config.data),
        options: store.clone(),
    });
    std::iter::once(default_plan(loaded)).chain(named).collect()
}

fn default_plan(loaded: &Loaded) -> Plan {
    let Config { store, data, .. } = &loaded.config;
    let (url, timeout) = match store.backend {
        Backend::Redis => (&store.redis.url, store.redis.timeout),
        Backend::Dynamodb => (&store.dynamodb.endpoint, store.dynamodb.timeout),
        _ => (&store.postgresql.url, store.postgresql.timeout),
    };
    Plan {
        name: DEFAULT_STORE.to_owned(),
        backend: store.backend,
        setting: loaded.source("store.backend"),
        section: format!("store.{}", store.backend.name()),
        folder: store.folder(data),
        options: NamedStore {
            name: DEFAULT_STORE.to_owned(),
            backend: store.backend,
            path: store.embedded.path.clone(),
            reserve_bytes: store.embedded.reserve_bytes,
            cache_bytes: store.embedded.cache_bytes,
            url: url.clone(),
            schema: store.postgresql.schema.clone(),
            readers_max: store.postgresql.readers_max,
            cluster: store.redis.cluster,
            prefix: store.redis.prefix.clone(),
            replicas_min: store.redis.replicas_min,
            timeout,
            table: store.dynamodb.table.clone(),
            region: store.dynamodb.region.clone(),
            endpoint: store.dynamodb.endpoint.clone(),
            create_table: store.dynamodb.create_table,
        },
    }
}

/// Opens every store, and logs what each one's "kept" survives.
///
/// # Errors
/// The first that cannot be opened, with its cure. Those that were open are closed again.
pub async fn open(loaded: &Loaded) -> Result<Vec<OpenStore>, StartError> {
    let mut open = Vec::new();
    for plan in plans(loaded) {
        match plan.open().await {
            Ok(store) => open.push(store),
            Err(error) => {
                close(&open).await;
                return Err(error);
            }
        }
    }
    for OpenStore { plan, durability, .. } in &open {
        let (store, backend) = (&plan.name, plan.backend.name());
        tracing::info!(store, backend, place = plan.place(), durability, "store opened");
    }
    Ok(open)
}

/// Closes stores that nobody else has; a hub closes its own.
pub async fn close(stores: &[OpenStore]) {
    for OpenStore { plan, store, .. } in stores {
        if let Err(error) = store.close().await {
            tracing::warn!(store = plan.name, %error, "a store did not close cleanly");
        }
    }
}

impl Plan {
    /// Opens the store.
    ///
    /// # Errors
    /// Why it cannot be used, with what the operator can do.
    pub async fn open(&self) -> Result<OpenStore, StartError> {
        let refused = |error| StartError::storage(self, error);
        let store = self.connect().await.map_err(refused)?;
        let health = store.health().await.map_err(refused)?;
        if !health.detail.is_empty() {
            tracing::warn!(store = self.name, "{}", health.detail);
        }
        Ok(OpenStore { plan: self.clone(), durability: health.durability, store })
    }

    async fn connect(&self) -> Result<Arc<dyn Store>, StoreError> {
        match self.backend {
            Backend::Memory => Ok(Arc::new(MemoryStore::new())),
            #[cfg(feature = "embedded")]
            Backend::Embedded => self.embedded(),
            #[cfg(feature = "postgres")]
            Backend::Postgresql => self.postgresql().await,
            #[cfg(feature = "redis")]
            Backend::Redis => self.redis().await,
            #[cfg(feature = "dynamodb")]
            Backend::Dynamodb => self.dynamodb().await,
            // Refused with the configuration already, where the feature is named.
            #[allow(unreachable_patterns)]
            _ => Err(StoreError::Invalid("the back end is not part of this build".to_owned())),
        }
    }

    /// Opens the store if there is one already: looking at what is kept must not begin something new.
    ///
    /// # Errors
    /// As [`Plan::open`], and when there is nothing.
    pub async fn open_existing(&self) -> Result<OpenStore, StartError> {
        let nothing = match self.backend {
            Backend::Embedded => !self.folder.exists(),
            Backend::Memory => true,
            Backend::Postgresql | Backend::Redis | Backend::Dynamodb => false,
        };
        if nothing {
            return Err(StartError::NoStore { plan: Box::new(self.clone()) });
        }
        self.open().await
    }

    /// Blocks: nothing is served yet, and a thread made for it would linger.
    #[cfg(feature = "embedded")]
    fn embedded(&self) -> Result<Arc<dyn Store>, StoreError> {
        use outspoke_store::embedded::{EmbeddedStore, Options};

        let mut options = Options::default();
        options.reserve_bytes = self.options.reserve_bytes as u64;
        options.cache_bytes = self.options.cache_bytes as u64;
        Ok(Arc::new(EmbeddedStore::open(&self.folder, options)?))
    }

    #[cfg(feature = "postgres")]
    async fn postgresql(&self) -> Result<Arc<dyn Store>, StoreError> {
        use outspoke_store::postgres::{PostgresOptions, PostgresStore};

        let options = PostgresOptions {
            schema: self.options.schema.clone(),
            timeout: self.options.timeout,
            readers_max: self.options.readers_max,
            ..PostgresOptions::new(&self.options.url)
        };
        Ok(Arc::new(PostgresStore::open(&options).await?))
    }

    #[cfg(feature = "redis")]
    async fn redis(&self) -> Result<Arc<dyn Store>, StoreError> {
        use outspoke_store::redis::{RedisOptions, RedisStore};

        let options = RedisOptions {
            cluster: self.options.cluster,
            prefix: self.options.prefix.clone(),
            timeout: self.options.timeout,
            replicas_min: self.options.replicas_min,
            ..RedisOptions::new(&self.options.url)
        };
        Ok(Arc::new(RedisStore::open(&options).await?))
    }

    #[cfg(feature = "dynamodb")]
    async fn dynamodb(&self) -> Result<Arc<dyn Store>, StoreError> {
        use outspoke_store::dynamodb::{DynamoOptions, DynamoStore};

        let given = |text: &String| (!text.is_empty()).then(|| text.clone());
        let options = DynamoOptions {
            table: self.options.table.clone(),
            region: given(&self.options.region),
            endpoint: given(&self.options.endpoint),
            create_table: self.options.create_table,
            timeout: self.options.timeout,
            ..DynamoOptions::default()
        };
        Ok(Arc::new(DynamoStore::open(&options).await?))
    }

    /// Where the data is, as people know it, without passwords.
    pub fn place(&self) -> String {
        match self.backend {
            Backend::Memory => "this process".to_owned(),
            Backend::Embedded => absolute(&self.folder).display().to_string(),
            Backend::Postgresql | Backend::Redis => {
                // Parameters may hold secrets too, and none of them helps to find a server.
                // Masked first: any of the characters may belong to a password.
                let masked = mask_userinfo(&self.options.url);
                let nodes = masked.split(',').map(|url| url.split(['?', '#']).next().unwrap_or_default());
                nodes.collect::<Vec<_>>().join(",")
            }
            Backend::Dynamodb => format!("table {}", self.options.table),
        }
    }

    /// What an embedded store holds a lock on while it is open.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.folder.join("outspoke.lock")
    }

    /// The setting that decides where an embedded store is.
    pub(crate) fn folder_key(&self) -> String {
        if self.options.path.is_some() { self.key("path") } else { "data.dir".to_owned() }
    }

    /// The name of the setting with the server's address.
    pub(crate) fn address_key(&self) -> &'static str {
        if self.backend == Backend::Dynamodb { "endpoint" } else { "url" }
    }

    /// The setting that chose the back end, and where it was written.
    pub(crate) fn setting(&self) -> (String, &Source) {
        let key = if self.name == DEFAULT_STORE { "store.backend".to_owned() } else { self.section.clone() };
        (key, &self.setting)
    }

    /// The section or entry with its own settings.
    pub(crate) fn section(&self) -> &str {
        &self.section
    }

    /// The path of one of the store's own settings.
    pub(crate) fn key(&self, leaf: &str) -> String {
        format!("{}.{leaf}", self.section)
    }
}
