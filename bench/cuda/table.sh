#!/usr/bin/env bash
# Measures gpt-oss-20b's shape on a machine with a GPU (docs/benchmarks/2026-11-h100.md has the goals):
#   bench/cuda/table.sh [BUILD] [decode] [prefill] [streams] [memory] [profile]
# BUILD (default: build/release) has `mxgpt`. Without parts all are measured, in some eight minutes on an H100
# with 16 cores. MODEL names the file; it is made if it is missing (12.1 GB). Logs are left in BUILD/logs.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=build/release parts=
for argument; do
  case $argument in
    decode | prefill | streams | memory | profile) parts+=" $argument" ;;
    *) build=$argument ;;
  esac
done
parts=${parts:- memory decode prefill streams profile}
logs=$build/logs model=${MODEL:-$build/synth-20b.gguf} mxgpt=$build/mxgpt
mkdir -p "$logs"
failed=0
nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv,noheader
[[ -e $model ]] || "$mxgpt" synth --like gpt-oss-20b "$model" >"$logs/synth.log" 2>&1 || exit 1
cat "$model" >/dev/null # into the page cache

# measure NAME OPTIONS…: lines of `mxgpt bench` about it.
measure() {
  local name=$1
  shift
  if ! timeout "${LIMIT:-150}" "$mxgpt" bench -m "$model" --device cuda --repetitions "${REPETITIONS:-3}" "$@" >"$logs/$name.log" 2>&1; then
    echo "FAILS $name:"
    tail -5 "$logs/$name.log"
    failed=1
  fi
  grep -E '^(memory|prefill|decode) ' "$logs/$name.log"
}

# peak NAME COMMAND…: what the GPU had in use at most meanwhile, and the log's end.
peak() {
  local name=$1
  shift
  nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 50 >"$logs/used" &
  local watcher=$!
  timeout "${LIMIT:-150}" "$@" >"$logs/$name.log" 2>&1 || { echo "FAILS $name" && failed=1; }
  kill $watcher
  wait $watcher 2>/dev/null
  printf '%s: at most %s MiB in use\n' "$name" "$(sort -n "$logs/used" | tail -1)"
  tail -c 400 "$logs/$name.log" | tail -4
}

text() { printf 'The harbour wakes before the town does. %.0s' $(seq "$1"); }

for part in $parts; do
  echo "-- $part"
  case $part in
    memory) # 4 GiB of cache below a budget of 24 GiB, and what the plan says; the first token of some 2,000
      "$mxgpt" plan -m "$model" --device cuda --ctx 90112 --parallel 2 --budget 24GiB | tail -5
      peak cache_of_4GiB "$mxgpt" bench -m "$model" --device cuda --vram-budget 24GiB --batch 2 --depth 90000 \
        --decode 16 --prefill 64 --repetitions 1 --no-bandwidth
      grep -h '^Loaded' "$logs/cache_of_4GiB.log"
      "$mxgpt" run -m "$model" --device cuda --raw --temperature 0 --max-tokens 2 --ctx 8192 --stats "$(text 222)" \
        2>&1 >/dev/null | tail -1
      peak run_12GiB "$mxgpt" run -m "$model" --device cuda --raw --temperature 0 --max-tokens 8 --ctx 8192 \
        --vram-budget 12GiB --stats 'Once upon a time'
      grep -h VRAM_OOM "$logs/run_12GiB.log" | tail -2 | cut -c1-200
      ;;
    decode)
      measure decode --decode 256 --depth 0 --prefill 512
      measure decode_deep --decode 128 --depth 8192,32768 --prefill 512
      ;;
    prefill) measure prefill --prefill 512,2048,8192 --decode 0 ;;
    streams) measure streams --batch 2,4,8,32,128 --decode 64 --prefill 512 ;;
    profile)
      "$mxgpt" bench -m "$model" --device cuda --decode 64 --prefill 2048 --repetitions 1 --no-bandwidth \
        --profile "$logs/profile.csv" >/dev/null 2>&1 || failed=1
      head -24 "$logs/profile.csv"
      ;;
  esac
done
exit $failed
