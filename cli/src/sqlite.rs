//! Which file a `sqlite:` URL means.

use std::path::{Path, PathBuf};

/// The file of a `sqlite:` URL, absolute; a relative path is taken from `folder`. `None` if it is no such URL.
pub(crate) fn file(url: &str, folder: &Path) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    let path = folder.join(path.split('?').next().unwrap_or(path));
    Some(std::path::absolute(&path).unwrap_or(path))
}

/// The folder that a configuration's paths are taken from: its own.
pub(crate) fn folder(config: &Path) -> &Path {
    config.parent().unwrap_or(Path::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_is_from_the_folder_of_the_configuration() {
        let here = std::env::current_dir().unwrap();
        for (url, config, expected) in [
            ("sqlite:a.db", "/etc/shop/freshline.toml", Some("/etc/shop/a.db".into())),
            ("sqlite://b/a.db?mode=ro", "/etc/shop/freshline.toml", Some("/etc/shop/b/a.db".into())),
            ("sqlite:///var/a.db", "/etc/shop/freshline.toml", Some("/var/a.db".into())),
            ("sqlite:a.db", "freshline.toml", Some(here.join("a.db"))),
            ("sqlite:a.db", "shop/freshline.toml", Some(here.join("shop/a.db"))),
            ("mysql://u@h/d", "freshline.toml", None),
        ] {
            assert_eq!(file(url, folder(Path::new(config))), expected, "{url}");
        }
    }
}
