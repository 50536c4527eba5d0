//! Who uses how much: sums of what the records say, kept in memory.
//!
//! Counted anew from the records at the start and by every sweep; what happens between is added and taken off. An upload counts
//! with the length that it announced from its beginning on, so that nobody can begin more than fits.

use std::collections::HashMap;

use crate::{FilesError, Limits, Owner, Record};

/// An empty file takes room, too: its record.
const BYTES_MIN: u64 = 4096;

/// What somebody uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Files and uploads.
    pub files: usize,
    /// Uploads among them that are not finished.
    pub unfinished: usize,
    /// Their bytes, each with at least 4 KiB.
    pub bytes: u64,
}

impl Usage {
    fn add(&mut self, record: &Record) {
        self.files += 1;
        self.unfinished += usize::from(record.whole.is_none());
        self.bytes = self.bytes.saturating_add(cost(record.length));
    }

    fn take_off(&mut self, record: &Record) {
        self.files = self.files.saturating_sub(1);
        self.unfinished = self.unfinished.saturating_sub(usize::from(record.whole.is_none()));
        self.bytes = self.bytes.saturating_sub(cost(record.length));
    }
}

fn cost(length: u64) -> u64 {
    length.max(BYTES_MIN)
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    users: HashMap<Owner, Usage>,
    tenants: HashMap<String, Usage>,
}

impl Ledger {
    pub(crate) fn add(&mut self, record: &Record) {
        self.users.entry(record.owner.clone()).or_default().add(record);
        self.tenants.entry(record.owner.tenant.clone()).or_default().add(record);
    }

    pub(crate) fn take_off(&mut self, record: &Record) {
        if let Some(usage) = self.users.get_mut(&record.owner) {
            usage.take_off(record);
            if usage.files == 0 {
                self.users.remove(&record.owner);
            }
        }
        if let Some(usage) = self.tenants.get_mut(&record.owner.tenant) {
            usage.take_off(record);
            if usage.files == 0 {
                self.tenants.remove(&record.owner.tenant);
            }
        }
    }

    /// An upload is finished.
    pub(crate) fn finished(&mut self, owner: &Owner) {
        for usage in [self.users.get_mut(owner), self.tenants.get_mut(&owner.tenant)].into_iter().flatten() {
            usage.unfinished = usage.unfinished.saturating_sub(1);
        }
    }

    pub(crate) fn of_user(&self, owner: &Owner) -> Usage {
        self.users.get(owner).copied().unwrap_or_default()
    }

    pub(crate) fn of_tenant(&self, tenant: &str) -> Usage {
        self.tenants.get(tenant).copied().unwrap_or_default()
    }

    /// Whether an upload of this length may begin.
    pub(crate) fn check(&self, owner: &Owner, length: u64, limits: &Limits) -> Result<(), FilesError> {
        let within = |max: u64| (max > 0).then_some(max);
        if let Some(max) = within(limits.file_bytes_max).filter(|max| length > *max) {
            return Err(FilesError::TooLarge { max });
        }
        let user = self.of_user(owner);
        let max = limits.unfinished_per_user_max;
        if max > 0 && user.unfinished >= max {
            return Err(FilesError::TooManyUploads { max });
        }
        let exceeds = |usage: Usage, max: u64| usage.bytes.saturating_add(cost(length)) > max;
        if let Some(max) = within(limits.user_bytes_max).filter(|max| exceeds(user, *max)) {
            return Err(FilesError::Quota { of: "a user", max });
        }
        let tenant = self.of_tenant(&owner.tenant);
        if let Some(max) = within(limits.tenant_bytes_max).filter(|max| exceeds(tenant, *max)) {
            return Err(FilesError::Quota { of: "this tenant", max });
        }
        Ok(())
    }
}
