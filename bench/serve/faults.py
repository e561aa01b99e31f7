#!/usr/bin/env python3
"""What clients and machines do to a server: they vanish, stall, ask too much, end it.

    build/serve/bin/python bench/serve/faults.py [vanish stall sigterm kill overflow memory]

vanish: 1,000 clients go in every state, while a witness's answers stay what they were; then nothing is left in work.
stall: readers that take nothing are dropped, and the others never wait. sigterm: 64 streams end or are told.
kill: after kill -9 the same port serves again. overflow: a full queue answers 429 with Retry-After at once.
memory: after 20,000 requests of all kinds it is what it was after 2,000, within 2%.
"""

import argparse
import asyncio
import collections
import json
import os
import random
import re
import signal
import socket
import sys
import time

from servers import ROOT, mxgpt, request, running

LONG = {"prompt": "Once upon a time", "max_tokens": 20000, "temperature": 1.5, "ignore_eos": True, "stream": True}
ASK = {"messages": [{"role": "user", "content": "What is the capital of Norway?"}], "temperature": 0}


def in_work(server):
    requests = json.loads(server.get("/health"))["requests"]
    return requests["running"] + requests["queued"]


def metric(server, name):
    return float(re.search(rf"^{re.escape(name)} (\S+)", server.get("/metrics"), re.M)[1])


async def idle(server, seconds=60):
    """Seconds until nothing is in work."""
    begun = time.perf_counter()
    while await asyncio.to_thread(in_work, server):
        assert time.perf_counter() - begun < seconds, f"{in_work(server)} choices are still in work"
        await asyncio.sleep(0.05)
    return time.perf_counter() - begun


async def answer(server):
    status, _, body = await request(server.port, ASK, "/v1/chat/completions")
    assert status == 200, body
    return json.loads(body)["choices"][0]["message"]


async def vanish(server, draw, count):
    """One client; the state in which it went."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    kind = draw.choice(["connect", "header", "body", "work", "stream"])
    body = json.dumps({**LONG, "stream": kind == "stream", "n": draw.choice([1, 1, 3]),
                       "prompt": " ".join(draw.choices("the red house by a river sings".split(), k=draw.choice([5, 500, 3000])))}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
    sent = {"connect": b"", "header": head[: draw.randrange(1, len(head))], "body": head + body[: draw.randrange(len(body))]}
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
    if draw.random() < 0.5:  # a reset instead of an end
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
    return f"{dict(count)}; {asked} answers of the witness unchanged; nothing in work {seconds:.2f} s later"


async def readers_stall(server, options):
    body = json.dumps({**LONG, "logprobs": 20}).encode()
    stalled = []
    for _ in range(8):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", server.port))
        one.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        stalled.append(one)
    begun, slowest = time.perf_counter(), 0
    while await asyncio.to_thread(in_work, server):
        asked = time.perf_counter()
        await answer(server)
        slowest = max(slowest, time.perf_counter() - asked)
        assert asked - begun < 300, server.log[-20:]
        await asyncio.sleep(0.2)
    for one in stalled:
        one.close()
    return f"8 stalled readers dropped within {time.perf_counter() - begun:.0f} s; the slowest other answer took {slowest:.2f} s"


async def sigterm(server, options):
    async def stream(seed):
        try:
            # Some end within the drain, some cannot.
            body = {**LONG, "seed": seed, "max_tokens": 20 if seed % 2 else 20000}
            return (await request(server.port, body))[2]
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            return repr(error).encode()

    streams = [asyncio.create_task(stream(seed)) for seed in range(64)]
    while await asyncio.to_thread(in_work, server) < 32:
        await asyncio.sleep(0.01)
    begun = time.perf_counter()
    server.process.send_signal(signal.SIGTERM)
    outs = await asyncio.gather(*streams)
    code = await asyncio.to_thread(server.process.wait, 60)
    seconds = time.perf_counter() - begun
    told = sum(b"shutting down" in out and out.endswith(b"data: [DONE]\n\n") for out in outs)
    ended = sum(b'"finish_reason":"length"' in out and out.endswith(b"data: [DONE]\n\n") for out in outs)
    assert code == 0 and told + ended == 64 and told and ended, (code, told, ended, [o[-100:] for o in outs][:3])
    return f"of 64 streams {ended} came to their end, {told} were told; over after {seconds:.1f} s of a drain of {options.drain}"


async def kill(server, options):
    streams = [asyncio.create_task(request(server.port, LONG)) for _ in range(8)]
    while await asyncio.to_thread(in_work, server) < 8:
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
        answers = [asyncio.create_task(request(server.port, {**LONG, "max_tokens": 200, "stream": False})) for _ in range(200)]
        done = await asyncio.gather(*answers)
        statuses = collections.Counter(status for status, _, _ in done)
        assert set(statuses) == {200, 429} and statuses[200] >= 8, statuses
        refused = [headers for status, headers, _ in done if status == 429]
        assert all(int(headers["retry-after"]) >= 1 for headers in refused), refused[0]
        await answer(server)
        return f"of 200 at once {statuses[200]} were answered, {statuses[429]} refused with Retry-After"


def any_request(number):
    """One of all kinds, no two the same."""
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
        return "/v1/chat/completions", {**chat, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
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
    kinds = {"vanish": clients_vanish, "stall": readers_stall, "sigterm": sigterm, "kill": kill, "overflow": overflow, "memory": memory}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="default: all")
    parser.add_argument("--mxgpt", default=os.environ.get("MXGPT", str(ROOT / "build/release/mxgpt")), help="the program")
    parser.add_argument("--clients", type=int, default=1000, help="that vanish")
    parser.add_argument("--requests", type=int, default=20000, help="of memory")
    parser.add_argument("--kv-tokens", type=int, default=32768, help="of the server; memory grows until all were used once")
    parser.add_argument("--drain", type=int, default=8, help="seconds after SIGTERM")
    options = parser.parse_args()
    failed = 0
    for name in options.what or kinds:
        try:
            if name == "overflow":
                text = await overflow(options)
            else:
                with running(mxgpt(options.mxgpt, "--kv-tokens", options.kv_tokens, "--drain", options.drain)) as server:
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
