"""Random requests over all options: no 5xx, every response is well formed. bench/serve/fuzz.py runs longer."""

import concurrent.futures
import json
import random
import urllib.error
import urllib.request

from program import TIMEOUT_S
from request_generator import check, valid_request
from serving import serve


def send(url, path, body):
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.headers["content-type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], error.read()


def test_valid_requests_get_well_formed_responses():
    with serve() as server:

        def ask(seed):
            path, body = valid_request(random.Random(seed))
            answer = send(server.url, path, body)
            assert answer[0] == 200, (seed, answer[2])
            return check(path, body, *answer)

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            ends = set().union(*pool.map(ask, range(150)))
        assert {"stop", "length", "tool_calls"} <= ends <= {"stop", "length", "tool_calls", "told collapsed"}
        assert server.stop() == 0
