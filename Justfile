# Thin wrappers: each recipe is one command that works without just, too.

# Lists the recipes.
default:
    @just --list

# Three nodes, real files, a killed relay.
demo *arguments:
    cargo run --release -- demo {{ arguments }}

# All tests; installs what they need.
test:
    scripts/test

# Unit tests: the inner loop.
fast:
    scripts/test --fast

# What a change must pass.
ci:
    .ci/run

# Formats all code.
fmt:
    cargo fmt --all

# Lints as CI does.
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# The documentation of the crates, opened in the browser.
docs:
    cargo doc --workspace --no-deps --document-private-items --open

# The layering, licences and files.
check:
    scripts/check-arrows
    scripts/check-licences
    scripts/check-files

# Each decoder under libFuzzer for so many seconds.
fuzz seconds="60" *targets:
    scripts/fuzz {{ seconds }} {{ targets }}

# Load and latency of whole nodes; see docs/benchmarks.md.
bench *arguments:
    cargo build --release --workspace --bins
    target/release/hawser-bench {{ arguments }}
