//! The plugin's side of the border: turns C calls into calls of a [`Plugin`], and stops panics.
//!
//! Promises: no panic leaves; an instance that panicked answers `PANICKED` from then on; what `init` made is freed once by `free`. A
//! configuration that cannot be read is `BAD_ARGUMENT`, before the plugin sees it.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use bootd_abi as abi;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::host::Host;
use crate::text::{empty, given, lent};
use crate::{Plugin, Start, wire};

/// A plugin's table. Made by [`export_plugin!`](crate::export_plugin).
pub struct Table(abi::Plugin);

impl Table {
    /// The ABI's entry function. Has no side effects.
    pub fn entry(&'static self, host: *const c_void) -> *const c_void {
        let host = host.cast::<abi::Host>();
        // SAFETY: a host passes its table; the fields up to `size` are in every version.
        let fits = !host.is_null() && unsafe { (*host).magic == abi::MAGIC && (*host).major == abi::MAJOR };
        if fits {
            (&raw const self.0).cast()
        } else {
            std::ptr::null()
        }
    }

    /// The table itself, for a host in the same process (tests).
    pub fn plugin(&'static self) -> &'static abi::Plugin {
        &self.0
    }
}

/// The table of a [`Plugin`].
pub const fn table<P: Plugin>(version: &'static str) -> Table {
    Table(abi::Plugin {
        magic: abi::MAGIC,
        major: abi::MAJOR,
        minor: abi::MINOR,
        size: std::mem::size_of::<abi::Plugin>(),
        name: abi::Str {
            ptr: P::NAME.as_ptr(),
            len: P::NAME.len(),
        },
        version: abi::Str {
            ptr: version.as_ptr(),
            len: version.len(),
        },
        init: Some(init::<P>),
        run: Some(run::<P>),
        handle: Some(handle::<P>),
        resolve: Some(resolve::<P>),
        free: Some(free::<P>),
    })
}

struct Instance<P> {
    plugin: P,
    panicked: AtomicBool,
}

unsafe extern "C" fn init<P: Plugin>(
    host: *const abi::Host,
    config: abi::Str,
    instance: *mut *mut c_void,
    out: *mut abi::Buf,
) -> abi::Status {
    let made = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the host lends its table for the process's life, and the text for this call.
        let (host, config) = unsafe { (Host::new(host), lent(config)) };
        forward_tracing(host);
        let bad = |text| (abi::status::BAD_ARGUMENT, text);
        let (config, settings) = configuration::<P>(config).map_err(bad)?;
        let failed = |error: crate::Error| (abi::status::FAILED, error.to_string());
        let mut setup = wire::Setup::default();
        let plugin = P::init(
            Start {
                settings,
                mode: config.mode,
                folder: config.folder.into(),
                server: config.server,
                host,
            },
            &mut setup,
        )
        .map_err(failed)?;
        let setup = serde_json::to_string(&setup).map_err(|error| failed(error.into()))?;
        Ok::<_, (abi::Status, String)>((
            Box::new(Instance {
                plugin,
                panicked: AtomicBool::new(false),
            }),
            setup,
        ))
    }));
    let (status, text) = match made {
        Ok(Ok((made, setup))) => {
            // SAFETY: the host passes a place for the instance.
            unsafe { *instance = Box::into_raw(made).cast() };
            (abi::status::OK, setup)
        }
        Ok(Err(refused)) => refused,
        Err(panic) => (abi::status::PANICKED, panic_text(&*panic)),
    };
    // SAFETY: the host passes a place for a buffer.
    unsafe { *out = given(text) };
    status
}

/// The configuration and the plugin's own settings, or what is wrong with them.
fn configuration<P: Plugin>(text: Option<&str>) -> Result<(wire::Configuration, P::Settings), String> {
    let text = text.ok_or("the configuration is not UTF-8")?;
    let config: wire::Configuration = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mode = if config.mode.is_empty() { "local" } else { &config.mode };
    if !P::MODES.contains(&mode) {
        let modes = P::MODES.join("\" or \"");
        return Err(format!(
            "mode = \"{mode}\" is not available in this version; use \"{modes}\""
        ));
    }
    let by_mode = P::SETTINGS_BY_MODE.then_some(mode);
    let settings = settings(config.config.clone(), by_mode).map_err(|wrong| {
        // One word was forgotten, and each key would be told as a mistake of its own.
        let may_mirror = by_mode == Some("local") && P::MODES.contains(&"upstream");
        match may_mirror && wrong.contains("unknown field `url`") {
            true => {
                "url is no setting of mode = \"local\", which is the default: did you mean mode = \"upstream\"?".into()
            }
            false => wrong,
        }
    })?;
    Ok((config, settings))
}

/// Reads settings, or says all that is wrong with them: serde stops at the first mistake, so each key is then read by itself.
/// `by_mode`: the settings are those of this variant.
fn settings<S: DeserializeOwned>(mut settings: Value, by_mode: Option<&str>) -> Result<S, String> {
    if settings.is_null() {
        settings = Value::Object(serde_json::Map::new());
    }
    let read = |settings: &Value| match by_mode {
        Some(mode) => S::deserialize(Value::Object(
            [(mode.to_owned(), settings.clone())].into_iter().collect(),
        )),
        None => S::deserialize(settings),
    };
    let first = match read(&settings) {
        Ok(settings) => return Ok(settings),
        Err(error) => error.to_string(),
    };
    let wrong = settings.as_object().into_iter().flatten().filter_map(|(key, value)| {
        let alone = Value::Object([(key.clone(), value.clone())].into_iter().collect());
        let error = read(&alone).err()?.to_string();
        if error.starts_with("missing field") {
            None
        } else if error.starts_with("unknown field") {
            Some(error)
        } else {
            Some(format!("{key}: {error}"))
        }
    });
    let wrong: Vec<String> = wrong.collect();
    Err(if wrong.is_empty() { first } else { wrong.join("; ") })
}

unsafe extern "C" fn run<P: Plugin>(instance: *mut c_void) -> abi::Status {
    // SAFETY: the host passes what `init` made, not yet freed.
    unsafe {
        guarded::<P>(instance, std::ptr::null_mut(), |plugin| match plugin.run() {
            Ok(()) => (abi::status::OK, None),
            Err(error) => {
                tracing::error!(%error, "the plugin's background work ended");
                (abi::status::FAILED, None)
            }
        })
    }
}

unsafe extern "C" fn handle<P: Plugin>(instance: *mut c_void, request: abi::Str, out: *mut abi::Buf) -> abi::Status {
    // SAFETY: the host passes what `init` made, lends the request for this call, and passes a place for the answer.
    unsafe {
        guarded::<P>(instance, out, |plugin| {
            let request = match lent(request).map(serde_json::from_str) {
                Some(Ok(request)) => request,
                Some(Err(error)) => return (abi::status::BAD_ARGUMENT, Some(error.to_string())),
                None => return (abi::status::BAD_ARGUMENT, Some("the request is not UTF-8".into())),
            };
            match serde_json::to_string(&plugin.handle(request)) {
                Ok(answer) => (abi::status::OK, Some(answer)),
                Err(error) => (abi::status::FAILED, Some(error.to_string())),
            }
        })
    }
}

unsafe extern "C" fn resolve<P: Plugin>(instance: *mut c_void, mac: abi::Str, out: *mut abi::Buf) -> abi::Status {
    // SAFETY: as for `handle`.
    unsafe {
        guarded::<P>(instance, out, |plugin| {
            let Some(Ok(mac)) = lent(mac).map(str::parse) else {
                return (abi::status::BAD_ARGUMENT, Some("not a MAC address".into()));
            };
            match plugin.resolve(mac).map(|node| serde_json::to_string(&node)) {
                Some(Ok(node)) => (abi::status::OK, Some(node)),
                Some(Err(error)) => (abi::status::FAILED, Some(error.to_string())),
                None => (abi::status::NONE, None),
            }
        })
    }
}

unsafe extern "C" fn free<P: Plugin>(instance: *mut c_void) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the host passes what `init` made, once, while nothing else uses it.
        drop(unsafe { Box::from_raw(instance.cast::<Instance<P>>()) });
    }));
}

/// Calls into an instance. A panic poisons it: its state may be half written.
///
/// # Safety
/// `instance` is what `init::<P>` made, not yet freed; `out` is NULL or a place for a buffer.
unsafe fn guarded<P: Plugin>(
    instance: *mut c_void,
    out: *mut abi::Buf,
    f: impl FnOnce(&P) -> (abi::Status, Option<String>),
) -> abi::Status {
    // SAFETY: the caller's promise.
    let instance = unsafe { &*instance.cast::<Instance<P>>() };
    let (status, text) = if instance.panicked.load(Ordering::Acquire) {
        (abi::status::PANICKED, Some("the plugin panicked before".into()))
    } else {
        catch_unwind(AssertUnwindSafe(|| f(&instance.plugin))).unwrap_or_else(|panic| {
            instance.panicked.store(true, Ordering::Release);
            (abi::status::PANICKED, Some(panic_text(&*panic)))
        })
    };
    if !out.is_null() {
        // SAFETY: the caller's promise.
        unsafe { *out = text.map_or_else(empty, given) };
    }
    status
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_else(|| "no text".into()))
}

/// Where this shared object's `tracing` events go: the table of the newest instance. Each shared object has its own copy of this.
static LOG: AtomicPtr<Host> = AtomicPtr::new(std::ptr::null_mut());

fn forward_tracing(host: Host) {
    // Leaked on purpose, a pointer an instance: an event on another thread may still use the old one.
    LOG.store(Box::into_raw(Box::new(host)), Ordering::Release);
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Forward));
}

struct Forward;

impl Forward {
    fn host() -> Option<&'static Host> {
        // SAFETY: null or leaked above, never freed.
        unsafe { LOG.load(Ordering::Acquire).as_ref() }
    }
}

fn level_of(level: &tracing::Level) -> u32 {
    match *level {
        tracing::Level::ERROR => abi::level::ERROR,
        tracing::Level::WARN => abi::level::WARN,
        tracing::Level::INFO => abi::level::INFO,
        _ => abi::level::DEBUG,
    }
}

impl<S: tracing::Subscriber> Layer<S> for Forward {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        Self::host().is_some_and(|host| host.log_enabled(level_of(metadata.level())))
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Fields(serde_json::Map<String, Value>);
        impl Visit for Fields {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                self.0.insert(field.name().into(), format!("{value:?}").into());
            }
            fn record_str(&mut self, field: &Field, value: &str) {
                self.0.insert(field.name().into(), value.into());
            }
            fn record_u64(&mut self, field: &Field, value: u64) {
                self.0.insert(field.name().into(), value.into());
            }
            fn record_i64(&mut self, field: &Field, value: i64) {
                self.0.insert(field.name().into(), value.into());
            }
            fn record_bool(&mut self, field: &Field, value: bool) {
                self.0.insert(field.name().into(), value.into());
            }
        }
        let Some(host) = Self::host() else { return };
        let mut fields = Fields(serde_json::Map::new());
        event.record(&mut fields);
        let message = match fields.0.remove("message") {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let metadata = event.metadata();
        host.log(
            level_of(metadata.level()),
            metadata.target(),
            &message,
            &Value::Object(fields.0).to_string(),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::Error;
    use crate::fake::FakeHost;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[serde(default)]
        size: u8,
    }

    struct Small;

    impl Plugin for Small {
        const NAME: &'static str = "small";
        const MODES: &'static [&'static str] = &["local"];
        type Settings = Settings;

        fn init(start: Start<Settings>, _: &mut wire::Setup) -> Result<Self, Error> {
            match start.settings.size {
                0 => Ok(Self),
                _ => Err("does not fit".into()),
            }
        }
    }

    fn refused(mode: &str, config: Value) -> (bool, String) {
        let refused = FakeHost::new().start_in::<Small>(mode, config).err().unwrap();
        (refused.is_bad_argument, refused.text)
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_a_bad_argument_and_a_failed_init_is_not() {
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert!(FakeHost::new().start::<Small>(Value::Null).is_ok());
        assert_eq!(refused("local", json(r#"{"size": 1}"#)), (false, "does not fit".into()));
        let (bad, text) = refused("local", json(r#"{"size": "x"}"#));
        assert!(bad && text.contains("invalid type: string"), "{text}");
        assert!(refused("local", json("[1, 2]")).0);
        let (bad, text) = refused("upstream", json(r#"{"url": "x"}"#));
        assert!(bad && text.contains("not available in this version"), "{text}");
    }

    struct Mirroring;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum ByMode {
        Local(Settings),
        Upstream(serde::de::IgnoredAny),
    }

    impl Plugin for Mirroring {
        const NAME: &'static str = "mirroring";
        const SETTINGS_BY_MODE: bool = true;
        type Settings = ByMode;

        fn init(start: Start<ByMode>, _: &mut wire::Setup) -> Result<Self, Error> {
            match start.settings {
                ByMode::Local(settings) => Err(format!("{settings:?}").into()),
                ByMode::Upstream(_) => Ok(Self),
            }
        }
    }

    #[test]
    fn a_url_where_the_mode_was_forgotten_is_one_mistake_with_what_was_meant() {
        let settings = serde_json::json!({"ca": "a", "refresh_s": 5, "token": {"file": "b"}, "url": "c"});
        for mode in ["", "local"] {
            let mistake = FakeHost::new()
                .start_in::<Mirroring>(mode, settings.clone())
                .err()
                .unwrap();
            assert!(mistake.is_bad_argument);
            assert!(
                mistake.text.ends_with("did you mean mode = \"upstream\"?"),
                "{}",
                mistake.text
            );
            assert!(!mistake.text.contains("token"), "{}", mistake.text);
        }
        assert!(FakeHost::new().start_in::<Mirroring>("upstream", settings).is_ok());
        let mistake = FakeHost::new()
            .start_in::<Mirroring>("", serde_json::json!({"ca": "a"}))
            .err()
            .unwrap();
        assert!(mistake.text.contains("unknown field `ca`"), "{}", mistake.text);
        // One that knows no other mode.
        let (bad, text) = refused("local", serde_json::json!({"url": "c"}));
        assert!(bad && text.contains("unknown field `url`"), "{text}");
    }

    #[test]
    fn all_that_is_wrong_with_settings_is_told_at_once() {
        assert_eq!(
            refused("local", serde_json::json!({"colour": 1, "size": -1, "wide": 2})),
            (
                true,
                "unknown field `colour`, expected `size`; size: invalid value: integer `-1`, expected u8; \
                 unknown field `wide`, expected `size`"
                    .into()
            )
        );
    }
}
