#!/usr/bin/env python3
"""Generated requests: no 5xx, no crash, every response well formed.

    build/serve/bin/python bench/serve/fuzz.py [--requests 1000] [--seed 0] [--mxgpt build/debug/mxgpt]

Half are sample_bodies by schemathesis from the server's own /openapi.json, those that fit it and those that do not; half are
valid by construction (tests/support/request_generator.py) and must succeed. Inputs that broke other servers follow. The
process must exit cleanly: under a sanitizer, without a report.
"""

import argparse
import collections
import concurrent.futures
import http.client
import json
import os
import random
import re
import sys

from servers import ROOT, mxgpt, running

os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / "build/hypothesis"))
import hypothesis  # noqa: E402
import schemathesis  # noqa: E402

sys.path.insert(0, str(ROOT / "tests/support"))
from request_generator import check, valid_request  # noqa: E402

CHAT = "/v1/chat/completions"
ROUTE_WEIGHTS = {
    CHAT: 0.3,
    "/v1/responses": 0.25,
    "/v1/messages": 0.2,
    "/v1/completions": 0.15,
    "/tokenize": 0.05,
    "/detokenize": 0.05,
}
HELLO = [{"role": "user", "content": "Hi"}]


def send(port, method, path, body, headers={}):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request(method, path, body, {"content-type": "application/json", **headers})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, answer.headers["content-type"], text


def sample_bodies(document, route, method, count, modes, seed):
    """Bodies that schemathesis generates for a route."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.generation.update(modes=modes)
    cases = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(case=schema[route][method].as_strategy(generation_mode=modes[0]))
    def draw(case):
        cases.append(case.body)

    draw()
    return cases[:count]


def narrowed(document):
    """The document, restricted to values with which a request takes seconds and names the served model."""
    copy = json.loads(json.dumps(document))
    for route in ROUTE_WEIGHTS:
        properties = copy["paths"][route]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
        if "model" in properties:
            properties["model"] = {"type": "string", "enum": ["gpt-oss-nano"]}
        for field, most in (("n", 4), ("max_tokens", 20), ("max_completion_tokens", 20), ("max_output_tokens", 20)):
            if field in properties:
                properties[field]["maximum"] = most
    return copy


def bad_inputs():
    """Inputs (path, body) that broke other servers; each must be a 4xx, or harmless."""
    deep = b"[" * 10000
    numbers = [-1, 0, 1e308, -1e308, 2**63, 2**64, 10**9, 0.5, None, True, "1", [], {}]
    yield from (
        (CHAT, b)
        for b in (
            b"",
            b"\xff\xfe",
            b"{" * 10000,
            b'{"messages":' + deep,
            b'{"messages":"\xc3("}',
            b'{"user":"\\ud800"}',
            b"nul",
            b'{"a":1,"a":2}',
            b'{"temperature":NaN}',
            b'{"temperature":Infinity}',
            b'{"n":1e999}',
            b"[]",
            b'"x"',
            b"0",
            b"{}" * 2,
        )
    )
    for field in (
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "n",
        "max_tokens",
        "seed",
        "presence_penalty",
        "repetition_penalty",
        "top_logprobs",
        "priority",
        "logit_bias",
        "stop",
        "stream",
        "tools",
        "messages",
        "response_format",
    ):
        for value in numbers:
            yield CHAT, {"messages": HELLO, "max_tokens": 2, "logprobs": True, field: value}
    yield from (
        (CHAT, {"messages": HELLO, "max_tokens": 2, "response_format": form})
        for form in (
            {"type": "grammar", "grammar": "root ::= " + "(" * 60000},
            {"type": "grammar", "grammar": "root ::= root"},
            {"type": "grammar", "grammar": 'root ::= root root | ""'},
            {"type": "grammar", "grammar": 'root ::= "a"{1,1000000000}'},
            {"type": "grammar", "grammar": "\n".join(f'r{i} ::= "x" r{i + 1}' for i in range(20000))},
            {"type": "grammar", "grammar": ""},
            {"type": "regex", "regex": "(" * 60000},
            {"type": "regex", "regex": "(a*)*b"},
            {"type": "regex", "regex": "((a{1,1000}){1,1000}){1,1000}"},
            {"type": "regex", "regex": "["},
            {"type": "regex", "regex": "\\"},
            {"type": "regex", "regex": "(?=a)(?<!b)\\1"},
            *(
                {"type": "json_schema", "json_schema": {"name": "x", "schema": s}}
                for s in (
                    {"$ref": "#"},
                    {"$ref": "#/nowhere"},
                    {"$ref": "http://localhost/x"},
                    {"type": "array", "maxItems": 10**9, "minItems": 10**9},
                    {"type": "string", "maxLength": 10**18},
                    {"enum": []},
                    {"type": ["string", "strong"]},
                    {"pattern": "("},
                    {"anyOf": []},
                    True,
                    False,
                    {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(5000)}},
                )
            ),
        )
    )
    yield from (
        ("/v1/completions", {"prompt": p, "max_tokens": 1})
        for p in ("", [], [""], [[]], [-1], [2**31], [1.5], {"a": 1}, None, ["a"] * 5000)
    )
    yield from (("/detokenize", {"tokens": t}) for t in ([-1], [2**40], [1.5], "x", None, [[1]], list(range(9000))))
    yield from (("/tokenize", {"text": t}) for t in (None, 1, "", "<|start|>" * 10000, "a" * 10**6))


def in_shape(path, status, content_type, text):
    assert status < 500, (status, text[:300])
    if status >= 400 and path.startswith("/v1/messages"):
        answer = json.loads(text)
        assert answer["type"] == "error" and answer["error"]["type"] and answer["error"]["message"], answer
    elif status >= 400:
        check(path, {}, status, content_type, text)
    elif content_type == "application/json":
        json.loads(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mxgpt", default=os.environ.get("MXGPT", str(ROOT / "build/release/mxgpt")), help="the program"
    )
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    statuses, wrong = collections.Counter(), []

    with running(mxgpt(options.mxgpt, "--ctx", 4096, "--timeout", 300)) as server:

        def one(number, what, path, body, must_answer=False):
            try:
                answer = send(server.port, "POST", path, body if isinstance(body, bytes) else json.dumps(body))
                statuses[what, answer[0]] += 1
                if must_answer:
                    assert answer[0] == 200, answer
                    check(path, body, *answer)
                else:
                    in_shape(path, *answer)
            except Exception as error:  # noqa: BLE001
                wrong.append((what, number, path, str(body)[:1000], repr(error)[:500]))

        work = []
        for i in range(options.requests // 2):
            path, body = valid_request(random.Random(options.seed * 1_000_003 + i))
            work.append(("valid", path, body, True))
        document = json.loads(server.get("/openapi.json"))
        mode = schemathesis.GenerationMode
        for route, share in ROUTE_WEIGHTS.items():
            for name, modes, source in (
                ("valid by schema", [mode.POSITIVE], narrowed(document)),
                ("invalid", [mode.NEGATIVE], document),
            ):
                count = int(options.requests // 4 * share)
                work += [
                    (name, route, b, False) for b in sample_bodies(source, route, "POST", count, modes, options.seed)
                ]
        work += [("bad", path, body, False) for path, body in bad_inputs()]
        random.Random(options.seed).shuffle(work)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda item: one(item[0], *item[1]), enumerate(work)))
        if server.process.poll() is not None:
            sys.exit("the server died:\n" + "".join(server.log)[-20000:])
        # All other routes, and methods that they do not support.
        for path in document["paths"]:
            for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
                answer = send(server.port, method, re.sub("{.*?}", "x", path), b"{}" if method == "POST" else None)
                assert answer[0] < 500
                if method not in ("HEAD", "OPTIONS"):
                    in_shape(path, *answer)
        after = send(server.port, "POST", CHAT, json.dumps({"messages": HELLO, "max_tokens": 5}))[0]
        code = server.stop()
        log = "".join(server.log)
    for failure in wrong[:20]:
        print("WRONG", *failure)
    found = [word for word in ("Sanitizer", "runtime error", "[error]", "defect") if word in log]
    for (what, status), count in sorted(statuses.items()):
        print(f"{what}: {count} × {status}")
    print(
        f"{sum(statuses.values())} requests, {len(wrong)} wrong; ended with {code}; suspicious words in the log: {found or 'none'}"
    )
    if found:
        print(log[-20000:])
    sys.exit(1 if wrong or found or code != 0 or after != 200 else 0)


if __name__ == "__main__":
    main()
