# Sourced by the scripts beside it: messages, and builds that stay quiet. Everything goes to standard error,
# so that the output of a program started by a script stays its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p build/logs

say() { printf '==> %s\n' "$*" >&2; }

die() {
  printf 'mxgpt: %s\n' "$*" >&2
  exit 1
}

# quietly LOG COMMAND…: the command's output goes to LOG, and to the screen only if it fails.
quietly() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 </dev/null || {
    cat "$log" >&2
    die "\`$*\` failed; its output is above and in $log"
  }
}

# configure PRESET [CMAKE OPTION…]
configure() {
  quietly "build/logs/configure-$1.log" cmake --preset "$@"
}

clear_line() { [[ ! -t 2 ]] || printf '\r\e[K' >&2; }

# build PRESET [TARGET…]: with nothing to do it prints nothing; on a terminal it counts its steps on one line,
# cleared at the end; elsewhere it says that it starts. The compiler's words appear if it fails.
build() {
  local preset=$1 log="build/logs/build-$1.log" line begun=0
  shift
  # Two scripts at once wait for each other: ninja itself has no lock.
  NINJA_STATUS='[%f/%t] ' flock build/logs/lock ninja -C "build/$preset" "$@" 2>&1 </dev/null | tee "$log" | while IFS= read -r line; do
    if [[ $line != '['*/*']'* || $line == *'Re-checking globbed'* ]]; then continue; fi
    if [[ -t 2 ]]; then
      line="building $preset $line"
      printf '\r\e[K%s' "${line:0:${COLUMNS:-79}}" >&2
    elif ((!begun)); then
      say "building $preset ${*:+($*)}"
    fi
    begun=1
  done || {
    clear_line
    sed -n '/^FAILED:/,$p;/^ninja: error/p' "$log" >&2
    die "the $preset build failed; the compiler's output is above and in $log"
  }
  clear_line
}
