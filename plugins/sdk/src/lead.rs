//! URLs that name a site, found in a text and led elsewhere: in boot scripts, and in the documents of groups.
//!
//! Pure. Scheme, host and port are compared without case, and a port that goes without saying may be said; a path is compared as it is. A
//! name ends where a segment of a path does: `http://site:8081` is none of `http://site:80812`. All else stays byte for byte.

/// A URL that all URLs of a site's service begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Scheme, host and port; compared without case.
    origin: String,
    /// What follows, without a slash at its end.
    path: String,
}

impl Name {
    /// The names of these URLs; one whose port goes without saying has two.
    pub fn all<'u>(urls: impl IntoIterator<Item = &'u str>) -> Vec<Self> {
        let mut names = Vec::new();
        for url in urls {
            let (origin, path) = url.split_at(origin(url).unwrap_or(url.len()));
            let name = |origin: &str| Self {
                origin: origin.into(),
                path: path.trim_end_matches('/').into(),
            };
            names.push(name(origin));
            for (scheme, port) in [("http://", ":80"), ("https://", ":443")] {
                let Some(host) = without_case(origin, scheme) else {
                    continue;
                };
                if let Some(short) = origin.strip_suffix(port) {
                    names.push(name(short));
                } else if !host.rsplit(']').next().is_some_and(|host| host.contains(':')) {
                    names.push(name(&format!("{origin}{port}")));
                }
            }
        }
        names
    }

    /// How many bytes of this text are the name, when it begins with it.
    pub fn begins(&self, text: &str) -> Option<usize> {
        let rest = without_case(text, &self.origin)?.strip_prefix(self.path.as_str())?;
        ends_segment(rest).then(|| text.len() - rest.len())
    }
}

/// The text, with what `lead` says in place of what it says. It is asked wherever a URL may begin (as [`rewrite`](crate::wire::rewrite) has it),
/// with what is before that place in its word and with the rest of the text, and answers how many bytes are led where.
pub fn led(text: &str, mut lead: impl FnMut(&str, &str) -> Option<(usize, String)>) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let (mut rest, mut before, mut word) = (text, ' ', text);
    while let Some(c) = rest.chars().next() {
        if before.is_whitespace() {
            word = rest;
        }
        let may_begin = before.is_whitespace() || matches!(before, '=' | ':' | ';' | ',' | '"' | '\'');
        let so_far = &word[..word.len() - rest.len()];
        if let Some((bytes, to)) = may_begin.then(|| lead(so_far, rest)).flatten() {
            out.push_str(&to);
            rest = &rest[bytes..];
            before = '/';
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            before = c;
        }
    }
    out
}

/// How many bytes of a URL are scheme, host and port; `None`: it is none of `http` and `https`.
pub fn origin(url: &str) -> Option<usize> {
    let rest = without_case(url, "http://").or_else(|| without_case(url, "https://"))?;
    let host = rest.find(|c: char| is_end(c)).unwrap_or(rest.len());
    (host > 0).then(|| url.len() - rest.len() + host)
}

fn without_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Whether a host, or a segment of a path, ends before this.
pub fn ends_segment(rest: &str) -> bool {
    rest.chars().next().is_none_or(is_end)
}

/// What no host and no segment of a path goes on with.
fn is_end(c: char) -> bool {
    c.is_whitespace() || matches!(c, '/' | '?' | '#' | ',' | ';' | '"' | '\'')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led_to_here(names: &[Name], text: &str) -> String {
        led(text, |_, rest| {
            let bytes = names.iter().filter_map(|name| name.begins(rest)).max();
            bytes.map(|bytes| (bytes, "http://here".into()))
        })
    }

    #[test]
    fn a_name_is_found_in_any_case_and_ends_where_a_segment_does() {
        let names = Name::all(["https://Demo.cluster:8443", "http://172.16.0.254:8081/cloud-init/"]);
        for (text, expected) in [
            ("HTTPS://demo.CLUSTER:8443/A", "http://here/A"),
            ("https://demo.cluster:84430/A", "https://demo.cluster:84430/A"),
            ("http://172.16.0.254:8081/cloud-init", "http://here"),
            (
                "- {url: \"http://172.16.0.254:8081/cloud-init/a\"} ü",
                "- {url: \"http://here/a\"} ü",
            ),
            (
                "http://172.16.0.254:8081/cloud-initx",
                "http://172.16.0.254:8081/cloud-initx",
            ),
            (
                "http://172.16.0.254:8081/Cloud-init",
                "http://172.16.0.254:8081/Cloud-init",
            ),
            ("xhttps://demo.cluster:8443/", "xhttps://demo.cluster:8443/"),
        ] {
            assert_eq!(led_to_here(&names, text), expected, "{text}");
        }
    }

    #[test]
    fn who_leads_sees_the_word_so_far() {
        let mut seen = Vec::new();
        led("a ds=x;s=http://b/ c", |word, rest| {
            seen.push((word.to_owned(), rest.len()));
            None
        });
        let words: Vec<&str> = seen.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(words, ["", "", "ds=", "ds=x;", "ds=x;s=", "ds=x;s=http:", ""]);
    }

    #[test]
    fn a_port_that_goes_without_saying_may_be_said() {
        for (url, text) in [
            ("http://site", "http://site:80/a"),
            ("http://site:80/", "http://site/a"),
            ("https://site", "https://site:443/a"),
            ("https://site:443", "https://site/a"),
            ("http://[fd00::1]/", "http://[fd00::1]:80/a"),
            ("http://[fd00::1]:80", "http://[fd00::1]/a"),
        ] {
            let names = Name::all([url]);
            assert_eq!(led_to_here(&names, text), "http://here/a", "{url}");
            assert_eq!(led_to_here(&names, "http://site:81/a"), "http://site:81/a");
        }
    }
}
