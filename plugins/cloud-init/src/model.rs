//! What is stored, as Rust types: the bodies of the admin API (contract 1.6.3) and what is made of them once, when they are written.
//!
//! Empty texts count as absent. Pure data.

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::metadata::group_lines;

/// The cluster's defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Defaults {
    /// The tool writes this one with an underscore.
    #[serde(
        rename = "cloud_provider",
        alias = "cloud-provider",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) cloud_provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) availability_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster_name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) public_keys: Vec<String>,
    /// Without a slash at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) boot_subnet: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wg_subnet: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) short_name: Option<String>,
    /// Digits of the number in a computed host name, at most [`MOST_DIGITS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nid_length: Option<usize>,
}

/// More digits than any number has.
pub(crate) const MOST_DIGITS: usize = 20;

impl Defaults {
    /// Without what says nothing: empty keys, a number of digits that is none, slashes at the end of a URL.
    pub(crate) fn tidied(mut self) -> Self {
        trim(&mut self.base_url);
        self.nid_length = self.nid_length.filter(|digits| (1..=MOST_DIGITS).contains(digits));
        self.public_keys.retain(|key| !key.is_empty());
        self
    }

    /// What is set, field by field: a write touches only the fields that it names.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        }
    }
}

/// A group's document and meta-data, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct GroupData {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) meta_data: Map<String, Value>,
    pub(crate) file: GroupFile,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(crate) versions: Value,
}

/// A group's document: the text that was given, not decoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct GroupFile {
    pub(crate) content: String,
    pub(crate) filename: String,
    pub(crate) encoding: Encoding,
}

impl Default for GroupFile {
    fn default() -> Self {
        Self {
            content: String::new(),
            filename: String::new(),
            encoding: Encoding::Plain,
        }
    }
}

/// How a group's document is written. Clients cannot read a group without it, so it is always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    Plain,
    Base64,
}

/// What a group's members get.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Content {
    /// Nothing was said.
    #[default]
    None,
    /// This, decoded.
    Text(String),
    /// It cannot be decoded; why.
    Broken(&'static str),
}

impl Content {
    pub(crate) fn of(file: &GroupFile) -> Self {
        if file.content.is_empty() {
            return Self::None;
        }
        match file.encoding {
            Encoding::Plain => Self::Text(file.content.clone()),
            Encoding::Base64 => match decoded(&file.content).map(String::from_utf8) {
                Some(Ok(text)) => Self::Text(text),
                Some(Err(_)) => Self::Broken("is not UTF-8 text when decoded"),
                None => Self::Broken("is not base64"),
            },
        }
    }
}

/// A group, with its document decoded.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Group {
    pub(crate) data: GroupData,
    pub(crate) content: Content,
    /// What its members' meta-data say of it.
    pub(crate) lines: String,
}

impl From<GroupData> for Group {
    fn from(data: GroupData) -> Self {
        Self {
            content: Content::of(&data.file),
            lines: group_lines(&data.name, Some(&data)),
            data,
        }
    }
}

/// What is different about one node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Instance {
    /// Its xname.
    pub(crate) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) local_hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) availability_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", alias = "cloud_provider")]
    pub(crate) cloud_provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance_type: Option<String>,
    /// Without a slash at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cloud_init_base_url: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) public_keys: Vec<String>,
}

impl Instance {
    /// Without what says nothing: empty keys, slashes at the end of a URL.
    pub(crate) fn tidied(mut self) -> Self {
        trim(&mut self.cloud_init_base_url);
        self.public_keys.retain(|key| !key.is_empty());
        self
    }

    /// The id that its node gets: the one that was given, else one that follows from the xname.
    pub(crate) fn effective_id(&self, xname: &str) -> String {
        self.instance_id.clone().unwrap_or_else(|| computed_id(xname))
    }
}

fn trim(url: &mut Option<String>) {
    if let Some(url) = url {
        url.truncate(url.trim_end_matches('/').len());
    }
}

/// `i-` and the 32-bit FNV-1a hash of the xname: the same on every box, after every restart.
fn computed_id(xname: &str) -> String {
    let hash = xname.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("i-{hash:08x}")
}

/// Standard base64 as people put documents into files: white space is skipped, padding may be missing. `None`: it is something else.
fn decoded(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let text: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    LENIENT.decode(text).ok()
}
