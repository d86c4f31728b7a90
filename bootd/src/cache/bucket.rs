//! A bucket: one or several origins, each with the keys that begin with its prefix.
//!
//! The origin with the longest prefix has a key, and no other one is asked for it; keys without any are not served. A list is that of all of them, in
//! the order of keys, so nobody sees where a bucket is put together.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::OpenError;
use super::list::{Listed, Listing, Page};
use super::origin::Origin;

/// The origins, the longest prefix first.
#[derive(Default)]
pub(super) struct Bucket(Vec<Part>);

struct Part {
    prefix: String,
    origin: Arc<Origin>,
}

impl Bucket {
    /// Adds an origin for keys that begin so.
    pub(super) fn add(&mut self, prefix: &str, origin: Origin) {
        self.0.push(Part {
            prefix: prefix.into(),
            origin: Arc::new(origin),
        });
        self.0.sort_by_key(|part| std::cmp::Reverse(part.prefix.len()));
    }

    /// The origin of a key.
    pub(super) fn of(&self, key: &str) -> Result<&Arc<Origin>, OpenError> {
        let mut parts = self.0.iter();
        let part = parts.find(|part| key.starts_with(&part.prefix));
        part.map(|part| &part.origin).ok_or_else(|| {
            let prefixes: Vec<&str> = self.0.iter().map(|part| &*part.prefix).collect();
            OpenError::Denied(format!(
                "of this bucket only keys below {} are served",
                prefixes.join(", ")
            ))
        })
    }

    /// All of them.
    pub(super) fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.0.iter().map(|part| &*part.origin)
    }

    /// A page of the list.
    pub(super) async fn list(&self, page: &Page) -> Result<Listing, OpenError> {
        if let [part] = &self.0[..]
            && part.prefix.is_empty()
        {
            return part.origin.list(page).await;
        }
        let parts = self.0.iter().filter(|part| part.may_have(page));
        let lists = try_join_all(parts.map(async |part| Ok((part, self.part(part, page).await?)))).await?;
        // What lies behind the end of a list that goes on is not known yet.
        let ends = lists.iter().filter(|(_, list)| list.next.is_some());
        let end = ends.filter_map(|(_, list)| list.last()).min();
        let mut names: Vec<(String, Option<Listed>)> = Vec::new();
        for (part, list) in lists {
            let objects = list.objects.into_iter().filter(|object| self.is_own(part, &object.key));
            names.extend(objects.map(|object| (object.key.clone(), Some(object))));
            names.extend(list.prefixes.into_iter().map(|prefix| (prefix, None)));
        }
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut merged = Listing::default();
        for (name, object) in names {
            let is_known = end.as_ref().is_none_or(|end| name <= *end);
            if !is_known || merged.offer(page, &name, || object).is_break() {
                break;
            }
        }
        merged.next = merged.next.or(end);
        Ok(merged)
    }

    /// An origin's part of a page. Where all of its keys are put together, one of them will do, if it is its own.
    async fn part(&self, part: &Part, page: &Page) -> Result<Listing, OpenError> {
        let is_one = page.common(&part.prefix).is_some();
        let begin = page.begin();
        let after = match &page.delimiter {
            // Behind all that is put together under it.
            Some(delimiter) if !delimiter.is_empty() && begin.ends_with(&**delimiter) => behind(begin),
            _ => begin.into(),
        };
        let mut own = Page {
            prefix: std::cmp::max_by_key(&page.prefix, &part.prefix, |prefix| prefix.len()).clone(),
            delimiter: page.delimiter.clone().filter(|_| !is_one),
            after: Some(after).filter(|after| !after.is_empty()),
            token: None,
            most: if is_one { 1 } else { page.most },
        };
        // Each turn leaves out an empty page, or all that another origin has.
        for _ in 0..TURNS {
            let mut list = part.origin.list(&own).await?;
            let is_empty = list.objects.is_empty() && list.prefixes.is_empty();
            if is_empty && list.next.is_some() {
                own.token = list.next;
                continue;
            }
            if is_one {
                let first = list.objects.first().map(|object| &*object.key);
                let owner = first.and_then(|key| self.owner(key));
                if let Some(other) = owner.filter(|owner| !std::ptr::eq(*owner, part)) {
                    (own.after, own.token) = (Some(behind(&other.prefix)), None);
                    continue;
                }
                list.next = None;
            }
            return Ok(list);
        }
        Err(OpenError::Origin("its list goes on and has nothing in it".into()))
    }

    fn owner(&self, key: &str) -> Option<&Part> {
        self.0.iter().find(|part| key.starts_with(&part.prefix))
    }

    fn is_own(&self, part: &Part, key: &str) -> bool {
        self.owner(key).is_some_and(|own| std::ptr::eq(own, part))
    }
}

impl Part {
    fn may_have(&self, page: &Page) -> bool {
        let (own, wanted) = (&*self.prefix, &*page.prefix);
        own.starts_with(wanted) || wanted.starts_with(own)
    }
}

/// Where keys go on behind those that begin so.
fn behind(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}

/// Pages of one origin that are left out for a page at most.
const TURNS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::dir::Dir;

    fn bucket(dir: &std::path::Path, parts: &[(&str, &[&str])]) -> Bucket {
        let mut bucket = Bucket::default();
        for (number, (prefix, keys)) in parts.iter().enumerate() {
            let root = dir.join(number.to_string());
            for key in *keys {
                let file = root.join(key);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, prefix).unwrap();
            }
            bucket.add(prefix, Origin::Dir(Dir::new(&root)));
        }
        bucket
    }

    /// All pages of so many, in one line.
    async fn all(bucket: &Bucket, prefix: &str, delimiter: &str, most: usize) -> String {
        let mut page = Page {
            prefix: prefix.into(),
            delimiter: Some(delimiter.into()),
            most,
            ..Page::default()
        };
        let mut text = Vec::new();
        for _ in 0..100 {
            let listing = bucket.list(&page).await.unwrap();
            let objects = listing
                .objects
                .iter()
                .map(|object| format!("{}={}", object.key, object.len));
            let mut names: Vec<String> = objects.chain(listing.prefixes).collect();
            names.sort();
            assert!(names.len() <= most);
            text.extend(names);
            match listing.next {
                None => return text.join(" "),
                next => page.token = next,
            }
        }
        panic!("it does not end: {text:?}");
    }

    #[tokio::test]
    async fn the_origin_with_the_longest_prefix_has_a_key_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let bucket = bucket(dir.path(), &[("a/", &[]), ("a/b/", &[]), ("z", &[])]);
        let is = |key: &str, part: usize| std::ptr::eq(bucket.of(key).unwrap(), &bucket.0[part].origin);
        assert!(is("a/b/c", 0) && is("a/x", 1) && is("zebra", 2));
        let error = bucket.of("b").err().unwrap();
        assert_eq!(
            error.to_string(),
            "of this bucket only keys below a/b/, a/, z are served"
        );
    }

    #[tokio::test]
    async fn the_list_is_that_of_all_origins_in_the_order_of_keys_whatever_the_size_of_pages() {
        let dir = tempfile::tempdir().unwrap();
        // The second and the third one have keys that are not theirs, too.
        let parts: [(&str, &[&str]); 3] = [
            ("", &["a", "efi/hidden", "x/1", "y"]),
            ("efi/", &["efi/1", "efi/2", "efi/d/3", "other"]),
            ("x/", &["x/2", "x/3"]),
        ];
        let bucket = bucket(dir.path(), &parts);
        for most in 1..9 {
            assert_eq!(
                all(&bucket, "", "", most).await,
                "a=0 efi/1=4 efi/2=4 efi/d/3=4 x/2=2 x/3=2 y=0",
                "{most}"
            );
            assert_eq!(all(&bucket, "", "/", most).await, "a=0 efi/ x/ y=0", "{most}");
            assert_eq!(
                all(&bucket, "efi/", "/", most).await,
                "efi/1=4 efi/2=4 efi/d/",
                "{most}"
            );
            assert_eq!(all(&bucket, "ef", "/", most).await, "efi/", "{most}");
            assert_eq!(all(&bucket, "x/3", "", most).await, "x/3=2", "{most}");
        }
    }

    #[tokio::test]
    async fn a_common_prefix_is_listed_where_the_first_keys_below_it_are_of_another_origin() {
        let dir = tempfile::tempdir().unwrap();
        // What the first one has below x/a/ and x/b/ is not its own, and those whose it is have nothing.
        let parts: [(&str, &[&str]); 4] = [
            ("x/", &["x/a/hidden", "x/a/too", "x/b/hidden", "x/c"]),
            ("x/a/", &[]),
            ("x/b/", &[]),
            ("y/", &["y/1"]),
        ];
        for empty in ["1", "2"] {
            std::fs::create_dir_all(dir.path().join(empty)).unwrap();
        }
        let bucket = bucket(dir.path(), &parts);
        for most in 1..4 {
            assert_eq!(all(&bucket, "", "/", most).await, "x/ y/", "{most}");
            assert_eq!(all(&bucket, "", "", most).await, "x/c=2 y/1=2", "{most}");
        }
        // Where nothing below it is its own, there is none.
        std::fs::remove_file(dir.path().join("0/x/c")).unwrap();
        assert_eq!(all(&bucket, "", "/", 5).await, "y/");
    }

    #[tokio::test]
    async fn a_list_goes_on_behind_an_empty_page_of_one_of_its_origins() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap().into());
                }
                // Two pages without anything, as behind keys that were deleted, then the last one.
                let more = |token| {
                    format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>")
                };
                let inner = if head.contains("continuation-token=two") {
                    "<IsTruncated>false</IsTruncated><Contents><Key>s3/k</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>\
                     <ETag>\"1\"</ETag><Size>5</Size></Contents>"
                        .into()
                } else {
                    more(if head.contains("continuation-token=one") {
                        "two"
                    } else {
                        "one"
                    })
                };
                let xml = format!("<?xml version=\"1.0\"?><ListBucketResult><Name>b</Name>{inner}</ListBucketResult>");
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{xml}",
                    xml.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let mut bucket = bucket(dir.path(), &[("a/", &["a/1"]), ("z/", &["z/1"])]);
        let origin = crate::config::Origin {
            bucket: "b".into(),
            prefix: "s3/".into(),
            sidecar: None,
            source: crate::config::Source::S3 {
                endpoint,
                region: "us-east-1".into(),
                credentials: crate::config::Credentials::None,
            },
            prefixes: Vec::new(),
            rewrite: true,
        };
        bucket.add("s3/", Origin::new(&origin).unwrap());
        assert_eq!(all(&bucket, "", "", 10).await, "a/1=2 s3/k=5 z/1=2");
        assert_eq!(all(&bucket, "", "/", 10).await, "a/ s3/ z/");
    }
}
