#!/bin/sh
# Writes the reports in docs/numerics/: quantizes both models of the repository and compares them over
# tests/data/eval-text.jsonl. Needs the tests' release build; takes ten minutes. docs/benchmarks/ discusses the results.
#
#     scripts/numerics.sh [gpt-oss-nano | gpt2-nano]
set -eu
cd "$(dirname "$0")/.."
mkdir -p build/numerics docs/numerics

# A bound that fails or is inconclusive is a result, not an error.
compare() {
    report=$1
    shift
    echo "== $report"
    build/release/mxgpt validate "$@" --html "docs/numerics/$report.html" || echo "(exit code $?)"
}

# quantize NAME RECIPE [SOURCE-OPTIONS...] gives build/numerics/$model-NAME.gguf
quantize() {
    name=$1
    shift
    build/release/mxgpt quantize "$source" "build/numerics/$model-$name.gguf" --force --to "$@" > /dev/null
}

report() {
    model=$1 source=$2 text=tests/data/eval-text.jsonl files=build/numerics/$1
    for recipe in q8_0 q4_k_m mxfp4-all; do quantize $recipe $recipe; done
    compare "$model-exact" --reference "$source/reference-logits.safetensors" --candidate "$source" \
        --precision exact --max-logprob-error 2e-3 --max-kld 1e-6
    compare "$model-fidelity" --reference "$files-q8_0.gguf" --candidate "$files-q8_0.gguf" --text $text \
        --max-kld 2e-3 --min-top1 0.985 --max-ln-ppl 0.005
    compare "$model-mxfp4-vs-q4_k_m" --reference "$files-q4_k_m.gguf" --candidate "$files-mxfp4-all.gguf" \
        --source "$source" --precision exact --text $text --equivalence 0.01
    compare "$model-mixed-vs-q4_k_m" --reference "$files-q4_k_m.gguf" --candidate "$files-mixed.gguf" \
        --source "$source" --precision exact --text $text --equivalence 0.01
}

if [ "${1:-gpt-oss-nano}" = gpt-oss-nano ]; then
    model=gpt-oss-nano source=models/gpt-oss-nano
    quantize mixed mxfp4-moe
    report gpt-oss-nano models/gpt-oss-nano
fi
if [ "${1:-gpt2-nano}" = gpt2-nano ]; then
    # MXFP4 where it costs least: in the MLPs, which hold most of the weights.
    model=gpt2-nano source=build/release/fixtures/gpt2-nano
    quantize mixed mxfp4-all --scale-search --tensor token_embd.weight=q6_k --tensor 'blk.*.attn_*.weight=q8_0'
    report gpt2-nano build/release/fixtures/gpt2-nano
fi
