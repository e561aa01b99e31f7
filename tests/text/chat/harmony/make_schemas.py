"""Writes schemas.jsonl, the output of openai-harmony for unusual JSON Schemas, for tool_schema_test.cpp.

Not part of the tests: run it by hand after `pip install openai-harmony==0.0.8`, with TIKTOKEN_ENCODINGS_BASE naming
a folder that holds o200k_base.tiktoken.
"""

import json
import random

import openai_harmony

CASES = 150
TEXTS = ["a", "b c", "x\ny", 'q"uo\\te', "é👋", "null", "", "a\r\nb", "end\n", "<|start|>", "</x>", "\u0001\u007f"]
NUMBERS = [0, 1, -1, 10, 0.5, 0.7, 1.0, 1e10, 1e16, 1e17, 1e-5, 1e-7, 123456.789, 1e300, -2.5, 2**63, 10**20, 0.00012]


def any_value(rng, depth=0):
    leaf = depth == 2
    kind = rng.randrange(5 if leaf else 7)
    if kind == 5:
        return [any_value(rng, depth + 1) for _ in range(rng.randrange(3))]
    if kind == 6:
        return {rng.choice(TEXTS): any_value(rng, depth + 1) for _ in range(rng.randrange(3))}
    return [None, True, rng.choice(TEXTS), rng.choice(NUMBERS), rng.choice(NUMBERS)][kind]


def schema(rng, depth=0):
    if rng.random() < 0.05:
        return rng.choice([True, None, 3, "x", [], {}])
    kind = rng.choice(
        ["object"] * (3 if depth < 4 else 0)
        + [
            "string",
            "number",
            "integer",
            "boolean",
            "array",
            "null",
            "weird",
            ["string", "null"],
            ["integer", "string"],
            [],
            [1],
            None,
        ]
    )
    out = {"type": kind}
    for key, share, values in [
        ("description", 0.3, TEXTS + [3]),
        ("title", 0.2, TEXTS),
        ("nullable", 0.2, [True, False, 1]),
        ("enum", 0.2, [[], ["a", "b"], [1, "z"], [1], ["a"]]),
        ("examples", 0.2, [[], ["a", 1, "b"], [1], 3]),
        ("oneOf", 0.05, [[], 3, None]),
    ]:
        if rng.random() < share:
            out[key] = rng.choice(values)
    if rng.random() < 0.3:
        out["default"] = any_value(rng)
    if rng.random() < 0.15 and depth < 4:
        out["oneOf"] = [schema(rng, depth + 1) for _ in range(rng.randrange(1, 4))]
    if kind == "array" and rng.random() < 0.8:
        out["items"] = schema(rng, depth + 1)
    if kind == "object" and rng.random() < 0.9:
        names = [rng.choice(["p", "q", "r s", 'u"', "v"]) + str(i) for i in range(rng.randrange(4))]
        out["properties"] = {name: schema(rng, depth + 1) for name in names}
    if kind == "object" and rng.random() < 0.5:
        out["required"] = rng.choice([["p0"], ["p0", "q1"], [1], 3])
    items = list(out.items())
    rng.shuffle(items)
    return dict(items)


def namespace(rng, name):
    tools = [{"name": f"f{i}", "description": rng.choice(TEXTS)} for i in range(rng.randrange(4))]
    for tool in tools:
        if rng.random() < 0.9:
            tool["parameters"] = schema(rng)
    out = {"name": name, "tools": tools}
    if rng.random() < 0.5:
        out["description"] = rng.choice(TEXTS)
    return out


def main():
    encoding = openai_harmony.load_harmony_encoding(openai_harmony.HarmonyEncodingName.HARMONY_GPT_OSS)
    rng = random.Random(20261123)
    prefix, suffix = "<|start|>developer<|message|>", "<|end|>"
    with open("schemas.jsonl", "w", encoding="utf-8") as out:
        for _ in range(CASES):
            tools = {name: namespace(rng, name) for name in rng.sample(["functions", "zz", "aa"], rng.randrange(1, 4))}
            content = {"type": "developer_content", "tools": tools}
            conversation = json.dumps({"messages": [{"role": "developer", "content": [content]}]})
            # The wrapper's own classes reject some of these schemas; the encoding itself does not.
            tokens = encoding._inner.render_conversation(
                conversation_json=conversation, config={"auto_drop_analysis": False}
            )
            text = encoding.decode(tokens)
            assert text.startswith(prefix) and text.endswith(suffix)
            row = {"tools": tools, "text": text[len(prefix) : -len(suffix)]}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
