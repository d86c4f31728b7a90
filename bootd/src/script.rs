//! What a boot script names: the one place where URLs are found in its text.
//!
//! Knows nothing of plugins and of what is kept. A URL ends where a word, a quote or a list element does, wherever in the line it stands: a root
//! image is named inside the kernel's arguments. Callers are the listener that holds scripts back, the warmer, and `bootd explain`.

use bootd_sdk::wire::Rewrite;

/// The URLs that lead to this box's buckets, as they stand there, each once. `rewrites`: to what the URLs of buckets are made.
pub(crate) fn own_urls<'s>(script: &'s str, rewrites: &[Rewrite]) -> Vec<&'s str> {
    let mut urls: Vec<&str> = Vec::new();
    for rewrite in rewrites.iter().filter(|rewrite| !rewrite.to.is_empty()) {
        for (at, _) in script.match_indices(&rewrite.to) {
            let url = script.get(at..).and_then(|rest| rest.split(ends).next());
            if let Some(url) = url.filter(|url| !urls.contains(url)) {
                urls.push(url);
            }
        }
    }
    urls
}

/// The same as paths of the artifacts listener, `/<bucket>/<key>`, in order.
pub(crate) fn own_paths<'s>(script: &'s str, rewrites: &[Rewrite]) -> Vec<&'s str> {
    let urls = own_urls(script, rewrites);
    let mut paths: Vec<&str> = urls.into_iter().filter_map(path_of).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// The URLs of kernel, initramfs and root image, wherever they lead.
pub(crate) fn file_urls(script: &str) -> impl Iterator<Item = &str> {
    script.lines().flat_map(|line| {
        let mut words = line.split_whitespace();
        let fetched = match words.next() {
            Some("kernel" | "initrd") => words.clone().find(|word| word.contains("://")),
            _ => None,
        };
        let root = words.find_map(|word| word.strip_prefix("root=live:"));
        fetched.into_iter().chain(root).filter(|url| url.contains("://"))
    })
}

/// The path of a URL, without its query.
pub(crate) fn path_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.find('/').and_then(|at| rest.get(at..)?.split(['?', '#']).next())
}

fn ends(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | ',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_initramfs_and_root_image_are_found_and_other_urls_are_not() {
        let script = "#!ipxe\nkernel --name kernel http://a/k initrd=initrd ro root=live:s3://b/r ds=nocloud-net;s=http://c/ || goto retry\n\
                      initrd --name initrd http://a/i || goto retry\nchain http://c/boot/v1/bootscript?mac=x\n";
        assert_eq!(
            file_urls(script).collect::<Vec<_>>(),
            ["http://a/k", "s3://b/r", "http://a/i"]
        );
    }

    #[test]
    fn what_leads_to_a_bucket_is_found_wherever_it_stands_and_once() {
        let rewrite = |bucket| Rewrite {
            from: format!("s3://{bucket}/"),
            to: format!("http://10.0.0.1:9000/{bucket}/"),
        };
        let rewrites = [rewrite("images"), rewrite("roots")];
        let script = "#!ipxe\nkernel http://10.0.0.1:9000/images/k?X-Amz-Date=1 root=live:http://10.0.0.1:9000/roots/r \
                      overlays=http://10.0.0.1:9000/roots/o1,http://10.0.0.1:9000/roots/o2 ds=nocloud;s=http://10.0.0.1:8081/\n\
                      initrd \"http://10.0.0.1:9000/images/i\"\nimgfetch http://10.0.0.1:9000/images/k\nchain http://elsewhere/images/k\n";
        assert_eq!(
            own_paths(script, &rewrites),
            ["/images/i", "/images/k", "/roots/o1", "/roots/o2", "/roots/r"]
        );
        assert_eq!(own_urls(script, &rewrites).len(), 6, "a query makes another URL");
        assert_eq!(own_paths("#!ipxe\nshell\n", &rewrites), [""; 0]);
    }
}
