//! What S3 clients ask of a bucket, or of all of them, beside objects: its list (ListObjectsV2, and the first version), where it is, and which
//! buckets there are.
//!
//! Reads a query into a [`Question`] and writes what there is as S3's XML. No I/O. What else S3 knows of a bucket, as its access lists, there is
//! none of here, and is said so.

use std::fmt::{Display, Write};
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::xml::Xml;
use crate::cache::list::{Listed, Listing, MOST, Page};

/// What is asked of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// A page of its list.
    List(Asked),
    /// In which region it is.
    Location,
    /// Whether it keeps versions.
    Versioning,
}

/// Which page, and how it is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    version: Version,
    pub(super) page: Page,
    encoding: Encoding,
}

/// Of the two that S3 has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// How keys are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Plain,
    /// Percent-encoded: XML cannot hold every key.
    Url,
}

/// A question that gets no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadQuestion {
    /// S3 knows it, bootd does not.
    #[error("Only the list and the location of a bucket are served.")]
    Unknown,
    /// A number that is none.
    #[error("max-keys is no number.")]
    MaxKeys,
    /// Another encoding.
    #[error("encoding-type is url or nothing.")]
    Encoding,
}

impl Question {
    /// Reads the query of a request for a bucket.
    pub(super) fn read(query: &str) -> Result<Self, BadQuestion> {
        let mut asked = Asked {
            version: Version::One,
            page: Page {
                most: MOST,
                ..Page::default()
            },
            encoding: Encoding::Plain,
        };
        let (mut marker, mut start_after) = (None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match &*name {
                "location" => return Ok(Self::Location),
                "versioning" => return Ok(Self::Versioning),
                "list-type" => asked.version = Version::Two,
                "prefix" => asked.page.prefix = value,
                "delimiter" => asked.page.delimiter = Some(value).filter(|text| !text.is_empty()),
                "max-keys" => {
                    asked.page.most = value
                        .parse()
                        .map(|most: usize| most.min(MOST))
                        .map_err(|_| BadQuestion::MaxKeys)?
                }
                "marker" => marker = Some(value),
                "start-after" => start_after = Some(value),
                "continuation-token" => asked.page.token = Some(value),
                "encoding-type" if value.eq_ignore_ascii_case("url") => asked.encoding = Encoding::Url,
                "encoding-type" => return Err(BadQuestion::Encoding),
                other if NOT_HERE.contains(&other) => return Err(BadQuestion::Unknown),
                // A signature, and what else does not change the list.
                _ => {}
            }
        }
        match asked.version {
            Version::Two => asked.page.after = start_after,
            Version::One => {
                asked.page.token = None;
                // A page that ended with a prefix goes on behind all that has it.
                let is_prefix =
                    |marker: &String| asked.page.delimiter.as_ref().is_some_and(|end| marker.ends_with(end));
                asked.page.after = marker.map(|marker| match is_prefix(&marker) {
                    true => format!("{marker}{}", char::MAX),
                    false => marker,
                });
            }
        }
        asked.page.after = asked.page.after.filter(|after| !after.is_empty());
        Ok(Self::List(asked))
    }
}

impl Asked {
    /// The list as S3 writes it.
    pub(super) fn xml(&self, bucket: &str, listing: &Listing) -> String {
        let page = &self.page;
        let mut xml = begin("ListBucketResult");
        element(&mut xml, "Name", bucket);
        element(&mut xml, "Prefix", &self.key(&page.prefix));
        if let Some(delimiter) = &page.delimiter {
            element(&mut xml, "Delimiter", &self.key(delimiter));
        }
        match self.version {
            Version::One => {
                let marker = page.after.as_deref().unwrap_or_default();
                element(&mut xml, "Marker", &self.key(marker.trim_end_matches(char::MAX)));
                if let (Some(_), Some(last)) = (&listing.next, listing.last()) {
                    element(&mut xml, "NextMarker", &self.key(&last));
                }
            }
            Version::Two => {
                if let Some(after) = &page.after {
                    element(&mut xml, "StartAfter", &self.key(after));
                }
                for (name, token) in [
                    ("ContinuationToken", &page.token),
                    ("NextContinuationToken", &listing.next),
                ] {
                    if let Some(token) = token {
                        element(&mut xml, name, token);
                    }
                }
                number(&mut xml, "KeyCount", listing.objects.len() + listing.prefixes.len());
            }
        }
        number(&mut xml, "MaxKeys", page.most);
        if self.encoding == Encoding::Url {
            element(&mut xml, "EncodingType", "url");
        }
        number(&mut xml, "IsTruncated", listing.next.is_some());
        for object in &listing.objects {
            self.object(&mut xml, object);
        }
        for prefix in &listing.prefixes {
            xml.push_str("<CommonPrefixes>");
            element(&mut xml, "Prefix", &self.key(prefix));
            xml.push_str("</CommonPrefixes>");
        }
        xml.push_str("</ListBucketResult>");
        xml
    }

    fn object(&self, xml: &mut String, object: &Listed) {
        xml.push_str("<Contents>");
        element(xml, "Key", &self.key(&object.key));
        element(xml, "LastModified", &time(object.last_modified));
        if let Some(etag) = &object.etag {
            element(xml, "ETag", etag);
        }
        number(xml, "Size", object.len);
        xml.push_str("<StorageClass>STANDARD</StorageClass></Contents>");
    }

    fn key(&self, key: &str) -> String {
        match self.encoding {
            Encoding::Plain => key.into(),
            Encoding::Url => utf8_percent_encode(key, &ENCODED).to_string(),
        }
    }
}

/// All buckets. That each is as old as time is what S3 clients make of one without a date.
pub(super) fn buckets<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut xml = begin("ListAllMyBucketsResult");
    xml.push_str("<Owner><ID>bootd</ID><DisplayName>bootd</DisplayName></Owner><Buckets>");
    for name in names {
        xml.push_str("<Bucket>");
        element(&mut xml, "Name", name);
        element(&mut xml, "CreationDate", &time(SystemTime::UNIX_EPOCH));
        xml.push_str("</Bucket>");
    }
    xml.push_str("</Buckets></ListAllMyBucketsResult>");
    xml
}

/// Where a bucket is: empty is S3's first region, which clients need for a signature that nobody looks at.
pub(super) fn location() -> String {
    begin("LocationConstraint") + "</LocationConstraint>"
}

/// That a bucket keeps no versions.
pub(super) fn versioning() -> String {
    begin("VersioningConfiguration") + "</VersioningConfiguration>"
}

fn begin(name: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{name} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">")
}

fn element(xml: &mut String, name: &str, text: &str) {
    // Writing into a text cannot fail.
    let _ = write!(xml, "<{name}>{}</{name}>", Xml(text));
}

fn number(xml: &mut String, name: &str, value: impl Display) {
    let _ = write!(xml, "<{name}>{value}</{name}>");
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// What S3 leaves as it is in keys.
const ENCODED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*')
    .remove(b'/');
/// What S3 tells of a bucket, each by its name in the query.
const NOT_HERE: [&str; 22] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "lifecycle",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "tagging",
    "uploads",
    "versions",
    "website",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Asked {
        match Question::read(query) {
            Ok(Question::List(asked)) => asked,
            other => panic!("{query}: {other:?}"),
        }
    }

    fn listing() -> Listing {
        Listing {
            objects: vec![Listed {
                key: "a & ü".into(),
                len: 7,
                etag: Some("\"1\"".into()),
                last_modified: SystemTime::UNIX_EPOCH,
            }],
            prefixes: vec!["b/".into()],
            next: Some("more".into()),
        }
    }

    #[test]
    fn a_query_is_read_in_both_versions() {
        let page = asked("list-type=2&prefix=compute%2Fba&delimiter=/&max-keys=7&start-after=x&continuation-token=t&fetch-owner=true").page;
        let wanted = Page {
            prefix: "compute/ba".into(),
            delimiter: Some("/".into()),
            after: Some("x".into()),
            token: Some("t".into()),
            most: 7,
        };
        assert_eq!(page, wanted);
        let page =
            asked("prefix=&marker=a%2F&delimiter=%2F&max-keys=9999&continuation-token=t&X-Amz-Signature=abc").page;
        assert_eq!((page.token, page.most), (None, MOST));
        assert_eq!(page.after, Some(format!("a/{}", char::MAX)));
        assert_eq!(asked("marker=a%2F").page.after.as_deref(), Some("a/"));
        assert_eq!(asked("").page.after, None);
        assert_eq!(Question::read("location"), Ok(Question::Location));
        assert_eq!(Question::read("acl"), Err(BadQuestion::Unknown));
        assert_eq!(Question::read("max-keys=-1"), Err(BadQuestion::MaxKeys));
        assert_eq!(Question::read("encoding-type=gzip"), Err(BadQuestion::Encoding));
    }

    #[test]
    fn a_list_is_written_as_its_version_has_it() {
        let two = asked("list-type=2&encoding-type=url&delimiter=/").xml("images", &listing());
        for part in [
            "<Name>images</Name><Prefix></Prefix><Delimiter>/</Delimiter>",
            "<NextContinuationToken>more</NextContinuationToken><KeyCount>2</KeyCount>",
            "<MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>",
            "<Key>a%20%26%20%C3%BC</Key><LastModified>1970-01-01T00:00:00.000Z</LastModified><ETag>&quot;1&quot;</ETag><Size>7</Size>",
            "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes></ListBucketResult>",
        ] {
            assert!(two.contains(part), "{part} in {two}");
        }
        let one = asked("delimiter=/&marker=0/").xml("images", &listing());
        assert!(one.contains("<Marker>0/</Marker><NextMarker>b/</NextMarker>"), "{one}");
        assert!(one.contains("<Key>a &amp; ü</Key>"), "{one}");
    }
}
