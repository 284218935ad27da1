//! The settings file of the health rules: what an administrator knows better than the table.

use std::{collections::BTreeMap, fs, path::Path};

use plasma_device_plugin_core::{HealthRules, Verdict, Xids};
use serde::Deserialize;

/// The file, as YAML.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    /// Verdicts, by XID.
    #[serde(default)]
    xids: BTreeMap<u64, Told>,
}

/// A verdict as it is written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Told {
    Ignore,
    Suspect,
    Unhealthy,
}

/// The rules, with the file's on top where there is one.
///
/// # Errors
/// In words: the file can't be read, or says something that isn't understood. Half of it is never used.
pub(crate) fn read(file: Option<&Path>) -> Result<HealthRules, String> {
    let Some(file) = file else { return Ok(HealthRules::default()) };
    let fault = |why: String| format!("--health-config {}: {why}", file.display());
    let text = fs::read_to_string(file).map_err(|why| fault(why.to_string()))?;
    let told: File = serde_saphyr::from_str(&text).map_err(|why| fault(why.to_string()))?;
    let verdicts = told.xids.into_iter().map(|(xid, told)| {
        let verdict = match told {
            Told::Ignore => Verdict::Ignore,
            Told::Suspect => Verdict::Suspect,
            Told::Unhealthy => Verdict::Unhealthy,
        };
        (xid, verdict)
    });
    Ok(HealthRules { xids: Xids::with(verdicts), ..HealthRules::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_quotes_is_that_xid() {
        // Helm has all keys as text.
        assert!(rules("xids:\n  \"79\": ignore\n").is_ok());
    }

    fn rules(text: &str) -> Result<HealthRules, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(Some(file.path()))
    }

    #[test]
    fn a_file_changes_what_an_xid_says() {
        let rules = rules("xids:\n  79: ignore\n  9999: suspect\n").unwrap();
        assert_eq!((rules.xids.verdict(79), rules.xids.verdict(9999)), (Verdict::Ignore, Verdict::Suspect));
        assert_eq!(read(None).unwrap(), HealthRules::default());
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, named) in [
            ("xid: {}", "xid"),
            ("xids: { 79: fine }", "fine"),
            ("xids: { many: ignore }", "many"),
            ("xids: [", "--health-config"),
        ] {
            let fault = rules(text).unwrap_err();
            assert!(fault.contains(named), "{text}: {fault}");
        }
        assert!(read(Some(Path::new("/nowhere/health.yaml"))).unwrap_err().contains("/nowhere/health.yaml"));
    }
}
