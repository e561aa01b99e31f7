#!/usr/bin/env bash
# Installs what is missing, builds, and runs: scripts/run.sh "PROMPT" [OPTION…] is `mxgpt run "PROMPT" [OPTION…]`.
# With --cuda first, for the GPU of this machine, and on it.
started_in=$PWD
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

device=()
if [[ ${1:-} == --cuda ]]; then
  shift
  device=(--device cuda)
fi
scripts/setup.sh
if ((${#device[@]})); then
  [[ -n $(command -v nvcc "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc") ]] ||
    die "--cuda needs nvcc, of CUDA 12.4 or newer (package cuda-toolkit of NVIDIA's repository); if it is there, set CUDA_HOME"
  grep -qs '^MXGPT_CUDA:[A-Z]*=ON' build/release/CMakeCache.txt ||
    configure release -DMXGPT_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native -DMXGPT_TESTS=OFF -DMXGPT_BENCH=OFF
else
  [[ -e build/release/build.ninja ]] || configure release -DMXGPT_TESTS=OFF -DMXGPT_BENCH=OFF
fi
# The first build compiles `mxgpt run` alone; scripts/build.sh builds all commands, which this script then keeps up to date.
target=mxgpt_run
[[ ! -e build/release/mxgpt ]] || target=mxgpt
build release "$target"

program=$PWD/build/release/${target/_/-}
cd "$started_in"
exec "$program" run "${device[@]}" "$@"
