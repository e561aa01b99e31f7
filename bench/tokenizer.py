#!/usr/bin/env python3
"""Encoding and loading speed of mxgpt and the `tokenizers` package, one thread each, alternating over one corpus.

Run with the tests' Python: build/python/bin/python bench/tokenizer.py [--build build/release] [TEXT FILE…]
"""

import argparse
import glob
import json
import os
import statistics
import subprocess
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def corpus():
    """The project's own prose, code and data, one text per file."""
    texts = []
    for pattern in ["*.md", "src/**/*.cpp", "src/**/*.h", "tests/**/*.py", "tests/**/*.jsonl", "models/**/*.jsonl"]:
        for path in sorted(glob.glob(os.path.join(ROOT, pattern), recursive=True)):
            with open(path, encoding="utf-8") as file:
                texts.append(file.read())
    return texts


def ours(program, environment, name):
    """One benchmark of tokenizer_bench: (seconds per iteration, tokens)."""
    command = [program, f"--benchmark_filter=^{name}$", "--benchmark_format=json", "--benchmark_min_time=0.5"]
    done = subprocess.run(command, env=os.environ | environment, check=True, capture_output=True)
    result = json.loads(done.stdout)["benchmarks"][0]
    return result["real_time"] / 1e3, result.get("tokens")


def theirs(tokenizer, texts):
    start = time.perf_counter()
    tokens = sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)
    return time.perf_counter() - start, tokens


def their_load(path):
    start = time.perf_counter()
    tokenizers.Tokenizer.from_file(path)
    return time.perf_counter() - start


def spread(values, unit):
    return f"median {statistics.median(values):7.3f} {unit}   from {min(values):.3f} to {max(values):.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build/release"), help="the build folder")
    parser.add_argument("--tokenizer", help="a tokenizer.json instead of that of gpt-oss")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("text", nargs="*", help="text files to encode instead of the project's own")
    arguments = parser.parse_args()
    path = arguments.tokenizer or os.path.join(arguments.build, "fixtures/gpt-oss-tokenizer/tokenizer.json")
    program = os.path.join(arguments.build, "bench/tokenizer_bench")
    texts = [open(name, encoding="utf-8").read() for name in arguments.text] or corpus()
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    oracle = tokenizers.Tokenizer.from_file(path)

    speeds, loads = {"mxgpt": [], "tokenizers": []}, {"mxgpt": [], "tokenizers": []}
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(text) + "\n" for text in texts)
        file.flush()
        environment = {"MXGPT_BENCH_TOKENIZER": path, "MXGPT_BENCH_TEXTS": file.name}
        for _ in range(arguments.rounds):
            our_time, our_tokens = ours(program, environment, "encode")
            their_time, their_tokens = theirs(oracle, texts)
            assert our_tokens == their_tokens, f"{our_tokens} tokens, but {their_tokens} by the package"
            speeds["mxgpt"].append(megabytes / our_time)
            speeds["tokenizers"].append(megabytes / their_time)
            loads["mxgpt"].append(ours(program, environment, "load")[0])
            loads["tokenizers"].append(their_load(path))

    print(f"{len(texts)} texts, {megabytes:.1f} MB, {arguments.rounds} rounds; tokenizers {tokenizers.__version__}")
    for name in speeds:
        print(f"encode  {name:<11} {spread(speeds[name], 'MB/s')}")
    ratios = [a / b for a, b in zip(speeds["mxgpt"], speeds["tokenizers"], strict=True)]
    print(f"encode  ratio       {spread(ratios, 'x   ')}")
    for name in loads:
        print(f"load    {name:<11} {spread(loads[name], 's   ')}")


if __name__ == "__main__":
    main()
