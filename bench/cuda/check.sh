#!/usr/bin/env bash
# Checks the CUDA backend on a machine with a GPU and shows what a full-size model takes:
#   bench/cuda/check.sh [BUILD] [--quick]
# BUILD (default: build/release) has `mxgpt` and `tests/numerics_test`, built here or carried here with the
# libraries that they need. Logs are left in BUILD/logs; --quick leaves out the full-size model.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=build/release quick=
for argument; do
  case $argument in
    --quick) quick=1 ;;
    *) build=$argument ;;
  esac
done
logs=$build/logs
mkdir -p "$logs"
mxgpt=$build/mxgpt nano=models/gpt-oss-nano
failed=0

# check NAME COMMAND…: its output goes to a log, of which the end is shown if it fails.
check() {
  local name=$1 log=$logs/$1.log began=$SECONDS
  shift
  if "$@" >"$log" 2>&1; then
    printf 'holds  %3d s  %s\n' $((SECONDS - began)) "$name"
  else
    printf 'FAILS  %3d s  %s: %s\n' $((SECONDS - began)) "$name" "$*"
    grep -E 'FAILED|Failure|FAILS|error|Error|ERROR|Invalid|leaked|hazard' "$log" | head -"${SHOW:-12}"
    tail -4 "$log"
    failed=1
  fi
}

nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv,noheader

check tests "$build/tests/numerics_test" --gtest_filter='Cuda.*' --gtest_brief=1
grep -h 'positions:\|greedy\|SKIPPED\|NOT TESTED' "$logs/tests.log"
check kernels "$mxgpt" validate --kernels --device cuda
tail -1 "$logs/kernels.log"

# The sanitizers slow a program down a hundredfold: a prompt that passes the window's edge, and two tokens.
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    check "$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 5 \
      "$mxgpt" run -m "$nano" --device cuda --raw --temperature 0 --max-tokens 2 --ctx 512 \
      "$(printf 'The harbour wakes before the town does. %.0s' {1..20})"
  done
fi

# used: MiB of the GPU's memory that were in use at most while a command ran.
peak() {
  nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 50 >"$logs/memory" &
  local watcher=$!
  "$@"
  kill $watcher
  printf 'peak memory of the GPU: %s MiB\n' "$(sort -n "$logs/memory" | tail -1)"
}

if [[ ! $quick ]]; then
  model=${MODEL:-$build/synth-20b.gguf}
  [[ -e $model ]] || check synth "$mxgpt" synth --like gpt-oss-20b "$model"
  cat "$model" >/dev/null # into the page cache
  decode() {
    "$mxgpt" run -m "$model" --device cuda --raw --temperature 0 --max-tokens 128 --ctx 8192 --stats --vram-budget 24GiB "$1" |
      tail -c 300
  }
  peak decode 'Once upon a time' 2>&1
  peak decode "$(printf 'The harbour wakes before the town does. %.0s' {1..200})" 2>&1
fi
exit $failed
