//! JSON as clients of OpenCHAMI's services send it: keys in any case, as Go's decoder takes them (contract 2.1). A key that stands twice,
//! after case folding, is refused: of two values nobody knows which was meant. Nesting is bounded by the parser, at 128.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Reads one document whose outermost object has its keys in any case. `T`'s fields are named in lower case; those of inner structs fold
/// with `#[serde(deserialize_with = "bootd_sdk::json::folded")]`, and maps of the user's own keys are left alone.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = folded(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Deserializes a struct whose keys come in any case; anything but an object is passed on as it is.
pub fn folded<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(deserializer.deserialize_any(Reading::Folded)?).map_err(de::Error::custom)
}

/// The same for a list of structs; `null` is an empty one, as Go's decoder has it.
pub fn folded_list<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(bound = "T: DeserializeOwned")]
    struct One<T>(#[serde(deserialize_with = "folded_object")] T);
    let list = <Option<Vec<One<T>>> as de::Deserialize>::deserialize(deserializer)?;
    Ok(list.unwrap_or_default().into_iter().map(|One(value)| value).collect())
}

/// As [`folded`], for an object and nothing else: a derived struct would take a list as its fields in their order.
fn folded_object<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    match deserializer.deserialize_any(Reading::Folded)? {
        value @ Value::Object(_) => T::deserialize(value).map_err(de::Error::custom),
        _ => Err(de::Error::custom("an object is expected")),
    }
}

/// A field that may be `null`, which is the same as absent: with `#[serde(default, deserialize_with = ...)]`.
pub fn null_is_default<'de, D: Deserializer<'de>, T: de::Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(<Option<T> as de::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}

/// How the keys of an object are read. None may stand twice, on any level.
#[derive(Clone, Copy)]
enum Reading {
    /// In lower case.
    Folded,
    /// As they are: objects within others may have the user's own keys.
    AsTheyAre,
}

/// A value within another.
struct Inner(Value);

impl<'de> de::Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading::AsTheyAre).map(Self)
    }
}

impl<'de> Visitor<'de> for Reading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Inner(value))) = access.next_entry::<String, Inner>()? {
            let key = match self {
                Self::Folded => key.to_lowercase(),
                Self::AsTheyAre => key,
            };
            if map.contains_key(&key) {
                return Err(de::Error::custom(format_args!("the key '{key}' stands twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Inner(value)) = access.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// The rows of a list, each as its text: at most [`Rows::MOST`], so that a small body cannot become many of them.
#[derive(Debug, Default)]
pub struct Rows<'b>(pub Vec<&'b RawValue>);

impl Rows<'_> {
    /// As many as an inventory holds.
    pub const MOST: usize = 200_000;
}

impl<'de: 'b, 'b> Deserialize<'de> for Rows<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Rows<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Rows<'de>, A::Error> {
                let mut rows = Vec::new();
                while let Some(row) = list.next_element()? {
                    if rows.len() == Rows::MOST {
                        return Err(de::Error::custom(format!("it has more than {} rows", Rows::MOST)));
                    }
                    rows.push(row);
                }
                Ok(Rows(rows))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_list_has_a_bound() {
        let list = |rows: usize| format!("[{}]", vec!["0"; rows].join(","));
        assert_eq!(
            serde_json::from_str::<Rows<'_>>(&list(Rows::MOST)).unwrap().0.len(),
            Rows::MOST
        );
        let error = serde_json::from_str::<Rows<'_>>(&list(Rows::MOST + 1)).unwrap_err();
        assert!(error.to_string().starts_with("it has more than 200000 rows"), "{error}");
        assert!(serde_json::from_str::<Rows<'_>>("{}").is_err());
    }

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        #[serde(deserialize_with = "folded")]
        component: Inner,
        #[serde(default, deserialize_with = "folded_list")]
        more: Vec<Inner>,
        #[serde(default, deserialize_with = "null_is_default")]
        force: bool,
        #[serde(default)]
        own: Map<String, Value>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        id: String,
    }

    #[test]
    fn keys_come_in_any_case_and_the_users_own_stay_as_they_are() {
        let text = r#"{"Component":{"ID":"a"},"MORE":[{"Id":"b"}],"Force":null,"own":{"Key":1}}"#;
        let outer: Outer = parse(text).unwrap();
        let inner = |id: &str| Inner { id: id.into() };
        assert_eq!((outer.component, outer.more), (inner("a"), vec![inner("b")]));
        assert!(!outer.force && outer.own.contains_key("Key"));
    }

    #[test]
    fn a_key_that_stands_twice_after_folding_is_refused() {
        for text in [
            r#"{"component":{"id":"a"},"Component":{"id":"b"}}"#,
            r#"{"component":{"id":"a","ID":"b"}}"#,
            r#"{"component":{"id":"a","id":"b"}}"#,
            r#"{"component":{"id":"a"},"own":{"list":[{"k":1,"k":2}]}}"#,
        ] {
            let error = parse::<Outer>(text).unwrap_err().to_string();
            assert!(error.contains("stands twice"), "{error}");
        }
    }

    #[test]
    fn what_is_cut_off_followed_by_more_or_nested_too_deep_is_refused() {
        for text in [
            r#"{"component":{"id":"a"}"#,
            r#"{"component":{"id":"a"}} x"#,
            "[]",
            "null",
            "1",
        ] {
            assert!(parse::<Outer>(text).is_err(), "{text}");
        }
        assert!(parse::<Value>(&"[".repeat(10_000)).is_err());
        assert!(parse::<Value>(&"{\"a\":".repeat(10_000)).is_err());
    }
}
