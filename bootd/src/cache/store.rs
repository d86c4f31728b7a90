//! An S3 service or a web server as an origin, through object_store.
//!
//! One request opens an object: its length and tag come with the answer. Only when a range gets no usable answer a HEAD finds out why. The
//! store retries before the first byte, and continues a broken body under its tag, some times; nobody else retries, but for
//! a fill of the cache, which goes on where a body broke for good.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::http::HttpBuilder;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::{
    Attribute, BackoffConfig, ClientOptions, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, RetryConfig,
};

use super::client::{Connector, NotFollowed, Same};
use super::keys::{self, Keys};
use super::list::{Listed, Listing, Page};
use super::{ArtifactsError, Object, ObjectBody, OpenError, Want};
use crate::config::Credentials;
use crate::http::BodyError;
use crate::http::range::{Slice, Spec};

/// The service.
pub(super) struct Store {
    store: Arc<dyn ObjectStore>,
    /// A web server has no lists.
    lists: Option<Arc<dyn PaginatedListStore>>,
}

impl Store {
    /// An S3 service, asked path-style; signed only with credentials.
    pub(super) fn s3(
        bucket: &str,
        endpoint: &str,
        region: &str,
        credentials: &Credentials,
    ) -> Result<Self, ArtifactsError> {
        // `new` and not `from_env`: what the environment says about AWS is not about this origin.
        let builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_endpoint(endpoint)
            .with_region(region)
            .with_virtual_hosted_style_request(false)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_http_connector(Connector {
                is_signed: !matches!(credentials, Credentials::None),
            })
            .with_retry(retry());
        let unusable = |from: String, why| ArtifactsError::Credentials {
            bucket: bucket.into(),
            from,
            why,
        };
        let builder = match credentials {
            Credentials::None => builder.with_skip_signature(true),
            // Without keys of its own it asks the metadata service for them, and again before they end.
            Credentials::Instance => builder,
            Credentials::File(file, profile) => {
                let keys = keys::of_file(file, profile.as_deref());
                with(builder, keys.map_err(|why| unusable(file.display().to_string(), why))?)
            }
            Credentials::Environment => {
                let keys = keys::of_environment(|name| std::env::var(name).ok());
                with(builder, keys.map_err(|why| unusable("the environment".into(), why))?)
            }
        };
        let store = Arc::new(built(bucket, builder.build())?);
        Ok(Self {
            lists: Some(Arc::clone(&store) as Arc<dyn PaginatedListStore>),
            store,
        })
    }

    /// A web server: keys are paths below the URL.
    pub(super) fn http(bucket: &str, url: &str) -> Result<Self, ArtifactsError> {
        let builder = HttpBuilder::new()
            .with_url(url)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_http_connector(Connector { is_signed: false })
            .with_retry(retry());
        Ok(Self {
            store: Arc::new(built(bucket, builder.build())?),
            lists: None,
        })
    }

    /// A page of the list. A prefix need not end at a slash.
    pub(super) async fn list(&self, page: &Page) -> Result<Listing, OpenError> {
        let Some(lists) = &self.lists else {
            return Err(OpenError::Denied(
                "the origin is a web server, which has no lists".into(),
            ));
        };
        let prefix = Some(&*page.prefix).filter(|prefix| !prefix.is_empty());
        let options = PaginatedListOptions {
            offset: page.after.clone(),
            delimiter: page.delimiter.clone().map(Into::into),
            max_keys: Some(page.most),
            page_token: page.token.clone(),
            ..PaginatedListOptions::default()
        };
        let found = lists.list_paginated(prefix, options).await.map_err(refusal)?;
        let listed = |meta: ObjectMeta| Listed {
            key: meta.location.into(),
            len: meta.size,
            etag: meta.e_tag.as_deref().map(quoted),
            last_modified: meta.last_modified.into(),
        };
        // The store takes a slash at the end away.
        let end = page
            .delimiter
            .as_deref()
            .filter(|delimiter| *delimiter == "/")
            .unwrap_or_default();
        let whole = |prefix: object_store::path::Path| format!("{prefix}{end}");
        Ok(Listing {
            objects: found.result.objects.into_iter().map(listed).collect(),
            prefixes: found.result.common_prefixes.into_iter().map(whole).collect(),
            next: found.page_token,
        })
    }

    pub(super) async fn open(&self, key: &str, want: &Want) -> Result<Object, OpenError> {
        if want.head {
            return self.get(key, want, None).await;
        }
        let range = match want.range {
            Spec::Whole => return self.get(key, want, None).await,
            Spec::FromTo(first, last) => Some(GetRange::Bounded(first..last.saturating_add(1))),
            Spec::From(first) => Some(GetRange::Offset(first)),
            Spec::Last(0) => None,
            Spec::Last(count) => Some(GetRange::Suffix(count)),
        };
        if let Some(range) = range {
            match self.get(key, want, Some(range)).await {
                Err(OpenError::Origin(_)) => {}
                answer => return answer,
            }
        }
        // No answer to that range: there may be no such bytes, or the origin may know no ranges.
        let head = Want {
            head: true,
            ..want.clone()
        };
        let len = self.get(key, &head, None).await?.len;
        match want.range.of_length(len) {
            Slice::Unsatisfiable => Err(OpenError::Unsatisfiable { len }),
            Slice::Whole | Slice::Part(_) => self.get(key, want, None).await,
        }
    }

    async fn get(&self, key: &str, want: &Want, range: Option<GetRange>) -> Result<Object, OpenError> {
        let path = object_store::path::Path::parse(key).map_err(|_| OpenError::BadName("the key is no path"))?;
        let partial = range.is_some();
        let mut options = GetOptions {
            if_match: want.if_match.clone(),
            range,
            head: want.head,
            ..GetOptions::default()
        };
        options.extensions.insert(Same::default());
        let result = self.store.get_opts(&path, options).await.map_err(refusal)?;
        let object = object(result, want.head, partial);
        // Origins that do not know preconditions answer all the same.
        if want.if_match.is_some() && object.etag != want.if_match {
            return Err(OpenError::Changed);
        }
        Ok(object)
    }
}

fn built<S>(bucket: &str, built: object_store::Result<S>) -> Result<S, ArtifactsError> {
    built.map_err(|error| ArtifactsError::Origin {
        bucket: bucket.into(),
        why: error.to_string(),
    })
}

fn object(result: GetResult, head: bool, partial: bool) -> Object {
    let content_type = result.attributes.get(&Attribute::ContentType);
    let content_type = content_type.map(|value| value.as_ref().to_owned());
    let last_modified = SystemTime::from(result.meta.last_modified);
    let range = if head { 0..0 } else { result.range.clone() };
    Object {
        len: result.meta.size,
        etag: result.meta.e_tag.as_deref().map(quoted),
        // The store says 1970 when the origin says nothing.
        last_modified: (last_modified > SystemTime::UNIX_EPOCH).then_some(last_modified),
        content_type,
        body: if head {
            ObjectBody::empty()
        } else {
            let stream = result
                .into_stream()
                .map(|chunk| chunk.map_err(|error| BodyError::from(innermost(&error))));
            ObjectBody::new(range.end - range.start, stream)
        },
        range,
        partial,
        mapped: None,
        kept: false,
        stale: None,
    }
}

/// Some web servers forget the quotes.
fn quoted(tag: &str) -> String {
    if tag.starts_with('"') || tag.starts_with("W/\"") {
        tag.to_owned()
    } else {
        format!("\"{}\"", tag.replace('"', ""))
    }
}

fn refusal(error: object_store::Error) -> OpenError {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => OpenError::NoSuchKey,
        E::Precondition { .. } | E::NotModified { .. } => OpenError::Changed,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => OpenError::Denied("the origin refused access".into()),
        E::InvalidPath { .. } => OpenError::BadName("the key is no path"),
        error if cause::<NotFollowed>(&error).is_some() => OpenError::Origin(innermost(&error)),
        error => match cause(&error).map(HttpError::kind) {
            Some(HttpErrorKind::Timeout) => OpenError::Timeout,
            Some(_) => OpenError::Unreachable(innermost(&error)),
            None => OpenError::Origin(innermost(&error)),
        },
    }
}

/// The error of this kind in a chain of errors.
fn cause<E: Error + 'static>(error: &object_store::Error) -> Option<&E> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The end of a chain of errors, in one line. All that stands before it repeats the request, with the site's hosts and keys.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let text = last.to_string();
    // Markup is an origin's own error page.
    let words = text.split('<').next().unwrap_or_default().split_whitespace();
    let line = words.collect::<Vec<_>>().join(" ");
    let line = line.trim_end_matches([':', ' ']);
    match line.char_indices().nth(CAUSE) {
        None => line.to_owned(),
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

fn with(builder: AmazonS3Builder, keys: Keys) -> AmazonS3Builder {
    let builder = builder.with_access_key_id(keys.id).with_secret_access_key(keys.secret);
    match keys.token {
        Some(token) => builder.with_token(token),
        None => builder,
    }
}

/// Few and quick, since a node waits; but still there when a long body breaks late.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 4,
        retry_timeout: Duration::from_secs(3600),
    }
}

/// Characters of a cause: enough for any error of the system, and for the beginning of an origin's own words.
const CAUSE: usize = 120;
