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
        let lists = try_join_all(parts.map(async |part| Ok((part, part.list(page).await?)))).await?;
        // What lies behind the end of a list that goes on is not known yet.
        let ends = lists.iter().filter(|(_, list)| list.next.is_some());
        let end = ends.filter_map(|(_, list)| list.last()).min();
        let mut names: Vec<(String, Option<Listed>)> = Vec::new();
        for (part, list) in lists {
            let is_own = |key: &str| {
                self.0
                    .iter()
                    .find(|part| key.starts_with(&part.prefix))
                    .is_some_and(|own| std::ptr::eq(own, part))
            };
            let objects = list.objects.into_iter().filter(|object| is_own(&object.key));
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
}

impl Part {
    fn may_have(&self, page: &Page) -> bool {
        let (own, wanted) = (&*self.prefix, &*page.prefix);
        own.starts_with(wanted) || wanted.starts_with(own)
    }

    /// Its part of a page. Where all of its keys are put together, one of them will do.
    async fn list(&self, page: &Page) -> Result<Listing, OpenError> {
        let is_one = page.common(&self.prefix).is_some();
        let begin = page.begin();
        let after = match &page.delimiter {
            // Behind all that is put together under it.
            Some(delimiter) if !delimiter.is_empty() && begin.ends_with(&**delimiter) => {
                format!("{begin}{}", char::MAX)
            }
            _ => begin.into(),
        };
        let own = Page {
            prefix: std::cmp::max_by_key(&page.prefix, &self.prefix, |prefix| prefix.len()).clone(),
            delimiter: page.delimiter.clone().filter(|_| !is_one),
            after: Some(after).filter(|after| !after.is_empty()),
            token: None,
            most: if is_one { 1 } else { page.most },
        };
        let mut list = self.origin.list(&own).await?;
        if is_one {
            list.next = None;
        }
        Ok(list)
    }
}

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
}
