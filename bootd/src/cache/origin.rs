//! One bucket's origin: an S3 service, a web server or a folder. All three open alike.

use super::dir::Dir;
use super::list::{Listing, Page};
use super::store::Store;
use super::{ArtifactsError, Object, OpenError, Want};
use crate::config::{self, Source};

/// Where a bucket's objects come from.
pub(super) enum Origin {
    /// Over HTTP.
    Remote {
        /// What is asked.
        store: Store,
        /// Its address, for humans, and to tell it from others.
        name: String,
        /// What is behind the key of an object that holds another one's SHA-256.
        sidecar: Option<String>,
    },
    /// A folder of this machine.
    Dir(Dir),
    /// Nowhere, and why.
    Unusable(String),
}

impl Origin {
    pub(super) fn new(origin: &config::Origin) -> Result<Self, ArtifactsError> {
        let bucket = &origin.bucket;
        let remote = |store| Self::Remote {
            store,
            name: origin.source.to_string(),
            sidecar: origin.sidecar.clone(),
        };
        Ok(match &origin.source {
            Source::S3 {
                endpoint,
                region,
                credentials,
            } => remote(Store::s3(bucket, endpoint, region, credentials)?),
            Source::Http(url) => remote(Store::http(bucket, url)?),
            Source::Dir(root) => Self::Dir(Dir::new(root)),
        })
    }

    /// Whether its objects are worth keeping: those of a folder are here already.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Remote { .. })
    }

    /// What tells it from other origins: its address.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Remote { name, .. } => name,
            Self::Dir(_) | Self::Unusable(_) => "",
        }
    }

    /// Where its objects are written.
    pub(super) fn written_to(&self) -> &str {
        match self {
            Self::Remote { name, .. } => name,
            Self::Dir(_) => "a folder of this machine",
            Self::Unusable(_) => "an origin that cannot be used as it is configured",
        }
    }

    /// The key of the object that holds the SHA-256 of another one, if there may be one.
    pub(super) fn sidecar_of(&self, key: &str) -> Option<String> {
        match self {
            Self::Remote {
                sidecar: Some(suffix), ..
            } if !key.ends_with(suffix) => Some(format!("{key}{suffix}")),
            _ => None,
        }
    }

    /// A page of its list.
    pub(super) async fn list(&self, page: &Page) -> Result<Listing, OpenError> {
        match self {
            Self::Remote { store, .. } => store.list(page).await,
            Self::Dir(dir) => dir.list(page).await,
            Self::Unusable(why) => Err(OpenError::Origin(why.clone())),
        }
    }

    /// Opens the object of a checked key.
    pub(super) async fn open(&self, key: &str, want: &Want) -> Result<Object, OpenError> {
        match self {
            Self::Remote { store, .. } => store.open(key, want).await,
            Self::Dir(dir) => dir.open(key, want).await,
            Self::Unusable(why) => Err(OpenError::Origin(why.clone())),
        }
    }
}
