#!/usr/bin/env bash
# Installs what is missing and builds build/release/mxgpt, the program with all commands.
#   scripts/build.sh          for the CPU, and for the GPU of this machine if there is one
#   scripts/build.sh --cuda   the same, but fails where CUDA cannot be built
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

options=()
case ${1:-} in
  '') ;;
  --cuda) options=(-DMXGPT_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native) ;;
  *) die "build.sh: unknown option '$1'; use --cuda or nothing" ;;
esac
scripts/setup.sh
if [[ ! -e build/release/build.ninja ]] || ((${#options[@]})); then
  configure release "${options[@]}" -DMXGPT_TESTS=OFF -DMXGPT_BENCH=OFF
fi
build release mxgpt
say "built $PWD/build/release/mxgpt"
