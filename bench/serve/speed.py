#!/usr/bin/env python3
"""mxgpt serve and llama-server on the same file and cores, alternating.

    build/release/mxgpt convert models/gpt-oss-nano build/nano.gguf --dense q8_0
    python3 -m venv build/serve && build/serve/bin/pip install -r bench/serve/requirements.txt
    build/serve/bin/python bench/serve/speed.py load build/nano.gguf --clients 1,8,32,128
    build/serve/bin/python bench/serve/speed.py first-token build/nano.gguf
    build/serve/bin/python bench/serve/speed.py second-turn build/nano.gguf
    build/serve/bin/python bench/serve/speed.py overhead build/nano.gguf

`load`: the skill prompts, greedy and not streamed; each client sends its next request when it has a response. Both servers
compute the same tokens. `first-token`: the same prompts as streams, one connection each, until the first text arrives.
`second-turn`: the cached share of the prompt in the second turn of a chat. `overhead`: tokens per second of one long
response, compared with `mxgpt bench`.
Each round starts a new server with one slot per client and empty caches. Both compute with --threads threads;
llama-server's package is compiled for AVX2, and MXGPT_ISA=avx2 limits mxgpt to it.
"""

import argparse
import asyncio
import json
import os
import pathlib
import random
import statistics
import subprocess
import time

from servers import ROOT, drive, llama_server, mxgpt, request, running, skills

CONTEXT = 1024  # enough for a skill prompt and its response
ANALYSIS = "<|channel|>analysis<|message|>"


def cpu_seconds(pid=None):
    """CPU time of the machine, or of a process."""
    if pid is None:
        fields = pathlib.Path("/proc/stat").read_text().split()[1:9]
        ticks = sum(map(int, fields)) - int(fields[3]) - int(fields[4])
    else:
        ticks = sum(map(int, pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


class Turn:
    """Measures time, and the CPU time that other processes used meanwhile."""

    def __init__(self, server):
        self.pids = (server.process.pid, os.getpid())

    def __enter__(self):
        self.before = cpu_seconds(), sum(map(cpu_seconds, self.pids)), time.perf_counter()
        return self

    def __exit__(self, *_):
        machine, own, clock = self.before
        self.seconds = time.perf_counter() - clock
        others = cpu_seconds() - machine - (sum(map(cpu_seconds, self.pids)) - own)
        self.others = others / self.seconds


def start(name, options, clients):
    if name == "mxgpt":
        return mxgpt(
            options.mxgpt,
            "-m",
            options.model,
            "--sequences",
            clients,
            "--threads",
            options.threads,
            "--kv-tokens",
            max(65536, clients * CONTEXT),
        )
    return llama_server(options.model, clients, options.context, options.threads)


def prompts(count):
    chosen = skills()
    random.Random(1).shuffle(chosen)
    return [skill["prompt"] for skill in chosen[:count]]


def in_turns(options, clients, measure):
    """Runs measure(server) for each server, options.rounds times; reports disturbance by other processes."""
    results = {name: [] for name in options.only}
    for turn in range(options.rounds):
        for name in options.only:
            with running(start(name, options, clients)) as server:
                with Turn(server) as watch:
                    result = measure(server, watch)
            results[name].append(result(watch.seconds) if callable(result) else result)
            note = f", other processes used {watch.others:.0%} of a core" if watch.others > 0.05 else ""
            print(f"  {name}, {clients} clients: {results[name][-1]}{note}", flush=True)
    return results


def median_row(results, digits):
    values = [statistics.median(results[name]) for name in results]
    ratio = [f"{values[0] / values[1]:.2f}"] if len(values) == 2 else []
    return [f"{v:.{digits}f}" for v in values] + ratio


def load(options):
    rows = []
    for clients in options.clients:
        count = max(options.requests, clients)
        bodies = [{"prompt": p, "max_tokens": 320, "temperature": 0} for p in prompts(count)]

        def measure(server, _, bodies=bodies, clients=clients):
            answers = [json.loads(a) for a in asyncio.run(drive(server.port, bodies, clients))]
            tokens = sum(a["usage"]["completion_tokens"] for a in answers)
            return lambda seconds: (round(len(bodies) / seconds, 2), round(tokens / seconds, 1))

        results = in_turns(options, clients, measure)
        for i, unit in enumerate(("requests/s", "tokens/s")):
            row = median_row({name: [r[i] for r in all_of] for name, all_of in results.items()}, 1)
            rows.append([f"{clients} clients, {unit}", *row])
    return rows


def first_token(options):
    clients = options.clients[0] if len(options.clients) == 1 else 8
    bodies = [
        {"prompt": p + ANALYSIS, "max_tokens": 64, "temperature": 0, "stream": True} for p in prompts(options.requests)
    ]

    def measure(server, _):
        waits = []

        async def one(body):
            begun = time.perf_counter()
            seen = []

            def look(out):
                if not seen and b'"text":"' in out and out.count(b'"text":"') > out.count(b'"text":""'):
                    seen.append(time.perf_counter() - begun)

            await request(server.port, body, on_bytes=look)
            waits.extend(seen)

        async def client(waiting):
            for body in waiting:
                await one(body)

        async def all_clients():
            waiting = iter(bodies)
            await asyncio.gather(*(client(waiting) for _ in range(clients)))

        asyncio.run(all_clients())
        waits.sort()
        return round(statistics.median(waits) * 1e3, 1), round(waits[int(len(waits) * 0.95)] * 1e3, 1)

    results = in_turns(options, clients, measure)
    return [
        [f"{clients} clients, {what} ms", *median_row({n: [r[i] for r in rs] for n, rs in results.items()}, 1)]
        for i, what in enumerate(("median", "95th percentile"))
    ]


def second_turn(options):
    options.context = 8192
    story = " ".join(
        random.Random(2).choices("the river runs past a red house on hill seven where Anna sings".split(), k=2000)
    )
    messages = [{"role": "user", "content": "Read this. " + story}]

    def measure(server, _):
        def ask():
            body = {"messages": messages, "temperature": 0, "max_tokens": 200}
            status, _, out = asyncio.run(request(server.port, body, "/v1/chat/completions"))
            assert status == 200, out
            return json.loads(out)

        del messages[1:]
        answer = ask()["choices"][0]["message"]
        messages.append({"role": "assistant", "content": answer["content"] or "Yes."})
        messages.append({"role": "user", "content": "And who sings?"})
        usage = ask()["usage"]
        return round(usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"], 4)

    return [["cached share of the second prompt", *median_row(in_turns(options, 1, measure), 3)]]


def overhead(options):
    options.only = ["mxgpt"]
    (prompt,) = prompts(1)
    tokens = 512
    rates = {"bench": [], "whole": [], "stream": []}
    with running(start("mxgpt", options, 1)) as server:
        ask = {"prompt": prompt + ANALYSIS, "max_tokens": tokens, "temperature": 1, "ignore_eos": True}

        def timed(body):
            begun = time.perf_counter()
            out = asyncio.run(request(server.port, body))[2]
            return time.perf_counter() - begun, out

        depth = json.loads(timed({**ask, "max_tokens": 1})[1])["usage"]["prompt_tokens"]
        for seed in range(options.rounds):
            command = [
                options.mxgpt,
                "bench",
                "--model",
                options.model,
                "--format",
                "json",
                "--threads",
                options.threads,
                "--repetitions",
                "3",
                "--prefill",
                "16",
                "--decode",
                tokens,
                "--depth",
                depth,
            ]
            out = json.loads(subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True).stdout)
            rates["bench"] += [r for one in out["results"] if one["work"] == "decode" for r in one["rates"]]
            for _ in range(3):
                for kind, more in (("whole", {}), ("stream", {"stream": True})):
                    body = {**ask, "seed": seed, **more}
                    # The prompt is cached: the time of one token is the fixed cost.
                    one, many = timed({**body, "max_tokens": 1})[0], timed(body)[0]
                    rates[kind].append((tokens - 1) / (many - one))
    middle = {kind: statistics.median(values) for kind, values in rates.items()}
    options.only = ["", "", ""]
    return [
        [kind, f"{rate:.0f} tok/s", f"{1e6 / rate:.1f} us per token", f"{middle['bench'] / rate - 1:+.1%}"]
        for kind, rate in middle.items()
    ]


def numbers(text):
    return [int(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = {"load": load, "first-token": first_token, "second-turn": second_turn, "overhead": overhead}
    parser.add_argument("what", choices=kinds)
    parser.add_argument("model", help="a GGUF file of gpt-oss-nano")
    parser.add_argument("--clients", type=numbers, default=[1, 8, 32, 128])
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mxgpt", default=str(ROOT / "build/release/mxgpt"), help="the program")
    parser.add_argument("--only", type=lambda text: text.split(","), default=["mxgpt", "llama-server"])
    options = parser.parse_args()
    options.context = CONTEXT
    rows = kinds[options.what](options)
    heads = (["", *options.only, "ratio"])[: len(rows[0])]
    print("\n".join("| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(rows[0]), *rows]))


if __name__ == "__main__":
    main()
