#!/usr/bin/env python3
"""Correctness under load: results independent of the batch, and valid structured output.

    build/serve/bin/python bench/serve/smoke_eval.py

The 400 skill prompts, greedy, must give the same text one at a time and 32 at once. 300 responses under JSON schemas and
300 tool calls, at temperatures 0, 1 and 1.5 and 32 at once, must be valid. The schemas bound the length of valid output,
and --tokens is large enough for it.
"""

import argparse
import asyncio
import json
import os
import sys
import time

import jsonschema
from servers import ROOT, drive, mxgpt, running, skills

SCHEMAS = {
    "person": {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
                       "city": {"enum": ["Oslo", "Rome", "Sofia"]}},
        "required": ["name", "age", "city"], "additionalProperties": False,
    },
    "list": {
        "type": "object",
        "properties": {"items": {"type": "array", "minItems": 1, "maxItems": 4, "items": {
            "type": "object", "properties": {"id": {"type": "integer", "minimum": 0, "maximum": 99}, "on": {"type": "boolean"}},
            "required": ["id", "on"], "additionalProperties": False}}},
        "required": ["items"], "additionalProperties": False,
    },
    "either": {"anyOf": [{"type": "integer", "minimum": -5, "maximum": 500}, {"type": "string", "pattern": "^[a-z]{1,8}$"}, {"type": "null"}]},
}  # fmt: skip
QUESTIONS = ["Jonas is 43 years old and lives in Rome.", "What is the weather in Denver?", "Set a timer for 22 minutes.",
             "Tell me a long story.", "What is 17 plus 25?"]  # fmt: skip


def ask(port, bodies, clients, path):
    begun = time.perf_counter()
    answers = [json.loads(a) for a in asyncio.run(drive(port, bodies, clients, path=path))]
    return answers, time.perf_counter() - begun


def same_as_alone(port):
    tasks = skills()
    bodies = [{"prompt": t["prompt"], "max_tokens": 320, "temperature": 0} for t in tasks]
    alone, slow = ask(port, bodies, 1, "/v1/completions")
    together, quick = ask(port, bodies, 32, "/v1/completions")
    texts = [[a["choices"][0]["text"] for a in answers] for answers in (alone, together)]
    same = sum(a == b for a, b in zip(*texts))
    right = sum(t["expect"] in text for t, text in zip(tasks, texts[1]))
    print(f"{same} of {len(tasks)} the same alone ({slow:.1f} s) and 32 at once ({quick:.1f} s); {right} as expected")
    return same == len(tasks)


def forms_hold(port, tokens):
    bodies, wanted = [], []
    for seed in range(20):
        for temperature in (0, 1, 1.5):
            for question in QUESTIONS:
                name, schema = list(SCHEMAS.items())[len(bodies) // 2 % 3]
                body = {
                    "messages": [{"role": "user", "content": question}],
                    "temperature": temperature,
                    "seed": seed,
                    "max_tokens": tokens,
                    "reasoning_effort": "low",
                }
                form = {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}
                bodies.append({**body, "response_format": form})
                wanted.append(schema)
                tools = [
                    {"type": "function", "function": {"name": "save_" + n, "parameters": s}}
                    for n, s in SCHEMAS.items()
                    if s.get("type") == "object"
                ]
                bodies.append({**body, "tools": tools, "tool_choice": "required"})
                wanted.append({"save_" + n: s for n, s in SCHEMAS.items()})
    answers, seconds = ask(port, bodies, 32, "/v1/chat/completions")
    valid = {"schemas": [0, 0, 0], "calls": [0, 0, 0]}
    for answer, schema in zip(answers, wanted):
        choice = answer["choices"][0]
        message = choice["message"]
        calls = message.get("tool_calls")
        tally = valid["calls" if "save_person" in schema else "schemas"]
        tally[2] += 1
        if choice["finish_reason"] == "length":  # the reasoning used up the budget
            tally[1] += 1
            continue
        try:
            if "save_person" in schema:
                (call,) = calls
                jsonschema.validate(json.loads(call["function"]["arguments"]), schema[call["function"]["name"]])
            else:
                jsonschema.validate(json.loads(message["content"]), schema)
            tally[0] += 1
        except (ValueError, TypeError, jsonschema.ValidationError) as error:
            print("not valid:", json.dumps(choice)[:500], error)
    for kind, (right, cut, count) in valid.items():
        print(
            f"{kind}: {right} valid, {cut} cut off by max_tokens, {count - right - cut} not valid, of {count}; {seconds:.1f} s"
        )
    return all(right > 0 and right + cut == count for right, cut, count in valid.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mxgpt", default=os.environ.get("MXGPT", str(ROOT / "build/release/mxgpt")), help="the program"
    )
    parser.add_argument("--tokens", type=int, default=1000)
    options = parser.parse_args()
    with running(mxgpt(options.mxgpt)) as server:
        results = [same_as_alone(server.port), forms_hold(server.port, options.tokens)]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
