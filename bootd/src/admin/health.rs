//! `/livez` and `/readyz`, for whoever watches bootd or sends nodes to it: 200, or 503 with the reasons, a line each. Open to all.
//!
//! Alive is a process that a restart would not mend: its threads go on, as the watchdog sees them. Ready is one that does what it is for: packets
//! are answered, the plugins are in service, the state file can be written. Whether the files of all boots are here is another question:
//! `/bootd/v1/ready`.

use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::Admin;
use crate::http::{Body, full};
use crate::metrics::Metrics;

/// Whether this process goes on.
pub(crate) fn live(metrics: &Metrics) -> Response<Body> {
    answer(standing_still(metrics))
}

/// Whether this bootd does what it is for. `None`: it is starting.
pub(crate) fn ready(metrics: &Metrics, admin: Option<&Admin>) -> Response<Body> {
    let mut reasons = standing_still(metrics);
    match admin {
        Some(admin) => reasons.extend(troubles(admin)),
        None => reasons.push("bootd is starting".into()),
    }
    answer(reasons)
}

fn standing_still(metrics: &Metrics) -> Vec<String> {
    let still = metrics.pulses().still();
    still.into_iter().map(|name| format!("{name} stands still")).collect()
}

fn troubles(admin: &Admin) -> Vec<String> {
    let mut reasons = Vec::new();
    if admin.served.lines().is_empty() {
        reasons.push("dhcp is on no interface".into());
        reasons.extend(admin.interfaces.load().iter().cloned());
    }
    for (name, error) in admin.app().plugins.out_of_service() {
        reasons.push(match error {
            Some(error) => format!("plugin {name} is out of service: {error}"),
            None => format!("plugin {name} is out of service"),
        });
    }
    reasons.extend(
        admin
            .store
            .trouble()
            .map(|trouble| format!("the state file cannot be written: {trouble}")),
    );
    reasons
}

fn answer(reasons: Vec<String>) -> Response<Body> {
    let (status, text) = match reasons.as_slice() {
        [] => (StatusCode::OK, "ok\n".to_owned()),
        reasons => (
            StatusCode::SERVICE_UNAVAILABLE,
            // A reason is a line, whatever a plugin says.
            reasons.iter().map(|reason| reason.replace('\n', " ") + "\n").collect(),
        ),
    };
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stands_still_is_named_and_a_process_that_starts_is_alive_and_not_ready() {
        let metrics = Metrics::default();
        assert_eq!(live(&metrics).status(), StatusCode::OK);
        assert_eq!(ready(&metrics, None).status(), StatusCode::SERVICE_UNAVAILABLE);
        let pulse = metrics.pulses().begin("tftp");
        metrics.pulses().look();
        metrics.pulses().look();
        assert_eq!(standing_still(&metrics), ["tftp stands still"]);
        assert_eq!(live(&metrics).status(), StatusCode::SERVICE_UNAVAILABLE);
        pulse.beat();
        metrics.pulses().look();
        assert_eq!(live(&metrics).status(), StatusCode::OK);
    }
}
