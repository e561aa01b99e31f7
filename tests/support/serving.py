"""Starts `mxgpt serve`."""

import contextlib
import re
import signal
import subprocess
import threading
import time

from program import MXGPT, TIMEOUT_S


def eventually(condition):
    """Polls `condition` until it holds; False on timeout."""
    until = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def first_complete(ask, is_complete, seeds=range(1, 9)):
    """The first of ask(seed) that the token budget did not cut off. Fails if it cut off all of them."""
    for seed in seeds:
        answer = ask(seed)
        if is_complete(answer):
            return answer
    raise AssertionError(f"the token budget cut off every answer of seeds {list(seeds)}")


def endless_stream(client, **more):
    """A streamed completion that is still running when a test has finished its other work."""
    options = {"max_tokens": 20000, "temperature": 1.5, "seed": 1, **more}
    return client.completions.create(
        model="gpt-oss-nano", prompt="Once upon a time", stream=True, extra_body={"ignore_eos": True}, **options
    )


class Server:
    """`mxgpt serve` on a free port; `log` collects its standard error."""

    def __init__(self, *arguments):
        command = [MXGPT, "serve", "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        found = re.search(r"https?://\S+", line)
        self.log = []
        if not found:
            raise RuntimeError(self.process.stderr.read())
        self.url = found[0]
        self.port = int(self.url.rsplit(":", 1)[1])
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self.reader.start()

    def stop(self, how=signal.SIGTERM):
        """Stops the server; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=TIMEOUT_S)
        self.reader.join(timeout=TIMEOUT_S)
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@contextlib.contextmanager
def serve(*arguments):
    server = Server(*arguments)
    try:
        yield server
    finally:
        server.stop()
