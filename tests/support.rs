//! What the tests share.

/// A failure's text without the lines that depend on how the tests are built and run: the remark of a build without
/// optimisation, and the command that runs the test again (libtest names no test where it runs one at a time).
pub(crate) fn text(failure: &candling::Failure) -> String {
    let text = failure.text();
    let lines =
        text.lines().filter(|line| !line.starts_with("  slow?") && !line.starts_with("  rerun"));
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}
