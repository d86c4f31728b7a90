//! The keys that requests to an S3 service are signed with: read from where the configuration says, at the start. They are in no message, and no
//! `Debug`.

use std::path::Path;

/// What a request is signed with.
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    /// Of keys that end.
    pub(super) token: Option<String>,
}

/// From a file: two lines, or sections in the form of AWS's tools, of which `default` is taken when nothing else is said.
pub(super) fn of_file(file: &Path, profile: Option<&str>) -> Result<Keys, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let is_sectioned = text.lines().any(|line| line.trim_start().starts_with('['));
    if is_sectioned {
        return of_section(&text, profile.unwrap_or("default"));
    }
    if profile.is_some() {
        return Err("it has no sections, so there is no profile in it".into());
    }
    let mut lines = text.lines().map(str::trim);
    match (lines.next(), lines.next()) {
        (Some(id), Some(secret)) if !id.is_empty() && !secret.is_empty() => Ok(Keys {
            id: id.into(),
            secret: secret.into(),
            token: None,
        }),
        _ => Err("the access key id belongs in the first line, the secret in the second".into()),
    }
}

/// From variables, by the names that AWS's tools have for them.
pub(super) fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Keys, String> {
    let wanted = |name| {
        let value = variable(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| format!("{name} is not set"))
    };
    Ok(Keys {
        id: wanted("AWS_ACCESS_KEY_ID")?,
        secret: wanted("AWS_SECRET_ACCESS_KEY")?,
        token: wanted("AWS_SESSION_TOKEN").ok(),
    })
}

fn of_section(text: &str, profile: &str) -> Result<Keys, String> {
    let lines = text.lines().map(str::trim);
    let mut section = lines.skip_while(|line| name(line) != Some(profile));
    if section.next().is_none() {
        return Err(format!("it has no section [{profile}]"));
    }
    let lines: Vec<&str> = section.take_while(|line| name(line).is_none()).collect();
    let value = |key: &str| {
        let pairs = lines.iter().filter_map(|line| line.split_once('='));
        let mut values = pairs
            .filter(|(name, _)| name.trim() == key)
            .map(|(_, value)| value.trim());
        values.next().filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let wanted = |key: &str| value(key).ok_or_else(|| format!("[{profile}] has no {key}"));
    Ok(Keys {
        id: wanted("aws_access_key_id")?,
        secret: wanted("aws_secret_access_key")?,
        token: value("aws_session_token"),
    })
}

/// The name of the section that begins with this line.
fn name(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.split_once(']').map(|(name, _)| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTIONS: &str = "# the store's\n[default]\naws_access_key_id = A\naws_secret_access_key=b=c\n\n[ rack ]\n\
                            aws_access_key_id = R\naws_secret_access_key = s\naws_session_token = t\n[half]\naws_access_key_id = H\n";

    fn read(text: &str, profile: Option<&str>) -> Result<(String, String, Option<String>), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        of_file(file.path(), profile).map(|keys| (keys.id, keys.secret, keys.token))
    }

    #[test]
    fn a_file_has_two_lines_or_sections() {
        assert_eq!(read("A\n b \n", None), Ok(("A".into(), "b".into(), None)));
        assert_eq!(read(SECTIONS, None), Ok(("A".into(), "b=c".into(), None)));
        assert_eq!(
            read(SECTIONS, Some("rack")),
            Ok(("R".into(), "s".into(), Some("t".into())))
        );
        for (text, profile, why) in [
            ("A\n", None, "the secret in the second"),
            ("A\nb\n", Some("rack"), "no profile in it"),
            (SECTIONS, Some("other"), "no section [other]"),
            (SECTIONS, Some("half"), "[half] has no aws_secret_access_key"),
        ] {
            let error = read(text, profile).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_environment_has_them_by_their_usual_names() {
        let set = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some("A".into()),
            "AWS_SECRET_ACCESS_KEY" => Some("b".into()),
            _ => None,
        };
        let keys = of_environment(set).ok().unwrap();
        assert_eq!((keys.id, keys.secret, keys.token), ("A".into(), "b".into(), None));
        let error = of_environment(|name| set(name).filter(|value| value == "A")).err();
        assert_eq!(error.as_deref(), Some("AWS_SECRET_ACCESS_KEY is not set"));
    }
}
