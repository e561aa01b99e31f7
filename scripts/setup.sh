#!/usr/bin/env bash
# Installs what is missing, and says so; silent and quick when nothing is.
#   scripts/setup.sh         what building and running mxgpt needs
#   scripts/setup.sh tests   also what the tests need
# cmake/Dependencies.cmake says what each library is for. All come from Debian 12, nothing is built or
# downloaded otherwise, but for xgrammar (cmake/XGrammar.cmake) and the tests' Python oracles
# (tests/requirements.txt, in build/python).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

packages=(
  g++ cmake ninja-build pkg-config
  libfmt-dev libspdlog-dev libcli11-dev libboost-json1.81-dev libpcre2-dev libutf8proc-dev libssl-dev libsqlite3-dev
  python3-venv  # brings pip, which fetches xgrammar
)
test_packages=(
  libgmock-dev libbenchmark-dev              # GoogleTest with matchers; the benchmarks are built with the tests
  clang-14 libclang-rt-14-dev  # libFuzzer and its sanitizers
  clang-format-14
  curl openssl               # run by tests of the server
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

# The source package, unpacked into build/xgrammar.
fetch_xgrammar() {
  local wanted='xgrammar==0.2.8 --hash=sha256:8305646fd2b319d6c3003f51a1665e54cbbe9cba1fb636bc41d0b46434ccbb80'
  local folder=build/xgrammar made=build/xgrammar/fetched.txt
  [[ ! -e $made || $(<"$made") != "$wanted" ]] || return 0
  say "fetching ${wanted%% *}"
  rm -rf "$folder" build/fetch
  mkdir -p "$folder" build/fetch
  echo "$wanted" >build/fetch/requirements.txt
  quietly build/logs/xgrammar.log /usr/bin/python3 -m venv build/fetch/python
  quietly build/logs/xgrammar.log build/fetch/python/bin/pip download --disable-pip-version-check --no-deps \
    --no-binary xgrammar --require-hashes -r build/fetch/requirements.txt -d build/fetch
  tar -xzf build/fetch/xgrammar-*.tar.gz -C "$folder" --strip-components=1
  rm -rf build/fetch
  echo "$wanted" >"$made"
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
fetch_xgrammar
[[ ${1:-} != tests ]] || make_python
