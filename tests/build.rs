//! Builds the source of randomness that the simulation preloads into its processes, with the C compiler that the rest needs anyway.

use std::{env, path::Path, process::Command};

const SOURCE: &str = "tests/simulation/steady.c";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-env-changed=CC");
    let library = Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("steady.so");
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let built =
        Command::new(&compiler).args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(SOURCE).status();
    match built {
        Ok(status) if status.success() => {
            println!("cargo:rustc-env=FRESHLINE_STEADY={}", library.display());
        }
        _ => {
            println!("cargo:warning={compiler} can't build {SOURCE}: the simulation will refuse to run");
            println!("cargo:rustc-env=FRESHLINE_STEADY=");
        }
    }
}
