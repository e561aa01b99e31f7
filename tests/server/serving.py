"""Starts `mxgpt serve` for tests."""
import contextlib
import os
import re
import signal
import subprocess
import threading

MXGPT = os.environ["MXGPT"]


class Server:
    """`mxgpt serve` on a free port; what it logs is kept in `log`."""

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
        """The exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=60)
        self.reader.join(timeout=10)
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
