#!/usr/bin/env bash
# Installs what is missing, builds, and runs: scripts/run.sh "PROMPT" [OPTION…] is `mxgpt run "PROMPT" [OPTION…]`.
started_in=$PWD
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

scripts/setup.sh
[[ -e build/release/build.ninja ]] || configure release -DMXGPT_TESTS=OFF -DMXGPT_BENCH=OFF
build release mxgpt

program=$PWD/build/release/mxgpt
cd "$started_in"
exec "$program" run "$@"
