#!/usr/bin/env python3
"""Compares mxgpt with llama.cpp and ik_llama.cpp on the same work, in alternation.

    python3 -m venv build/peers
    build/peers/bin/pip install llama-cpp-python ik-llama-cpp-python
    build/peers/bin/python bench/compare_peers.py model.gguf --prefill 128,512 --decode 32

llama-cpp-python is compiled on installation, for the local machine; ik-llama-cpp-python is compiled for AVX2.
To compare on AVX2, build the former with
CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON" and set MXGPT_ISA=avx2.

Each engine runs in its own process, one at a time, alternating for several rounds, so that disturbances affect all of
them. A measurement is one library call per prompt, or one per decoded token (llama_decode), without sampling. All
engines decode the same token ids. Times exclude loading and one warm-up.
"""

import argparse
import importlib
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = {"llama.cpp": "llama_cpp.llama_cpp", "ik_llama.cpp": "ik_llama_cpp._ctypes_api"}


def numbers(text):
    return [int(part) for part in text.split(",") if part]


def works(options):
    """(kind, tokens, depth) of every measurement."""
    return [("prefill", n, 0) for n in options.prefill] + [
        ("decode", options.decode, depth) for depth in (options.depth if options.decode else [])
    ]


class Peer:
    """A model in one of the libraries, through its C interface."""

    def __init__(self, module, model, threads, context, repack):
        self.api = api = importlib.import_module(module)
        if hasattr(api, "llama_log_set"):
            self.silent = api.llama_log_callback(lambda level, text, data: None)
            api.llama_log_set(self.silent, None)
        api.llama_backend_init()
        params = api.llama_model_default_params()
        params.n_gpu_layers = 0
        if not repack and hasattr(params, "use_extra_bufts"):
            params.use_extra_bufts = False
        self.model = api.llama_model_load_from_file(os.fsencode(model), params)
        if not self.model:
            sys.exit(f"{module} cannot load {model}")
        params = api.llama_context_default_params()
        params.n_ctx = context
        params.n_threads = params.n_threads_batch = threads
        self.context = api.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit(f"{module} cannot make a context of {context} tokens")
        self.step = params.n_batch
        self.batch = api.llama_batch_init(self.step, 0, 1)
        self.vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))

    def clear(self):
        if hasattr(self.api, "llama_memory_clear"):
            self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        else:
            self.api.llama_kv_cache_clear(self.context)

    def feed(self, begin, count):
        """One call, `count` tokens from position `begin` on; logits of the last, as the caller would need."""
        batch = self.batch
        batch.n_tokens = count
        for i in range(count):
            batch.token[i] = token_at(begin + i, self.vocabulary)
            batch.pos[i] = begin + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = i == count - 1
        start = time.perf_counter()
        if self.api.llama_decode(self.context, batch) != 0:
            sys.exit("llama_decode failed")
        return time.perf_counter() - start

    def seconds(self, kind, tokens, depth):
        self.clear()
        if kind == "prefill":
            return sum(self.feed(at, min(self.step, tokens - at)) for at in range(0, tokens, self.step))
        for at in range(0, depth, self.step):
            self.feed(at, min(self.step, depth - at))
        return sum(self.feed(depth + i, 1) for i in range(tokens))


def token_at(position, vocabulary):
    """The ids that `mxgpt bench` takes as well: any will do that are spread over the vocabulary."""
    return (position * 2654435761 + 12345) % 4294967296 % vocabulary


def work_of_peer(name, options):
    """Runs in a process of its own and prints one JSON object."""
    context = max([n for _, n, _ in works(options)] + [d + options.decode for d in options.depth])
    peer = Peer(PEERS[name], options.model, options.threads, (context + 255) // 256 * 256, not options.no_repack)
    peer.seconds("prefill", 16, 0)
    rates = [
        [tokens / peer.seconds(kind, tokens, depth) for _ in range(options.repetitions)]
        for kind, tokens, depth in works(options)
    ]
    print(json.dumps(rates))


def rates_of_peer(name, options):
    command = [sys.executable, __file__, "--worker", name, *sys.argv[1:]]
    done = subprocess.run(command, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{name} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rates_of_mxgpt(options):
    command = [
        options.mxgpt,
        "bench",
        "--model",
        options.model,
        "--format",
        "json",
        "--threads",
        str(options.threads),
        "--repetitions",
        str(options.repetitions),
        "--prefill",
        ",".join(map(str, options.prefill)),
        "--decode",
        str(options.decode),
        "--depth",
        ",".join(map(str, options.depth)),
    ]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    found = {(r["work"], r["tokens"], r["depth"]): r["rates"] for r in report["results"]}
    return [found[work] for work in works(options)]


def cell(rates):
    digits = 0 if statistics.median(rates) >= 100 else 1
    return f"{statistics.median(rates):.{digits}f} ({min(rates):.{digits}f}–{max(rates):.{digits}f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--prefill", type=numbers, default=[128, 512], help="prompt sizes (default: 128,512)")
    parser.add_argument("--decode", type=int, default=32, help="tokens to decode at each depth; 0: none")
    parser.add_argument("--depth", type=numbers, default=[0], help="tokens already in the context (default: 0)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="rounds per engine")
    parser.add_argument("--repetitions", type=int, default=2, help="repetitions of each measurement per round")
    parser.add_argument("--mxgpt", default=str(ROOT / "build/release/mxgpt"), help="path of the mxgpt program")
    parser.add_argument("--only", help="engines to run, comma separated: mxgpt, llama.cpp, ik_llama.cpp")
    parser.add_argument(
        "--no-repack", action="store_true", help="let llama.cpp map the file instead of copying the weights"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work_of_peer(options.worker, options)

    engines = options.only.split(",") if options.only else ["mxgpt", *PEERS]
    for name in engines:
        if name in PEERS and importlib.util.find_spec(PEERS[name].split(".")[0]) is None:
            sys.exit(f"{name} is not installed for {sys.executable}.\n{__doc__}")
    rates = {name: [[] for _ in works(options)] for name in engines}
    for turn in range(options.rounds):
        for name in engines:
            print(f"round {turn + 1} of {options.rounds}: {name}", file=sys.stderr, flush=True)
            found = rates_of_mxgpt(options) if name == "mxgpt" else rates_of_peer(name, options)
            for all_rates, new in zip(rates[name], found):
                all_rates += new

    print(
        f"{pathlib.Path(options.model).name}, {options.threads} threads, tok/s: median (least–most) of "
        f"{options.rounds * options.repetitions}, {options.rounds} turns each\n"
    )
    ratio = ["ratio to the best peer"] if "mxgpt" in engines and len(engines) > 1 else []
    print("| " + " | ".join(["work", *engines, *ratio]) + " |")
    print("| " + " | ".join(["---"] * (1 + len(engines) + len(ratio))) + " |")
    for i, (kind, tokens, depth) in enumerate(works(options)):
        row = [f"{kind} {tokens}" + (f" at {depth}" if depth else ""), *(cell(rates[name][i]) for name in engines)]
        if ratio:
            best = max(statistics.median(rates[name][i]) for name in engines if name != "mxgpt")
            row.append(f"{statistics.median(rates['mxgpt'][i]) / best:.2f}")
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
