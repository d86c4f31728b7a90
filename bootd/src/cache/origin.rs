//! One bucket's origin: an S3 service, a web server or a folder. All three open alike.

use super::dir::Dir;
use super::list::{Listing, Page};
use super::store::Store;
use super::{ArtifactsError, Object, OpenError, Want};
use crate::config::{self, Source};

/// Where a bucket's objects come from.
pub(super) enum Origin {
    /// Over HTTP, and under which name.
    Store(Store, String),
    /// A folder of this machine.
    Dir(Dir),
    /// Nowhere, and why.
    Unusable(String),
}

impl Origin {
    pub(super) fn new(origin: &config::Origin) -> Result<Self, ArtifactsError> {
        let bucket = &origin.bucket;
        let name = origin.source.to_string();
        Ok(match &origin.source {
            Source::S3 {
                endpoint,
                region,
                credentials,
            } => Self::Store(Store::s3(bucket, endpoint, region, credentials)?, name),
            Source::Http(url) => Self::Store(Store::http(bucket, url)?, name),
            Source::Dir(root) => Self::Dir(Dir::new(root)),
        })
    }

    /// Whether its objects are worth keeping: those of a folder are here already.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Store(..))
    }

    /// What tells it from other origins: its address.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Store(_, name) => name,
            Self::Dir(_) | Self::Unusable(_) => "",
        }
    }

    /// Where its objects are written.
    pub(super) fn written_to(&self) -> &str {
        match self {
            Self::Store(_, name) => name,
            Self::Dir(_) => "a folder of this machine",
            Self::Unusable(_) => "an origin that cannot be used as it is configured",
        }
    }

    /// A page of its list.
    pub(super) async fn list(&self, page: &Page) -> Result<Listing, OpenError> {
        match self {
            Self::Store(store, _) => store.list(page).await,
            Self::Dir(dir) => dir.list(page).await,
            Self::Unusable(why) => Err(OpenError::Origin(why.clone())),
        }
    }

    /// Opens the object of a checked key.
    pub(super) async fn open(&self, key: &str, want: &Want) -> Result<Object, OpenError> {
        match self {
            Self::Store(store, _) => store.open(key, want).await,
            Self::Dir(dir) => dir.open(key, want).await,
            Self::Unusable(why) => Err(OpenError::Origin(why.clone())),
        }
    }
}
