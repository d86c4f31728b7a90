//! Where URLs in a script lead: past nothing that this box has.
//!
//! Pure. What names an origin leads where the host says. In front of a site, what names the site leads to this box, and so does the seed of
//! cloud-init, whatever its host: nodes must not be led past the rack because a name was forgotten. All else stays byte for byte.

use bootd_sdk::lead::{self, Name, ends_segment, origin};
use bootd_sdk::wire::{Rewrite, rewrite};

/// How URLs are led for one request.
pub(crate) struct Lead<'a> {
    /// This listener as the node reached it, without a slash at its end.
    pub(crate) base: &'a str,
    /// What the host leads.
    pub(crate) rewrites: &'a [Rewrite],
    /// What names the site. `None`: there is none, or the operator wants its URLs as they are.
    pub(crate) site: Option<&'a [Name]>,
}

impl Lead<'_> {
    /// The text with its URLs led. URLs begin where [`rewrite`] finds them.
    pub(crate) fn led(&self, text: &str) -> String {
        let Some(site) = self.site else {
            return rewrite(text, self.rewrites);
        };
        lead::led(text, |word, rest| self.begin(site, word, rest))
    }

    /// How many bytes of this text are led where. `word`: what is before it in its word.
    fn begin(&self, site: &[Name], word: &str, text: &str) -> Option<(usize, String)> {
        let named = site.iter().filter_map(|name| name.begins(text)).max();
        let origin = self
            .rewrites
            .iter()
            .filter(|r| !r.from.is_empty() && text.starts_with(r.from.as_str()))
            .max_by_key(|r| r.from.len());
        if let Some(origin) = origin.filter(|r| named.is_none_or(|named| named <= r.from.len())) {
            return Some((origin.from.len(), origin.to.clone()));
        }
        if let Some(bytes) = is_seed(word).then(|| seed(text)).flatten() {
            return Some((bytes, format!("{}/cloud-init", self.base)));
        }
        named.map(|bytes| (bytes, self.base.to_owned()))
    }
}

/// Whether a URL behind this is where cloud-init's NoCloud looks: `ds=nocloud-net;s=`.
fn is_seed(word: &str) -> bool {
    let is_quote = |c: char| matches!(c, '"' | '\'');
    let source = word.trim_start_matches(is_quote).strip_prefix("ds=");
    source.is_some_and(|source| source.trim_start_matches(is_quote).starts_with("nocloud"))
        && [";s=", ";seedfrom="].iter().any(|key| word.ends_with(key))
}

/// How many bytes of a seed's URL `/cloud-init` of this box takes the place of; `None`: it is no cloud-init of OpenCHAMI's.
fn seed(url: &str) -> Option<usize> {
    let host = origin(url)?;
    for path in SEEDS {
        if url[host..].strip_prefix(path).is_some_and(ends_segment) {
            return Some(host + path.len());
        }
    }
    url[..host].ends_with(SEED_PORT).then_some(host)
}

/// Where OpenCHAMI's gateways have what serves cloud-init's documents: of both generations.
const SEEDS: [&str; 2] = ["/cloud-init", "/metadata-service"];
/// Where the service itself is, without a prefix.
const SEED_PORT: &str = ":27777";

#[cfg(test)]
mod tests {
    use super::*;

    const BOX: &str = "http://10.1.0.1:8081";

    fn led(text: &str) -> String {
        let rewrites = [Rewrite {
            from: "http://172.16.0.254:9000/".into(),
            to: "http://10.1.0.1:9000/".into(),
        }];
        let names = Name::all([
            "https://demo.openchami.cluster:8443",
            "http://172.16.0.254:8081/",
            "http://gw/site-a/",
        ]);
        Lead {
            base: BOX,
            rewrites: &rewrites,
            site: Some(&names),
        }
        .led(text)
    }

    #[test]
    fn what_names_the_site_or_an_origin_leads_here_and_the_rest_stays() {
        for (text, expected) in [
            ("http://172.16.0.254:8081/x?y#z", "http://10.1.0.1:8081/x?y#z"),
            ("http://172.16.0.254:8081", "http://10.1.0.1:8081"),
            ("HTTPS://Demo.OpenCHAMI.cluster:8443/A/b", "http://10.1.0.1:8081/A/b"),
            ("http://172.16.0.254:80812/x", "http://172.16.0.254:80812/x"),
            ("https://172.16.0.254:8081/x", "https://172.16.0.254:8081/x"),
            ("http://172.16.0.254:9000/b/k", "http://10.1.0.1:9000/b/k"),
            ("http://gw/site-a/k", "http://10.1.0.1:8081/k"),
            ("http://gw:80/site-a/k", "http://10.1.0.1:8081/k"),
            ("http://gw/site-ab/k", "http://gw/site-ab/k"),
            ("http://gw/Site-a/k", "http://gw/Site-a/k"),
            (
                "ro  root=live:http://172.16.0.254:9000/i a=\"http://gw/site-a\" \tb=http://else/http://gw/site-a/ ü",
                "ro  root=live:http://10.1.0.1:9000/i a=\"http://10.1.0.1:8081\" \tb=http://else/http://gw/site-a/ ü",
            ),
            (
                "a=http://gw/site-a,http://gw/site-a/b",
                "a=http://10.1.0.1:8081,http://10.1.0.1:8081/b",
            ),
        ] {
            assert_eq!(led(text), expected, "{text}");
        }
    }

    #[test]
    fn the_seed_of_cloud_init_leads_here_whatever_its_host() {
        for (text, expected) in [
            (
                "ds=nocloud-net;s=http://forgotten:8081/cloud-init",
                "ds=nocloud-net;s=http://10.1.0.1:8081/cloud-init",
            ),
            (
                "ro ds=nocloud;s=https://x/cloud-init/ a",
                "ro ds=nocloud;s=http://10.1.0.1:8081/cloud-init/ a",
            ),
            (
                "ds=nocloud;i=a;s=http://x/cloud-init/b/?c",
                "ds=nocloud;i=a;s=http://10.1.0.1:8081/cloud-init/b/?c",
            ),
            (
                "ds=nocloud;s=http://x:27777/",
                "ds=nocloud;s=http://10.1.0.1:8081/cloud-init/",
            ),
            (
                "ds=nocloud;s=http://x:27777",
                "ds=nocloud;s=http://10.1.0.1:8081/cloud-init",
            ),
            (
                "ds=nocloud;s=http://x:27777/cloud-init/",
                "ds=nocloud;s=http://10.1.0.1:8081/cloud-init/",
            ),
            (
                "ds=nocloud;seedfrom=http://[fd00::1]:27777/a/",
                "ds=nocloud;seedfrom=http://10.1.0.1:8081/cloud-init/a/",
            ),
            (
                "ds=nocloud;s=http://gw/metadata-service/",
                "ds=nocloud;s=http://10.1.0.1:8081/cloud-init/",
            ),
            (
                "\"ds=nocloud;s=http://x/cloud-init\"",
                "\"ds=nocloud;s=http://10.1.0.1:8081/cloud-init\"",
            ),
            (
                "ds=nocloud;s=http://${next-server}:8081/cloud-init/",
                "ds=nocloud;s=http://10.1.0.1:8081/cloud-init/",
            ),
            // By its name, which is no cloud-init.
            (
                "ds=nocloud;s=http://172.16.0.254:8081/ci/",
                "ds=nocloud;s=http://10.1.0.1:8081/ci/",
            ),
            // An origin's bucket.
            (
                "ds=nocloud;s=http://172.16.0.254:9000/cloud-init/",
                "ds=nocloud;s=http://10.1.0.1:9000/cloud-init/",
            ),
        ] {
            assert_eq!(led(text), expected, "{text}");
        }
        for text in [
            "ds=nocloud;s=http://x/cloud-initx/",
            "ds=nocloud;s=http://x/a/cloud-init/",
            "ds=nocloud;s=http://x:277770/",
            "ds=nocloud;s=ftp://x/cloud-init/",
            "ds=nocloud;s=/cloud-init/",
            "ds=nocloud;h=http://x/cloud-init/",
            "ds=openstack;s=http://x/cloud-init/",
            "xds=nocloud;s=http://x/cloud-init/",
            "s=http://x/cloud-init/ ds=nocloud s=http://x/cloud-init/",
            "ds=nocloud;s=http:///cloud-init/",
            "http://x:27777/ root=http://x/cloud-init/",
        ] {
            assert_eq!(led(text), text);
        }
    }

    #[test]
    fn without_a_site_only_origins_are_led() {
        let rewrites = [Rewrite {
            from: "s3://".into(),
            to: "http://b/".into(),
        }];
        let lead = Lead {
            base: BOX,
            rewrites: &rewrites,
            site: None,
        };
        assert_eq!(
            lead.led("s3://a/k ds=nocloud;s=http://x/cloud-init"),
            "http://b/a/k ds=nocloud;s=http://x/cloud-init"
        );
    }
}
