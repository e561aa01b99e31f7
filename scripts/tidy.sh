#!/usr/bin/env bash
# clang-tidy with the checks of .clang-tidy: scripts/tidy.sh [FILE…]; without files, all of src/. Slow.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

command -v clang-tidy-14 >/dev/null || die 'tidy.sh: apt-get install clang-tidy-14 first'
quietly build/logs/configure-tidy.log cmake --preset release -B build/tidy -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
  -DMXGPT_TESTS=OFF -DMXGPT_BENCH=OFF
if (($# == 0)); then
  mapfile -t files < <(find src -name '*.cpp' | sort)
  set -- "${files[@]}"
fi
printf '%s\0' "$@" | xargs -0 -n 4 -P "$(nproc)" clang-tidy-14 -p build/tidy --quiet
