//! One bucket's origin: an S3 service, a web server or a folder. All three open alike.

use super::dir::Dir;
use super::store::Store;
use super::{ArtifactsError, Object, OpenError, Want};
use crate::config::{self, Source};

/// Where a bucket's objects come from.
pub(super) enum Origin {
    /// Over HTTP.
    Store(Store),
    /// A folder of this machine.
    Dir(Dir),
    /// Nowhere, and why.
    Unusable(String),
}

impl Origin {
    pub(super) fn new(origin: &config::Origin) -> Result<Self, ArtifactsError> {
        let bucket = &origin.bucket;
        Ok(match &origin.source {
            Source::S3 {
                endpoint,
                region,
                credentials,
            } => Self::Store(Store::s3(bucket, endpoint, region, credentials.as_deref())?),
            Source::Http(url) => Self::Store(Store::http(bucket, url)?),
            Source::Dir(root) => Self::Dir(Dir::new(root)),
        })
    }

    /// Opens the object of a checked key.
    pub(super) async fn open(&self, key: &str, want: &Want) -> Result<Object, OpenError> {
        match self {
            Self::Store(store) => store.open(key, want).await,
            Self::Dir(dir) => dir.open(key, want).await,
            Self::Unusable(why) => Err(OpenError::Origin(why.clone())),
        }
    }
}
