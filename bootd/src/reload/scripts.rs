//! Whose boot script would be another one, for a dry run: where URLs of boot parameters are led otherwise.
//!
//! Asks the plugins that serve, once by the rules of each configuration; nothing of that is kept. What a plugin with other settings would say is not
//! known before it runs.

use crate::config::Config;
use crate::dhcp::answer_diff::Differences;
use crate::explain;
use crate::http::{App, url_host};

/// Adds the boot scripts that differ.
pub(super) async fn compare(app: &App, new: &Config, differences: &mut Differences) {
    let host = |config: &Config| url_host(config.own_address().into());
    let rewrites = |config: &Config| config.rewrites(&host(config));
    if rewrites(&app.config) == rewrites(new) && app.config.boot_url() == new.boot_url() {
        return;
    }
    let (old, new) = (
        explain::scripts(app, &app.config).await,
        explain::scripts(app, new).await,
    );
    for ((xname, mac, old), (_, _, new)) in old.into_iter().zip(new) {
        differences.lines(&xname, mac, "boot script", &old, &new);
    }
    differences.sort();
}
