//! Loaders over HTTP, for UEFI HTTP Boot: the same table that TFTP serves, at `/loaders/<file>`. All of it is in memory; nothing waits.

use hyper::header::{ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Response, StatusCode};

use super::range::{self, Condition, Slice, Version};
use super::{Body, full};
use crate::tftp::{Files, Refused};

/// Answers for the file of this name: what follows `/loaders/` in the path, percent-decoded by the caller.
pub fn respond(files: &Files, method: &Method, headers: &HeaderMap, name: &str) -> Response<Body> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "loaders are read with GET and HEAD\n");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let file = match files.find(name) {
        Ok(file) => file,
        Err(Refused::Unknown | Refused::Empty) => return text(StatusCode::NOT_FOUND, "there is no such loader\n"),
        Err(refused) => return text(StatusCode::BAD_REQUEST, &format!("{refused}\n")),
    };

    let len = file.bytes.len() as u64;
    let version = Version {
        etag: Some(&file.etag),
        modified: None,
    };
    let mut response = match range::condition(headers, version) {
        Condition::Failed => return text(StatusCode::PRECONDITION_FAILED, "it is another version\n"),
        Condition::NotModified => status(StatusCode::NOT_MODIFIED, full("")),
        Condition::Met => {
            let asked = if method == Method::GET && range::range_stands(headers, version) {
                range::slice(headers, len)
            } else {
                Slice::Whole
            };
            let (code, bytes, content_range) = match asked {
                Slice::Whole => (StatusCode::OK, file.bytes.clone(), None),
                Slice::Part(part) => {
                    let content_range = format!("bytes {}-{}/{len}", part.start, part.end - 1);
                    // Within a slice that is in memory, so within usize.
                    let bytes = file.bytes.slice(part.start as usize..part.end as usize);
                    (StatusCode::PARTIAL_CONTENT, bytes, Some(content_range))
                }
                Slice::Unsatisfiable => {
                    let mut response = text(StatusCode::RANGE_NOT_SATISFIABLE, "there are no such bytes\n");
                    set(&mut response, CONTENT_RANGE, &format!("bytes */{len}"));
                    return response;
                }
            };
            let length = bytes.len();
            let mut response = status(code, if method == Method::HEAD { full("") } else { full(bytes) });
            set(&mut response, CONTENT_LENGTH, &length.to_string());
            set(&mut response, CONTENT_TYPE, content_type(name));
            if let Some(content_range) = content_range {
                set(&mut response, CONTENT_RANGE, &content_range);
            }
            response
        }
    };
    set(&mut response, ETAG, &file.etag);
    set(&mut response, ACCEPT_RANGES, "bytes");
    response
}

/// UEFI firmwares look at it: `application/efi` is a program to start.
fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    if extension.eq_ignore_ascii_case("efi") {
        "application/efi"
    } else {
        "application/octet-stream"
    }
}

fn text(code: StatusCode, text: &str) -> Response<Body> {
    let mut response = status(code, full(text.to_owned()));
    set(&mut response, CONTENT_TYPE, "text/plain; charset=utf-8");
    response
}

fn status(code: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    // All values here are made of ASCII that a header takes.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn ask(method: Method, name: &str, pairs: &[(&'static str, &str)]) -> (u16, HeaderMap, Vec<u8>) {
        let files = Files::of([("ipxe.efi", "0123456789"), ("undionly.kpxe", "pxe")]);
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        let (parts, body) = respond(&files, &method, &headers, name).into_parts();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(body.collect()).unwrap().to_bytes().to_vec();
        (parts.status.as_u16(), parts.headers, body)
    }

    #[test]
    fn a_loader_is_served_whole_and_in_parts() {
        let (status, headers, body) = ask(Method::GET, "ipxe.efi", &[]);
        assert_eq!((status, &body[..]), (200, &b"0123456789"[..]));
        assert_eq!(headers[CONTENT_TYPE], "application/efi");
        assert_eq!(headers[CONTENT_LENGTH], "10");
        let etag = headers[ETAG].to_str().unwrap().to_owned();

        let (status, headers, body) = ask(Method::HEAD, "\\ipxe.efi", &[("range", "bytes=1-2")]);
        assert_eq!((status, &body[..]), (200, &b""[..]));
        assert_eq!(headers[CONTENT_LENGTH], "10");

        let (status, headers, body) = ask(Method::GET, "ipxe.efi", &[("range", "bytes=-3"), ("if-range", &etag)]);
        assert_eq!((status, &body[..]), (206, &b"789"[..]));
        assert_eq!(headers[CONTENT_RANGE], "bytes 7-9/10");
        assert_eq!(headers[CONTENT_LENGTH], "3");

        let (status, headers, _) = ask(Method::GET, "ipxe.efi", &[("range", "bytes=10-")]);
        assert_eq!(status, 416);
        assert_eq!(headers[CONTENT_RANGE], "bytes */10");

        let (status, _, body) = ask(Method::GET, "ipxe.efi", &[("if-none-match", &etag)]);
        assert_eq!((status, &body[..]), (304, &b""[..]));
        assert_eq!(ask(Method::GET, "ipxe.efi", &[("if-match", "\"x\"")]).0, 412);
        assert_eq!(
            ask(Method::GET, "undionly.kpxe", &[]).1[CONTENT_TYPE],
            "application/octet-stream"
        );
    }

    #[test]
    fn what_is_no_loader_is_refused() {
        assert_eq!(ask(Method::GET, "unknown.efi", &[]).0, 404);
        assert_eq!(ask(Method::GET, "", &[]).0, 404);
        assert_eq!(ask(Method::GET, "../ipxe.efi", &[]).0, 400);
        assert_eq!(ask(Method::GET, "ipxe.efi\0", &[]).0, 400);
        let (status, headers, _) = ask(Method::PUT, "ipxe.efi", &[]);
        assert_eq!((status, &headers[ALLOW]), (405, &HeaderValue::from_static("GET, HEAD")));
    }
}
