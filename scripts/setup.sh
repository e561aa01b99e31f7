#!/usr/bin/env bash
# Installs what is missing, and says so; silent and quick when nothing is.
#   scripts/setup.sh         what building and running mxgpt needs
#   scripts/setup.sh tests   also what the tests need
# cmake/Dependencies.cmake says what each library is for. All come from Debian 12, nothing is built or
# downloaded otherwise, but for the tests' Python oracles (tests/requirements.txt, in build/python).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

packages=(
  g++ cmake ninja-build pkg-config
  libfmt-dev libspdlog-dev libcli11-dev libboost-json1.81-dev libpcre2-dev libutf8proc-dev libssl-dev
)
test_packages=(
  libgmock-dev libbenchmark-dev              # GoogleTest with matchers; the benchmarks are built with the tests
  clang-14 libclang-rt-14-dev  # libFuzzer and its sanitizers
  clang-format-14 python3-venv
)

case ${1:-} in
  '') ;;
  tests) packages+=("${test_packages[@]}") ;;
  *) die "setup.sh: '$1' is not known; say nothing, or tests" ;;
esac

install_packages() {
  local present package missing=()
  if ! command -v dpkg-query >/dev/null; then
    # Once configured, CMake has found all it needs under whatever names this system has.
    [[ -e build/release/build.ninja ]] ||
      say "this is not Debian; mxgpt needs what Debian 12 calls: ${packages[*]}"
    return
  fi
  present=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null) || true
  for package in "${packages[@]}"; do
    grep -qxF "installed $package" <<<"$present" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0

  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      die "packages are missing and there is no sudo; as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  command -v apt-get >/dev/null || die "there is no apt-get; install: ${missing[*]}"
  say "installing ${missing[*]}"
  "${as_root[@]}" true || die "sudo was refused; as root: apt-get install ${missing[*]}"
  # A source that cannot be reached need not be the one that has the packages: installing decides.
  "${as_root[@]}" apt-get -qq update >&2 </dev/null || say "apt-get update had errors, going on"
  quietly build/logs/apt.log "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "${missing[@]}"
}

# The tests' Python is made anew whenever the requirements change.
make_python() {
  local wanted=tests/requirements.txt made=build/python/requirements.txt
  ! cmp -s "$wanted" "$made" || return 0
  say "installing the tests' Python packages into build/python"
  quietly build/logs/python.log /usr/bin/python3 -m venv --clear build/python
  quietly build/logs/python.log build/python/bin/pip install --disable-pip-version-check -r "$wanted"
  cp "$wanted" "$made"
}

install_packages
[[ ${1:-} != tests ]] || make_python
