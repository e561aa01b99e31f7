#!/usr/bin/env bash
# Installs what is missing and runs the whole test suite; 2 cores need about 40 minutes from nothing.
#   scripts/test.sh          everything
#   scripts/test.sh --fast   the release build only, without sanitizers and fuzzing
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

case ${1:-} in
  '' | --fast) ;;
  *) die "test.sh: '$1' is not known; say nothing, or --fast" ;;
esac

results=()
failed=0

# stage NAME COMMAND…: runs it and notes how it went. A stage that fails does not keep the others from running.
stage() {
  local name=$1 began=$SECONDS outcome=passed
  shift
  say "$name"
  # A subshell, so that a failed build ends the stage only.
  ("$@") || outcome=FAILED
  [[ $outcome == passed ]] || failed=1
  results+=("$(printf '%-6s %4d s  %s' "$outcome" $((SECONDS - began)) "$name")")
}

run_ctest() {
  ctest --preset "$@" -j "$(nproc)" --output-on-failure --no-tests=error </dev/null
}

release() {
  # Without a GPU the CUDA backend is still compiled, where nvcc is.
  local cuda=()
  [[ -z $(command -v nvcc "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc") ]] || cuda=(-DMXGPT_CUDA=ON)
  configure release -DMXGPT_TESTS=ON -DMXGPT_BENCH=ON "${cuda[@]}"
  build release
  run_ctest release
}

# The test programs under AddressSanitizer and UBSan. The Python tests, and mxgpt, which only they run, stay with
# the release build: their time goes into the comparison with other packages. So do the comparisons with the
# reference, of answers alone with answers among others, and whatever else is many minutes of arithmetic that
# shorter tests run too.
debug() {
  configure debug
  build debug test_programs
  run_ctest debug -E '\.py$|^Reference\.|Batching\.|EngineAndSession|CachedPrefixGivesTheSameBits|BeyondTheOriginalContextOfYarn|PassesForTheShippedModel'
}

# The server's threads and the grammar compiler's under ThreadSanitizer.
tsan() {
  configure tsan
  build tsan server_test chat_test
  run_ctest tsan -L '^(server|chat)$'
}

fuzz() {
  configure fuzz
  build fuzz fuzz
  run_ctest fuzz
}

scripts/setup.sh tests
stage 'release build and all tests' release
if [[ ${1:-} == --fast ]]; then
  results+=('SKIPPED         sanitizers and fuzzing: run scripts/test.sh without --fast')
else
  stage 'tests under AddressSanitizer and UBSan' debug
  stage 'server and chat tests under ThreadSanitizer' tsan
  stage 'fuzz targets, each for a bounded time' fuzz
fi

printf '\n'
printf '%s\n' "${results[@]}"
if ((failed)); then
  printf 'scripts/test.sh: FAILED after %d s\n' "$SECONDS"
  exit 1
fi
printf 'scripts/test.sh: all passed in %d s\n' "$SECONDS"
