#!/usr/bin/env bash
# Checks style: clang-format for C++ and CUDA, ruff for Python, the module graph for includes.
#   scripts/lint.sh [FILE…]         check these files, or the whole tree
#   scripts/lint.sh --fix [FILE…]   reformat them
#   scripts/lint.sh --tidy [FILE…]  clang-tidy with the checks of .clang-tidy (slow)
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

mode=check
case ${1:-} in
  --fix | --tidy) mode=${1#--} && shift ;;
  -*) die "lint.sh: unknown option '$1'; use --fix or --tidy" ;;
esac
whole_tree=$(($# == 0))
((!whole_tree)) || mapfile -t all < <(git ls-files --cached --others --exclude-standard)
((!whole_tree)) || set -- "${all[@]}"

cpp=() python=()
for file; do
  case $file in
    *.h | *.cpp | *.cu | *.cuh) [[ ! -e $file ]] || cpp+=("$file") ;;
    *.py) [[ ! -e $file ]] || python+=("$file") ;;
  esac
done

if [[ $mode == tidy ]]; then
  command -v clang-tidy-14 >/dev/null || die 'lint.sh: install clang-tidy-14 first (apt-get install clang-tidy-14)'
  quietly build/logs/configure-tidy.log cmake --preset release -B build/tidy -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
    -DMXGPT_TESTS=OFF -DMXGPT_BENCH=OFF
  printf '%s\0' "${cpp[@]}" | grep -z '\.cpp$' | grep -zv '^tests/\|^bench/' |
    xargs -0 -n 4 -P "$(nproc)" clang-tidy-14 -p build/tidy --quiet
  exit
fi

ruff=build/python/bin/ruff
[[ -x $ruff ]] || ruff=$(command -v ruff) || die 'lint.sh: ruff is missing; run scripts/setup.sh tests'
failed=0
format=(--style=file:.clang-format --dry-run --Werror) style=(format --no-cache --config ruff.toml --check --quiet) rules=(check --no-cache --config ruff.toml --quiet)
[[ $mode == check ]] || format=(--style=file:.clang-format -i) style=(format --no-cache --config ruff.toml --quiet) rules=(check --no-cache --config ruff.toml --fix --quiet)
((${#cpp[@]} == 0)) || printf '%s\0' "${cpp[@]}" | xargs -0 -n 40 -P "$(nproc)" clang-format-14 "${format[@]}" || failed=1
if ((${#python[@]})); then
  "$ruff" "${style[@]}" "${python[@]}" || failed=1
  "$ruff" "${rules[@]}" "${python[@]}" || failed=1
fi
((!whole_tree)) || python3 scripts/check_includes.py || failed=1
exit "$failed"
