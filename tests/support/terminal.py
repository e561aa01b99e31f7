"""`mxgpt run` on a pseudo-terminal."""

import os
import pty
import select
import subprocess
import time

from program import MXGPT


class Terminal:
    """An interactive chat, as a person sees it."""

    def __init__(self, *arguments):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [MXGPT, "run", *map(str, arguments)], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.unread = ""

    def until(self, text, seconds=60):
        """Output up to and including `text`; the rest is kept for the next call."""
        end = time.time() + seconds
        while text not in self.unread:
            assert time.time() < end, f"waited for {text!r}, saw {self.unread!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                self.unread += os.read(self.master, 65536).decode(errors="replace")
        seen, _, self.unread = self.unread.partition(text)
        return seen + text

    def type(self, text):
        os.write(self.master, text.encode())
