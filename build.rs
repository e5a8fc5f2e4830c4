//! Tells the crate how it is optimised, so that a slow training can say which profile lines would help.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let level = std::env::var("OPT_LEVEL").unwrap_or_default();
    println!("cargo::rustc-env=CANDLING_OPT_LEVEL={level}");
}
