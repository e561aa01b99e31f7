#!/usr/bin/env python3
"""Fault injection: clients that disconnect or stall, overload, signals, a full disk, memory growth.

    build/serve/bin/python bench/serve/faults.py [vanish stall sigterm kill overflow load stored disk memory]

vanish: 1,000 clients disconnect in every state; the responses of a witness do not change, and no request stays active.
stall: clients that do not read are dropped, and others are not delayed. sigterm: 64 streams end normally or with an error.
kill: after kill -9 the same port serves again. overflow: a full queue returns 429 with Retry-After at once.
load: 2,000 requests by 32 clients to /v1/responses and /v1/messages, streamed or not, give the same text as one at a time.
stored: kill -9 under such load; every response that was returned is still stored, unchanged.
disk: the 1 MB file system of responses and log is full (mounting it needs root); generation is unaffected.
memory: resident memory after 20,000 requests of all kinds is within 2% of that after 2,000.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

from servers import ROOT, mxgpt, request, running

LONG = {"prompt": "Once upon a time", "max_tokens": 20000, "temperature": 1.5, "ignore_eos": True, "stream": True}
ASK = {"messages": [{"role": "user", "content": "What is the capital of Norway?"}], "temperature": 0}


def active_requests(server):
    requests = json.loads(server.get("/health"))["requests"]
    return requests["running"] + requests["queued"]


def metric(server, name):
    return float(re.search(rf"^{re.escape(name)} (\S+)", server.get("/metrics"), re.M)[1])


async def idle(server, seconds=60):
    """Waits until no request is active; returns the seconds."""
    begun = time.perf_counter()
    while await asyncio.to_thread(active_requests, server):
        assert time.perf_counter() - begun < seconds, f"{active_requests(server)} choices are still active"
        await asyncio.sleep(0.05)
    return time.perf_counter() - begun


async def answer(server):
    status, _, body = await request(server.port, ASK, "/v1/chat/completions")
    assert status == 200, body
    return json.loads(body)["choices"][0]["message"]


async def vanish(server, draw, count):
    """One client that disconnects in a random state."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    kind = draw.choice(["connect", "header", "body", "work", "stream"])
    body = json.dumps(
        {
            **LONG,
            "stream": kind == "stream",
            "n": draw.choice([1, 1, 3]),
            "prompt": " ".join(draw.choices("the red house by a river sings".split(), k=draw.choice([5, 500, 3000]))),
        }
    ).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
    sent = {
        "connect": b"",
        "header": head[: draw.randrange(1, len(head))],
        "body": head + body[: draw.randrange(len(body))],
    }
    writer.write(sent.get(kind, head + body))
    try:
        await writer.drain()
        if kind == "stream":
            for _ in range(draw.randrange(1, 20)):
                await asyncio.wait_for(reader.readline(), 20)
        else:
            await asyncio.sleep(draw.choice([0, 0.001, 0.01, 0.1, 0.5]))
    except (TimeoutError, ConnectionError):
        pass
    if draw.random() < 0.5:  # a reset instead of a close
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.close()
    count[kind] += 1


async def clients_vanish(server, options):
    expected = await answer(server)
    count, wrong, ended = collections.Counter(), [], asyncio.Event()

    async def witness():
        asked = 0
        while not ended.is_set():
            if (got := await answer(server)) != expected:
                wrong.append(got)
            asked += 1
        return asked

    watching = asyncio.create_task(witness())
    waiting = iter(range(options.clients))

    async def some():
        for i in waiting:
            await vanish(server, random.Random(i), count)

    await asyncio.gather(*(some() for _ in range(50)))
    ended.set()
    asked = await watching
    seconds = await idle(server)
    used = metric(server, 'mxgpt_kv_pages{layers="full",state="used"}')
    assert not wrong and used == 0 and await answer(server) == expected, (wrong[:1], used)
    return f"{dict(count)}; {asked} responses of the witness unchanged; idle {seconds:.2f} s later"


async def readers_stall(server, options):
    body = json.dumps({**LONG, "logprobs": 20}).encode()
    stalled = []
    for _ in range(8):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", server.port))
        one.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        stalled.append(one)
    begun, slowest = time.perf_counter(), 0
    while await asyncio.to_thread(active_requests, server):
        asked = time.perf_counter()
        await answer(server)
        slowest = max(slowest, time.perf_counter() - asked)
        assert asked - begun < 300, server.log[-20:]
        await asyncio.sleep(0.2)
    for one in stalled:
        one.close()
    return f"8 stalled clients dropped within {time.perf_counter() - begun:.0f} s; the slowest other response took {slowest:.2f} s"


async def sigterm(server, options):
    async def stream(seed):
        try:
            # Some end within the shutdown timeout, some cannot.
            body = {**LONG, "seed": seed, "max_tokens": 20 if seed % 2 else 20000}
            return (await request(server.port, body))[2]
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            return repr(error).encode()

    streams = [asyncio.create_task(stream(seed)) for seed in range(64)]
    while await asyncio.to_thread(active_requests, server) < 32:
        await asyncio.sleep(0.01)
    begun = time.perf_counter()
    server.process.send_signal(signal.SIGTERM)
    outs = await asyncio.gather(*streams)
    code = await asyncio.to_thread(server.process.wait, 60)
    seconds = time.perf_counter() - begun
    told = sum(b"shutting down" in out and out.endswith(b"data: [DONE]\n\n") for out in outs)
    ended = sum(b'"finish_reason":"length"' in out and out.endswith(b"data: [DONE]\n\n") for out in outs)
    assert code == 0 and told + ended == 64 and told and ended, (code, told, ended, [o[-100:] for o in outs][:3])
    return f"of 64 streams {ended} ended normally, {told} with an error; stopped after {seconds:.1f} s of at most {options.drain}"


async def kill(server, options):
    streams = [asyncio.create_task(request(server.port, LONG)) for _ in range(8)]
    while await asyncio.to_thread(active_requests, server) < 8:
        await asyncio.sleep(0.01)
    server.process.kill()
    ends = await asyncio.gather(*streams, return_exceptions=True)
    assert all(isinstance(e, (asyncio.IncompleteReadError, ConnectionError)) for e in ends), ends
    begun = time.perf_counter()
    with running(mxgpt(options.mxgpt, port=server.port)) as again:
        await answer(again)
        return f"the port answers again after {time.perf_counter() - begun:.2f} s"


async def overflow(options):
    with running(mxgpt(options.mxgpt, "--sequences", 4, "--queue", 8, "--drain", 0)) as server:
        answers = [
            asyncio.create_task(request(server.port, {**LONG, "max_tokens": 200, "stream": False})) for _ in range(200)
        ]
        done = await asyncio.gather(*answers)
        statuses = collections.Counter(status for status, _, _ in done)
        assert set(statuses) == {200, 429} and statuses[200] >= 8, statuses
        refused = [headers for status, headers, _ in done if status == 429]
        assert all(int(headers["retry-after"]) >= 1 for headers in refused), refused[0]
        await answer(server)
        return f"of 200 at once {statuses[200]} were answered, {statuses[429]} refused with Retry-After"


COUNTRIES = (
    "Norway Denmark Sweden Finland France Spain Italy Germany Poland Greece Japan China India Egypt Kenya Peru".split()
)


def question(number):
    """Path and body of one of four kinds of request."""
    text = f"What is the capital of {COUNTRIES[number // 4 % len(COUNTRIES)]}?"
    body = {"temperature": 0, "stream": number % 2 == 1}
    if number % 4 < 2:
        return "/v1/responses", {**body, "input": text, "reasoning": {"effort": "low"}}
    return "/v1/messages", {**body, "messages": [{"role": "user", "content": text}], "max_tokens": 200}


def said(path, body, out):
    """The text of a response."""
    if not body["stream"]:
        answer = json.loads(out)
    else:
        events = [json.loads(line[6:]) for line in out.decode().splitlines() if line.startswith("data: ")]
        if path == "/v1/messages":
            assert events[-1]["type"] == "message_stop", events[-1]
            return "".join(e["delta"].get("text", "") for e in events if e["type"] == "content_block_delta")
        assert events[-1]["type"] == "response.completed", events[-1]
        answer = events[-1]["response"]
    return answer["content"][-1]["text"] if path == "/v1/messages" else answer["output"][-1]["content"][0]["text"]


async def ask(server, number):
    path, body = question(number)
    status, _, out = await request(server.port, body, path)
    assert status == 200, out
    return said(path, body, out)


async def load(server, options):
    alone = [await ask(server, number) for number in range(4 * len(COUNTRIES))]
    waiting = iter(range(options.asked))

    async def client():
        for number in waiting:
            assert await ask(server, number) == alone[number % len(alone)], number

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(32)))
    seconds = time.perf_counter() - begun
    right = sum(alone[4 * i] == alone[4 * i + 1] == alone[4 * i + 2] == alone[4 * i + 3] for i in range(len(COUNTRIES)))
    assert right == len(COUNTRIES), alone
    return f"{options.asked} responses as one at a time, {options.asked / seconds:.1f} per second; equal in both APIs, streamed or not"


def post(server, body):
    return request(server.port, body, "/v1/responses")


async def stored(options):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "responses.db"
        answered = []
        server = mxgpt(options.mxgpt, "--store", file)

        async def client(number):
            try:
                while len(answered) < options.asked // 4:
                    status, _, out = await post(
                        server, {"input": f"{number}: what is the capital of Norway?", "temperature": 0.7}
                    )
                    assert status == 200, out
                    answered.append(json.loads(out))
                server.process.kill()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass

        await asyncio.gather(*(client(number) for number in range(32)))
        code = server.process.wait(60)
        assert code == -signal.SIGKILL, code
        with running(mxgpt(options.mxgpt, "--store", file)) as again:
            lost = [a["id"] for a in answered if json.loads(again.get("/v1/responses/" + a["id"])) != a]
            kept = metric(again, "mxgpt_stored_responses")
            assert not lost and kept >= len(answered), (len(lost), kept)
        return f"{len(answered)} responses returned before kill -9 to 32 clients are all stored, unchanged; {kept:.0f} in total"


@contextlib.contextmanager
def small_disk():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", folder], check=True)
        try:
            yield pathlib.Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


async def disk(options):
    with small_disk() as folder:
        (folder / "ballast").write_bytes(bytes(300_000))
        log = (folder / "log.txt").open("w")
        with log, running(mxgpt(options.mxgpt, "--store", folder / "responses.db", log_file=log)) as server:
            kept, lost = [], 0

            async def some(count):
                nonlocal lost
                for _ in range(count):
                    status, _, out = await post(
                        server, {"input": "word " * 2000, "max_output_tokens": 4, "temperature": 0}
                    )
                    assert status == 200, out
                    answer = json.loads(out)
                    kept.append(answer) if answer["store"] else None
                    lost += not answer["store"]

            await some(200)
            with (folder / "rest").open("wb", buffering=0) as rest:  # so that no further line can be logged
                with contextlib.suppress(OSError):
                    while True:
                        rest.write(bytes(64))
            await asyncio.gather(*(some(25) for _ in range(8)))
            assert kept and lost and json.loads(server.get("/health"))["status"] == "degraded"
            assert all(json.loads(server.get("/v1/responses/" + a["id"])) == a for a in kept)
            free, before = os.statvfs(folder).f_bavail, len(kept)
            (folder / "ballast").unlink()
            await some(1)
            assert len(kept) == before + 1 and json.loads(server.get("/health"))["status"] == "ready"
            assert server.stop() == 0
        return f"400 responses, {lost} of them not stored ({free} blocks were free); {before} stored ones are intact; storing resumes with free space"


def any_request(number):
    """A request of one of all kinds; no two are equal."""
    draw = random.Random(number)
    words = " ".join(str(draw.randrange(10**6)) for _ in range(12))
    chat = {"messages": [{"role": "user", "content": words}], "max_tokens": 3, "temperature": 1}
    kind = number % 8
    if kind == 0:
        return "/tokenize", {"text": words}
    if kind == 1:
        return "/v1/completions", {"prompt": words, "max_tokens": 4, "logprobs": 2}
    if kind == 2:
        return "/v1/chat/completions", {**chat, "stream": True}
    if kind == 3:
        schema = {"type": "object", "properties": {f"field{number}": {"type": "integer"}}}
        return "/v1/chat/completions", {
            **chat,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        }
    if kind == 4:
        parameters = {"type": "object", "properties": {f"field{number}": {"type": "string"}}}
        tools = [{"type": "function", "function": {"name": f"f{number}", "parameters": parameters}}]
        return "/v1/chat/completions", {**chat, "tools": tools}
    if kind == 5:
        return "/v1/chat/completions", {**chat, f"wrong{number}": 1}
    return "/v1/chat/completions", {**chat, "n": 2, "seed": number, "stop": [words]}


async def memory(server, options):
    waiting = iter(range(options.requests))
    resident = {}

    async def some():
        for i in waiting:
            path, body = any_request(i)
            status, _, out = await request(server.port, body, path)
            assert status == (400 if i % 8 == 5 else 200), out

            if (i + 1) % (options.requests // 10) == 0:
                resident[i + 1] = server.resident()

    await asyncio.gather(*(some() for _ in range(32)))
    await idle(server)
    first, last = resident[options.requests // 10], server.resident()
    grown = last / first - 1
    text = f"{first / 1024:.1f} MiB after {options.requests // 10} requests, {last / 1024:.1f} MiB after {options.requests} ({grown:+.2%})"
    assert grown < 0.02, (text, resident)
    return text


async def main():
    kinds = {
        "vanish": clients_vanish,
        "stall": readers_stall,
        "sigterm": sigterm,
        "kill": kill,
        "overflow": overflow,
        "load": load,
        "stored": stored,
        "disk": disk,
        "memory": memory,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="default: all")
    parser.add_argument(
        "--mxgpt", default=os.environ.get("MXGPT", str(ROOT / "build/release/mxgpt")), help="the program"
    )
    parser.add_argument("--clients", type=int, default=1000, help="clients that disconnect")
    parser.add_argument("--requests", type=int, default=20000, help="requests of the memory test")
    parser.add_argument(
        "--asked", type=int, default=2000, help="requests of the load test; a quarter of them for stored"
    )
    parser.add_argument("--drain", type=int, default=8, help="shutdown timeout in seconds")
    options = parser.parse_args()
    failed = 0
    for name in options.what or kinds:
        try:
            if name in ("overflow", "stored", "disk"):
                text = await kinds[name](options)
            else:
                with running(mxgpt(options.mxgpt, "--drain", options.drain)) as server:
                    text = await kinds[name](server, options)
                    if name not in ("sigterm", "kill"):
                        assert server.stop() == 0, "".join(server.log)[-3000:]
            print(f"{name}: {text}", flush=True)
        except AssertionError as error:
            failed += 1
            print(f"{name} FAILED: {error}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    asyncio.run(main())
