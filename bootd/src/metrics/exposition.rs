//! How the numbers are written for who asks: Prometheus' text format 0.0.4, or OpenMetrics 1.0 for who says that it knows that.
//!
//! The library writes OpenMetrics. The older text differs in two things: a counter's family has the name of its samples, with `_total`, and there
//! is no mark at the end.

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`, which everything that scrapes reads.
    Plain,
    /// `application/openmetrics-text`.
    OpenMetrics,
}

impl Format {
    /// The one for this `Accept`. Prometheus names OpenMetrics first when it knows it.
    pub fn accepted(accept: &str) -> Self {
        match accept.contains("application/openmetrics-text") {
            true => Self::OpenMetrics,
            false => Self::Plain,
        }
    }

    /// `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// OpenMetrics text, without the mark at its end, in this format.
    pub fn written(self, mut text: String) -> String {
        match self {
            Self::Plain => plain(&text),
            Self::OpenMetrics => {
                text.push_str("# EOF\n");
                text
            }
        }
    }
}

fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1024);
    let mut help = None;
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            // It has the name that the type decides about, in the next line.
            help = said.split_once(' ');
            continue;
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|said| said.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                out.extend(["# HELP ", name, suffix, " ", help, "\n"]);
            }
            out.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
            continue;
        }
        if line != "# EOF" && !line.starts_with("# UNIT ") {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_has_its_samples_name_in_plain_text_and_there_is_no_mark_at_the_end() {
        let text = "# HELP a Some.\n# TYPE a counter\na_total{x=\"y z\"} 1\n# HELP b More.\n# TYPE b gauge\nb 2\n";
        assert_eq!(
            Format::Plain.written(text.into()),
            "# HELP a_total Some.\n# TYPE a_total counter\na_total{x=\"y z\"} 1\n# HELP b More.\n# TYPE b gauge\nb 2\n"
        );
        assert_eq!(Format::OpenMetrics.written(text.into()), format!("{text}# EOF\n"));
    }

    #[test]
    fn open_metrics_is_for_who_asks_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        for other in ["", "*/*", "text/plain;version=0.0.4"] {
            assert_eq!(Format::accepted(other), Format::Plain);
        }
    }
}
