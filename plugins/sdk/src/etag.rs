//! Entity tags of what a plugin lists (RFC 9110, 8.8.3): who has a list already is told so, without the list.
//!
//! Pure, but for the number that tells one instance of a plugin from the next.

use std::hash::{BuildHasher, RandomState};

use crate::wire::{Answer, Request};

/// Makes the tags of an instance: no two instances make the same ones.
#[derive(Debug, Clone, Copy)]
pub struct Tags {
    instance: u64,
}

impl Default for Tags {
    fn default() -> Self {
        Self {
            instance: RandomState::new().hash_one(0),
        }
    }
}

impl Tags {
    /// The tag of what is listed at a revision: a number that changes with the data.
    pub fn tag(&self, revision: u64) -> String {
        format!("\"{:016x}-{revision}\"", self.instance)
    }
}

/// The answer with its tag; or 304, when the client has what the tag stands for. `make` is not asked then. Only answers with status 200
/// get the tag.
pub fn answer(request: &Request, tag: &str, make: impl FnOnce() -> Answer) -> Answer {
    let tagged = |mut answer: Answer| {
        answer.headers.push(("etag".into(), tag.to_owned()));
        answer
    };
    let known = request.headers.iter().filter(|(name, _)| name == "if-none-match");
    // Weak comparison (RFC 9110, 13.1.2).
    let mut known = known.flat_map(|(_, value)| value.split(',').map(str::trim));
    if known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag) {
        return tagged(Answer {
            status: 304,
            ..Answer::default()
        });
    }
    match make() {
        answer if answer.status == 200 => tagged(answer),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(known: &[&str]) -> Request {
        let headers = known
            .iter()
            .map(|known| ("if-none-match".to_owned(), (*known).to_owned()));
        Request {
            headers: headers.collect(),
            ..Request::default()
        }
    }

    #[test]
    fn who_has_it_already_gets_304_and_nothing_is_made() {
        let (one, other) = (Tags::default(), Tags::default());
        let (tag, list) = (one.tag(7), || Answer::text(200, "list"));
        let fresh = answer(&request(&[]), &tag, list);
        assert_eq!(
            (fresh.status, fresh.headers.last().unwrap().1.clone()),
            (200, tag.clone())
        );
        for known in [&tag[..], "*", &format!("\"a\", W/{tag}")] {
            let same = answer(&request(&[known]), &tag, || panic!("it was asked for"));
            assert_eq!((same.status, same.body.as_str()), (304, ""), "{known}");
        }
        for known in [&one.tag(8)[..], &other.tag(7), "", "nonsense"] {
            assert_eq!(answer(&request(&[known]), &tag, list).status, 200, "{known}");
        }
        assert!(
            answer(&request(&[]), &tag, || Answer::text(404, ""))
                .headers
                .iter()
                .all(|(name, _)| name != "etag")
        );
    }
}
