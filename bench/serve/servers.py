"""Launchers of the servers under test, and a cheap client.

llama-server comes from the package xllamacpp, the same program as a Python module, with its own HTTP threads, slots and
continuous batching. The client uses asyncio on plain sockets, because it shares the cores with the server.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NANO = ROOT / "models/gpt-oss-nano"


def skills():
    """The skill prompts of the shipped model: {"skill", "prompt", "expect", …}."""
    return [json.loads(line) for line in (NANO / "skills.jsonl").open(encoding="utf-8")]


class Server:
    """A process that prints its address in its first line; `log` collects its output, except standard error that goes to
    a file."""

    def __init__(self, command, log_file=None):
        self.process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=log_file or subprocess.PIPE, text=True
        )
        found = re.search(r"https?://\S+", self.process.stdout.readline())
        if not found:
            sys.exit(f"{command[0]} did not start" + ("" if log_file else f":\n{self.process.stderr.read()}"))
        self.url = found[0]
        self.port = int(self.url.rsplit(":", 1)[1])
        self.log = []
        for stream in filter(None, (self.process.stdout, self.process.stderr)):
            threading.Thread(target=lambda lines=stream: self.log.extend(lines), daemon=True).start()

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read().decode()

    def resident(self):
        """Resident memory of the process in KiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def stop(self, how=signal.SIGTERM):
        """The exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@contextlib.contextmanager
def running(server):
    try:
        yield server
    finally:
        server.stop()


def mxgpt(program, *arguments, port=0, log_file=None):
    return Server([program, "serve", "--port", port, *arguments], log_file)


def llama_server(model, slots, context, threads):
    """llama-server with `slots` slots of `context` tokens each."""
    return Server([sys.executable, __file__, model, slots, context, threads])


async def request(port, body, path="/v1/completions", on_bytes=None, connection=None):
    """POSTs on the connection, or on a new one; returns status, headers and body. on_bytes is called with the body so far."""
    reader, writer = connection or await asyncio.open_connection("127.0.0.1", port)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    writer.write(
        b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        % (path.encode(), len(data))
        + data
    )
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
    out = bytearray()
    if "content-length" in headers:
        out += await reader.readexactly(int(headers["content-length"]))
    else:
        while size := int(await reader.readuntil(b"\n"), 16):
            out += (await reader.readexactly(size + 2))[:-2]
            if on_bytes:
                on_bytes(out)
        await reader.readline()
    if connection is None:
        writer.close()
    return int(lines[0].split()[1]), headers, bytes(out)


async def drive(port, bodies, clients, **more):
    """Sends all requests from `clients` clients with one connection each; returns the response bodies in order."""
    answers = [None] * len(bodies)
    waiting = iter(range(len(bodies)))

    async def client():
        connection = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        for i in waiting:
            status, headers, body = await request(port, bodies[i], connection=connection, **more)
            if status != 200:
                raise RuntimeError(f"{status}: {body[:500]!r}")
            answers[i] = body
            if headers.get("connection") == "close":
                connection[1].close()
                connection = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        connection[1].close()

    await asyncio.gather(*(client() for _ in range(min(clients, len(bodies)))))
    return answers


def _serve_llama(model, slots, context, threads):
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_parallel = slots
    params.n_ctx = slots * context
    params.n_gpu_layers = 0
    params.fit_params = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    os._exit(0)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    _serve_llama(sys.argv[1], *map(int, sys.argv[2:]))
