//! What an application does: a crate outside this workspace that depends on Freshline by path, built with nothing of this workspace's
//! settings (`.cargo/config.toml` holds for the workspace alone) and without `protoc`.
//!
//! It takes the workspace's `Cargo.lock` and target folder, so most of it is compiled already, and asks no registry.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const NOWHERE: &str = "/nowhere/protoc";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above").to_owned()
}

/// Where this test itself was compiled to, above the profile's folder.
fn target() -> PathBuf {
    let me = std::env::current_exe().expect("a test knows where it is");
    me.ancestors().nth(3).expect("a test is in target/PROFILE/deps").to_owned()
}

/// A crate with these dependencies and this code; returns what `cargo check` says if it fails.
fn check(dependencies: &str, code: &str, protoc: OsString) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let root = root();
    let dependencies = dependencies.replace("ROOT", &root.display().to_string());
    // Debug information as in the workspace's profile: what is compiled already is as it has to be.
    let manifest = format!(
        "[package]\nname = \"outside\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n[dependencies]\n{dependencies}\n\
         [profile.dev]\ndebug = \"line-tables-only\"\n[profile.dev.package.\"*\"]\ndebug = false\n[workspace]\n"
    );
    fs::write(folder.path().join("Cargo.toml"), manifest).expect("write the manifest");
    fs::write(folder.path().join("lib.rs"), code).expect("write the code");
    fs::copy(root.join("Cargo.lock"), folder.path().join("Cargo.lock")).expect("copy the lock");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["check", "--offline", "--quiet"]).current_dir(folder.path()).env_clear();
    for name in ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        if let Some(value) = std::env::var_os(name) {
            cargo.env(name, value);
        }
    }
    // Should one be installed here, it is not found.
    cargo.env("PROTOC", protoc).env("CARGO_TARGET_DIR", target());
    let output = cargo.output().expect("cargo runs: it runs this test");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn an_application_builds_the_client_and_a_node_with_a_rust_toolchain_alone() {
    let dependencies = "freshline = { path = \"ROOT/freshline\", features = [\"node\"] }\n\
         freshline-client = { path = \"ROOT/client\" }\nfreshline-cache-node = { path = \"ROOT/cache-node\" }\n";
    let code = "
        pub async fn read() -> Result<Option<usize>, freshline::Error> {
            let seeds = vec![\"http://localhost:7400\".to_owned()];
            let client = freshline::Client::from_seeds(seeds, freshline::Config::default()).await?;
            Ok(client.get(\"user:42\").await?.value.map(|value| value.len()))
        }
        pub fn embed() -> Result<freshline::node::Running, Box<dyn std::error::Error>> {
            Ok(freshline::node::Settings::read(\"freshline.toml\")?.start()?)
        }
        pub fn checked(text: &str) -> bool {
            freshline::catalog::Catalog::parse(\"freshline.toml\", text).is_ok()
        }
        pub use {cache_node::Node, client::Client};
    ";
    check(dependencies, code, NOWHERE.into()).unwrap();
}

#[test]
fn members_in_etcd_need_protoc_or_the_stand_in_that_is_shipped() {
    let dependencies = "freshline = { path = \"ROOT/freshline\", features = [\"etcd\"] }\n";
    let code = "pub use freshline::etcd::{EtcdMembership, Options};";
    check(dependencies, code, root().join("proto/etcd/protoc").into()).unwrap();
}
