//! Requests, and what their errors mean.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, DeleteRequest, KeySchemaElement, KeyType, ScalarAttributeType,
    TableStatus, TransactWriteItem, WriteRequest,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use tokio::time::Instant;

use super::format;
use super::items::{self, Item, Key};
use super::options::DynamoOptions;
use crate::StoreError;

/// How many requests are under way at the same time for one call.
pub(super) const REQUESTS: usize = 32;
/// How many items DynamoDB deletes in one request.
const DELETES: usize = 25;

/// What became of a request.
pub(super) enum Failure {
    /// A condition did not hold, or another request was faster: nothing was written.
    Condition,
    /// Nothing was written.
    Refused(StoreError),
    /// It may be written or not.
    InDoubt(String),
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Condition => Self::Unavailable("another hub writes the same".into()),
            Failure::Refused(error) => error,
            Failure::InDoubt(text) => Self::Unavailable(text),
        }
    }
}

/// The table.
pub(super) struct Table {
    options: DynamoOptions,
    client: OnceCell<Client>,
    ready: OnceCell<()>,
    /// Tenants and families that are listed already; they stay so for ever.
    listed: Mutex<HashSet<Key>>,
    pub(super) writer: AsyncMutex<Writer>,
    /// Tells this store's writes from those of others.
    pub(super) name: u64,
}

/// What writing needs to know from one batch to the next.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// Whether the last batch may be written or not.
    pub(super) in_doubt: bool,
    /// Counts the commits.
    pub(super) turn: u64,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Table {
    pub(super) fn new(options: &DynamoOptions) -> Result<Self, StoreError> {
        if options.table.is_empty() {
            return Err(StoreError::Invalid("the DynamoDB setting `table` is empty".into()));
        }
        Ok(Self {
            options: options.clone(),
            client: OnceCell::new(),
            ready: OnceCell::new(),
            listed: Mutex::default(),
            writer: AsyncMutex::default(),
            name: fastrand::u64(..),
        })
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.options.timeout
    }

    pub(super) fn too_slow(&self) -> String {
        format!("DynamoDB did not answer within {:?}", self.options.timeout)
    }

    pub(super) fn name(&self) -> &str {
        &self.options.table
    }

    pub(super) async fn client(&self) -> &Client {
        self.client.get_or_init(|| connect(&self.options)).await
    }

    /// Makes sure, once, that the table is there, and of a format that we know.
    pub(super) async fn ready(&self) -> Result<&Client, StoreError> {
        let client = self.client().await;
        self.ready.get_or_try_init(|| self.prepare(client)).await?;
        Ok(client)
    }

    async fn prepare(&self, client: &Client) -> Result<(), StoreError> {
        let deadline = Instant::now() + self.options.timeout * 12;
        let mut created = false;
        loop {
            let described = client.describe_table().table_name(self.name()).send().await;
            match described {
                Ok(description) => {
                    let status = description.table.and_then(|table| table.table_status);
                    if status
                        .is_some_and(|status| matches!(status, TableStatus::Active | TableStatus::Updating))
                    {
                        return format::check(self, client).await;
                    }
                }
                Err(error)
                    if code(&error) == Some("ResourceNotFoundException") && self.options.create_table =>
                {
                    if !created {
                        self.create(client).await?;
                        created = true;
                    }
                }
                Err(error) => return Err(self.explained(&error)),
            }
            if Instant::now() > deadline {
                let text = format!("DynamoDB's table {} is still not ready", self.name());
                return Err(StoreError::Unavailable(text));
            }
            tokio::time::sleep(self.options.timeout / 20).await;
        }
    }

    async fn create(&self, client: &Client) -> Result<(), StoreError> {
        let mut create =
            client.create_table().table_name(self.name()).billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
            let definition =
                AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::B);
            let element = KeySchemaElement::builder().attribute_name(name).key_type(kind);
            let (Ok(definition), Ok(element)) = (definition.build(), element.build()) else { continue };
            create = create.attribute_definitions(definition).key_schema(element);
        }
        match create.send().await {
            Ok(_) => Ok(()),
            // Another hub was faster.
            Err(error) if code(&error) == Some("ResourceInUseException") => Ok(()),
            Err(error) => Err(self.explained(&error)),
        }
    }

    /// Of an error before anything else worked: names the setting and the cure.
    pub(super) fn explained<E>(&self, error: &SdkError<E>) -> StoreError
    where
        SdkError<E>: ProvideErrorMetadata + std::error::Error,
    {
        let text = said(error);
        let table = self.name();
        StoreError::Unavailable(match code(error) {
            Some("ResourceNotFoundException") => {
                format!(
                    "DynamoDB has no table {table}: create it, correct the setting `table`, or set `create_table`"
                )
            }
            Some("AccessDeniedException") => {
                format!(
                    "DynamoDB does not let this access key use the table {table}: grant the rights to it ({text})"
                )
            }
            Some(_) => {
                format!("DynamoDB does not accept us: check the settings `access_key` and `region` ({text})")
            }
            None => {
                format!(
                    "DynamoDB cannot be reached: check the settings `region`, `endpoint` and `access_key` ({text})"
                )
            }
        })
    }

    /// Of an error of a request that reads.
    pub(super) fn unread<E>(&self, error: &SdkError<E>) -> StoreError
    where
        SdkError<E>: ProvideErrorMetadata + std::error::Error,
    {
        match code(error) {
            Some("ResourceNotFoundException") => self.explained(error),
            _ => StoreError::Unavailable(format!("DynamoDB did not answer: {}", said(error))),
        }
    }

    /// Of an error of a request that writes.
    pub(super) fn unwritten<E>(&self, error: &SdkError<E>) -> Failure
    where
        SdkError<E>: ProvideErrorMetadata + std::error::Error,
    {
        match (error, code(error)) {
            (_, Some("ConditionalCheckFailedException" | "TransactionConflictException")) => {
                Failure::Condition
            }
            (_, Some("ValidationException" | "ItemCollectionSizeLimitExceededException")) => {
                Failure::Refused(StoreError::Invalid(format!("DynamoDB refuses it: {}", said(error))))
            }
            (SdkError::ConstructionFailure(_), _) => Failure::Refused(self.unread(error)),
            (SdkError::ServiceError(service), Some(code))
                if code != "InternalServerError" && !service.raw().status().is_server_error() =>
            {
                Failure::Refused(self.unread(error))
            }
            _ => Failure::InDoubt(said(error)),
        }
    }

    /// Writes several items as one.
    pub(super) async fn transact(&self, items: Vec<TransactWriteItem>) -> Result<(), Failure> {
        let request = self.client().await.transact_write_items().set_transact_items(Some(items));
        let Err(error) = request.send().await else { return Ok(()) };
        if let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
            error.as_service_error()
        {
            let reasons = cancelled.cancellation_reasons().iter().filter_map(|reason| reason.code());
            let reasons: Vec<_> = reasons.filter(|code| *code != "None").collect();
            if reasons.iter().any(|code| matches!(*code, "ConditionalCheckFailed" | "TransactionConflict")) {
                return Err(Failure::Condition);
            }
            let text = format!("DynamoDB refuses it: {}", reasons.join(", "));
            return Err(Failure::Refused(match reasons.first() {
                Some(&"ValidationError" | &"ItemCollectionSizeLimitExceeded") => StoreError::Invalid(text),
                _ => StoreError::Unavailable(text),
            }));
        }
        Err(self.unwritten(&error))
    }

    /// One item, as it is now.
    pub(super) async fn get(&self, key: &Key) -> Result<Option<Item>, StoreError> {
        let client = self.ready().await?;
        let get = client.get_item().table_name(self.name()).set_key(Some(key.item())).consistent_read(true);
        Ok(get.send().await.map_err(|error| self.unread(&error))?.item)
    }

    /// Several items, each as it is now, in their order.
    pub(super) async fn get_all(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreError> {
        let gets: Vec<_> = keys.iter().map(|key| self.get(key)).collect();
        stream::iter(gets).buffered(REQUESTS).try_collect().await
    }

    pub(super) async fn put(&self, item: Item) -> Result<(), Failure> {
        let put = self.client().await.put_item().table_name(self.name()).set_item(Some(item));
        put.send().await.map(drop).map_err(|error| self.unwritten(&error))
    }

    pub(super) async fn delete_all(&self, keys: &[Key]) -> Result<(), StoreError> {
        for keys in keys.chunks(DELETES) {
            let deletes = keys.iter().filter_map(|key| {
                let delete = DeleteRequest::builder().set_key(Some(key.item())).build().ok()?;
                Some(WriteRequest::builder().delete_request(delete).build())
            });
            let mut left: Vec<_> = deletes.collect();
            while !left.is_empty() {
                let request = self.client().await.batch_write_item().request_items(self.name(), left);
                let answer = request.send().await.map_err(|error| self.unread(&error))?;
                left = answer
                    .unprocessed_items
                    .and_then(|mut items| items.remove(self.name()))
                    .unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Notes a tenant, or a family of its facts, where they are looked for.
    pub(super) async fn list(&self, partition: Vec<u8>, name: &str) -> Result<(), Failure> {
        let key = Key(partition, items::listed(name));
        if self.listed.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
            return Ok(());
        }
        self.put(key.item()).await?;
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        Ok(())
    }
}

async fn connect(options: &DynamoOptions) -> Client {
    let timeouts =
        TimeoutConfig::builder().connect_timeout(options.timeout / 2).operation_timeout(options.timeout);
    // A request that is sent again behind our back makes its last error say nothing about the first.
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts.build())
        .retry_config(RetryConfig::disabled());
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some((id, secret)) = &options.access_key {
        loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "settings"));
    }
    Client::new(&loader.load().await)
}

pub(super) fn code<E>(error: &SdkError<E>) -> Option<&str>
where
    SdkError<E>: ProvideErrorMetadata,
{
    error.code()
}

fn said<E>(error: &SdkError<E>) -> String
where
    SdkError<E>: ProvideErrorMetadata + std::error::Error,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => {
            // The first line: behind it comes the whole request.
            let text = DisplayErrorContext(error).to_string();
            text.split(" (").next().unwrap_or_default().to_owned()
        }
    }
}
