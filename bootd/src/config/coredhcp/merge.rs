//! A `bootd.toml` over what a coredhcp.yaml comes to.
//!
//! Its keys win one by one. Tables of an array are added to those that are there, except that a plugin of the same name, and a subnet of
//! the same cidr, is the same one: so a token for SMD can be said beside the file.

use toml::{Table, Value};

use crate::config::{Mistake, raw};

/// The text of both.
pub(crate) fn merged(below: &str, above: &str) -> Result<String, Mistake> {
    let table = |text: &str| match toml::from_str::<Table>(text) {
        Ok(table) => Ok(table),
        Err(error) => Err(raw::parse(text).err().unwrap_or_else(|| Mistake {
            key: String::new(),
            text: error.to_string(),
        })),
    };
    let mut both = table(below)?;
    over(&mut both, table(above)?);
    toml::to_string(&both).map_err(|error| Mistake {
        key: String::new(),
        text: error.to_string(),
    })
}

fn over(below: &mut Table, above: Table) {
    for (key, value) in above {
        let identity = match key.as_str() {
            "plugin" => Some("name"),
            "subnet" => Some("cidr"),
            _ => None,
        };
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => over(below, above),
            (Some(Value::Array(below)), Value::Array(above)) if above.first().is_some_and(Value::is_table) => {
                for item in above {
                    let same = identity.and_then(|name| {
                        let id = item.get(name)?;
                        below.iter_mut().find(|other| other.get(name) == Some(id))
                    });
                    match (same, item) {
                        (Some(Value::Table(same)), Value::Table(item)) => over(same, item),
                        (_, item) => below.push(item),
                    }
                }
            }
            (_, value) => drop(below.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::merged;

    #[test]
    fn keys_win_and_tables_of_an_array_are_added() {
        let below = "[server]\naddress = \"10.0.0.1\"\ninterfaces = [\"a\"]\n[http]\nlistener = []\n[[plugin]]\nname = \"smd\"\nconfig.url = \"u\"\n";
        let above = "[server]\ninterfaces = [\"b\"]\n[[http.listener]]\naddress = \"x\"\n[[plugin]]\nname = \"smd\"\nconfig.token = \"t\"\n[[plugin]]\nname = \"bss\"\n";
        let both: toml::Table = toml::from_str(&merged(below, above).unwrap()).unwrap();
        assert_eq!(both["server"]["address"].as_str(), Some("10.0.0.1"));
        assert_eq!(both["server"]["interfaces"].as_array().map(Vec::len), Some(1));
        assert_eq!(both["http"]["listener"][0]["address"].as_str(), Some("x"));
        assert_eq!(both["plugin"].as_array().map(Vec::len), Some(2));
        assert_eq!(both["plugin"][0]["config"]["url"].as_str(), Some("u"));
        assert_eq!(both["plugin"][0]["config"]["token"].as_str(), Some("t"));
    }

    #[test]
    fn what_is_not_toml_is_named_with_its_line() {
        let mistake = merged("", "[server]\nx = \n").unwrap_err().to_string();
        assert!(mistake.contains("line 2"), "{mistake}");
    }
}
