#!/usr/bin/env bash
# Checks the CUDA backend on a machine with a GPU (what it takes and how fast it is: bench/cuda/table.sh):
#   bench/cuda/check.sh [BUILD] [--quick]
# BUILD (default: build/release) has `mxgpt` and `tests/cuda_test`, built here or carried here with the
# libraries that they need, and `tests/sm90_kernels_test`. Logs are left in BUILD/logs; --quick leaves out
# compute-sanitizer.
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

# check NAME COMMAND…: its output goes to a log, of which the end is shown if it fails, or takes longer than LIMIT.
check() {
  local name=$1 log=$logs/$1.log began=$SECONDS
  shift
  if timeout "${LIMIT:-120}" "$@" >"$log" 2>&1; then
    printf 'holds  %3d s  %s\n' $((SECONDS - began)) "$name"
  else
    printf 'FAILS  %3d s  %s: %s\n' $((SECONDS - began)) "$name" "$*"
    grep -E 'FAIL|Failure|error|Error|ERROR|Invalid|leaked|hazard' "$log" | head -"${SHOW:-12}"
    tail -4 "$log"
    failed=1
  fi
}

nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv,noheader

if [[ -x $build/tests/sm90_kernels_test ]]; then check sm90_kernels "$build/tests/sm90_kernels_test"; fi
# One process per test: a sticky CUDA error stays with its process.
tests=$build/tests/cuda_test
for test in $("$tests" --gtest_list_tests | awk '/^[^ ]/ {suite = $1} /^  / {print suite $1}'); do
  check "$test" "$tests" --gtest_filter="$test" --gtest_brief=1
  grep -h 'positions:\|greedy\|SKIPPED\|NOT TESTED' "$logs/$test.log"
done
check kernels "$mxgpt" validate --kernels --device cuda
tail -1 "$logs/kernels.log"

# The sanitizers slow a program down a hundredfold: a prompt that passes the window's edge, and two tokens.
if [[ ! $quick ]] && command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    LIMIT=${SANITIZER_LIMIT:-400} check "$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 5 \
      "$mxgpt" run -m "$nano" --device cuda --raw --temperature 0 --max-tokens 2 --ctx 512 \
      "$(printf 'The harbour wakes before the town does. %.0s' {1..20})"
  done
fi

# Memory fallbacks: the output stays the same down to the last one, which reads experts from host memory.
answer() {
  timeout 60 "$mxgpt" run -m "$nano" --device cuda --raw --temperature 0 --max-tokens 24 --ctx 512 "$@" 'The harbour wakes' 2>"$logs/fallback"
}
plain=$(answer)
total=$("$mxgpt" plan -m "$nano" --device cuda --ctx 512 --json | sed 's/.*"total":\([0-9]*\).*/\1/')
for less in 2 4 6 8 10; do
  given=$(answer --vram-budget $((total - (less << 20))))
  reduced=$(grep -oE '(reducing [a-z_ ]+ from|[a-z_]+ go down from) .*' "$logs/fallback" | tail -1)
  if [[ $given == "$plain" ]]; then
    printf 'holds         %d MiB too little: %s\n' $less "${reduced:-nothing reduced}"
  elif grep -q kv_format "$logs/fallback"; then
    printf 'differs       %d MiB too little, with a cache of q8_0: %s\n' $less "${reduced:-}"
  else
    printf 'FAILS         %d MiB too little: %s\n' $less "$(tail -1 "$logs/fallback")"
    failed=1
  fi
done
exit $failed
