//! The programs of `docs/applications.md`, taken out of the page and run as they stand there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use super::stack::Dev;

/// The page's languages, as its code blocks name them.
pub(crate) const LANGUAGES: [&str; 5] = ["python", "java", "go", "js", "rust"];
const PATIENCE: Duration = Duration::from_secs(30);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above").to_owned()
}

/// The one block of a language in a page.
fn block(page: &str, language: &str) -> Result<String, String> {
    let text = fs::read_to_string(root().join(page)).map_err(|error| format!("{page}: {error}"))?;
    let begin = format!("\n```{language}\n");
    let mut blocks = text.split(&begin).skip(1);
    match (blocks.next().and_then(|rest| rest.split_once("\n```")), blocks.next()) {
        (Some((code, _)), None) => Ok(format!("{code}\n")),
        _ => Err(format!("{page} has not exactly one block of {language}")),
    }
}

/// Makes a program of a block: the command that runs it.
fn program(language: &str, code: &str, installed: &Path, folder: &Path) -> Result<Command, String> {
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).map_err(|error| format!("write {name}: {error}"))
    };
    let mut command = match language {
        "python" => {
            write("app.py", code)?;
            let mut command = Command::new(installed.join("venv/bin/python"));
            command.arg("app.py");
            command
        }
        "java" => {
            write("App.java", code)?;
            let mut command = Command::new("java");
            command.arg("-cp").arg(installed.join("java/target/lib/*")).arg("App.java");
            command
        }
        "go" => {
            write("main.go", code)?;
            for name in ["go.mod", "go.sum"] {
                let from = installed.join("go").join(name);
                fs::copy(&from, folder.join(name)).map_err(|error| format!("{}: {error}", from.display()))?;
            }
            let mut command = Command::new("go");
            command.args(["run", "."]);
            command
        }
        "js" => {
            write("app.cjs", code)?;
            let mut command = Command::new("node");
            command.arg("app.cjs").env("NODE_PATH", installed.join("node/node_modules"));
            command
        }
        "rust" => {
            let manifest = format!(
                "[package]\nname = \"app\"\nedition = \"2024\"\n[[bin]]\nname = \"app\"\npath = \"main.rs\"\n[dependencies]\n\
                 freshline = {{ path = \"{}\" }}\ntokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }}\n\
                 [profile.dev]\ndebug = \"line-tables-only\"\n[profile.dev.package.\"*\"]\ndebug = false\n[workspace]\n",
                root().join("freshline").display()
            );
            write("Cargo.toml", &manifest)?;
            write("main.rs", code)?;
            fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))
                .map_err(|error| error.to_string())?;
            let me = std::env::current_exe().expect("a test knows where it is");
            let target = me.ancestors().nth(3).expect("a test is in target/PROFILE/deps");
            let mut command = Command::new(env!("CARGO"));
            command.args(["run", "--offline", "--quiet"]).env("CARGO_TARGET_DIR", target);
            command
        }
        other => return Err(format!("no way to run {other}")),
    };
    command.current_dir(folder);
    Ok(command)
}

/// Runs the page's program: it shows the row and two others, and after a change of the row what it is then.
pub(crate) fn run(language: &str, dev: &Dev, installed: &Path) -> Result<(), String> {
    let code = block("docs/applications.md", language)?;
    if block("README.md", language)? != code {
        return Err(format!("README.md has another program in {language} than docs/applications.md"));
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut command = program(language, &dev.ported(&code), installed, folder.path())?;
    let mut answers = || {
        let output = command.output().map_err(|error| format!("start the program in {language}: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        Err(format!("{language}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr)))
    };
    let city = format!("The city of {language}");
    let before = answers()?;
    if before.contains(&city) || !["Anchor lamp", "Birch stool"].iter().all(|name| before.contains(name)) {
        return Err(format!("{language} shows not the rows:\n{before}"));
    }
    let statement = format!("UPDATE users SET city = '{city}' WHERE id = 42");
    let changed = Command::new(&dev.sql).arg(statement).status().map_err(|error| error.to_string())?;
    if !changed.success() {
        return Err(format!("the change failed: {changed}"));
    }
    let begun = Instant::now();
    loop {
        let after = answers()?;
        if after.contains(&city) {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{language} never shows the change:\n{after}"));
        }
    }
}
