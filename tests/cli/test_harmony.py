"""`mxgpt harmony` against harmony-reference.jsonl (tests/data)."""

import json

from program import FIXTURES, NANO, mxgpt

REAL = FIXTURES / "gpt-oss-tokenizer" / "tokenizer.json"
ROWS = [json.loads(line) for line in open(FIXTURES / "harmony-reference.jsonl", encoding="utf-8")]
RENDER = [row for row in ROWS if row["kind"] == "render"]
PARSE = [row for row in ROWS if row["kind"] == "parse"]
FORMS = ["completion_tokens", "training_tokens", "keep_analysis_tokens"]


def harmony(*arguments, lines, tokenizer=REAL):
    return mxgpt(
        "harmony",
        arguments[0],
        "--tokenizer",
        tokenizer,
        "--jsonl",
        *arguments[1:],
        stdin="".join(line + "\n" for line in lines),
        status=None,
    )


def answers(*arguments, rows, **options):
    done = harmony(*arguments, lines=[json.dumps(row) for row in rows], **options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_render_equals_the_reference():
    got = answers("render", rows=[row["conversation"] for row in RENDER])
    assert got == [{form: row[form] for form in FORMS} for row in RENDER]


def test_parse_equals_the_reference_in_both_modes():
    rows = [{"tokens": row["tokens"]} for row in PARSE]
    expected = [{"messages": row["messages"]} for row in PARSE]
    assert answers("parse", rows=rows) == expected
    assert answers("parse", "--strict", rows=rows) == expected


def test_parse_reads_back_what_the_shipped_tokenizer_rendered():
    conversations = [row["conversation"] for row in RENDER]
    rendered = answers("render", rows=conversations, tokenizer=NANO)
    parsed = answers("parse", rows=[{"tokens": row["keep_analysis_tokens"]} for row in rendered], tokenizer=NANO)
    for conversation, back in zip(conversations, parsed, strict=True):
        for before, after in zip(conversation["messages"], back["messages"], strict=True):
            assert after["role"] == before["role"] and after.get("channel") == before.get("channel")
            if before["content"][0]["type"] == "text":
                assert after["content"] == before["content"]


def test_text_form():
    done = harmony("render", "--text", lines=[json.dumps(RENDER[0]["conversation"])])
    assert done.stdout == RENDER[0]["completion_text"] + "\n"


def test_errors_name_the_line_and_the_field():
    good = json.dumps({"messages": [{"role": "user", "content": "hi"}]})
    for line, expected in [
        ("{", ["line 2", "JSON"]),
        ("[" * 10000, ["line 2"]),
        ("{}", ["line 2", "messages"]),
        (json.dumps({"messages": [{"role": "user", "name": "a b", "content": "hi"}]}), ["line 2", "messages[0].name"]),
    ]:
        done = harmony("render", lines=[good, line])
        assert done.returncode == 1
        assert len(done.stdout.splitlines()) == 1, "the good line is answered"
        assert done.stderr.count("\n") == 1 and all(part in done.stderr for part in expected), done.stderr

    final = PARSE[0]["tokens"]
    for tokens, expected in [(final + [200002], "<|start|>"), ([10**9], "vocabulary"), ([200005], "header")]:
        done = harmony("parse", "--strict", lines=[json.dumps({"tokens": final}), json.dumps({"tokens": tokens})])
        assert done.returncode == 1 and "line 2" in done.stderr and expected in done.stderr, done.stderr
        assert harmony("parse", lines=[json.dumps({"tokens": tokens})]).returncode == 0
    for tokens in [[-1], [2**40], [0.5], ["x"], "x", None]:
        done = harmony("parse", lines=[json.dumps({"tokens": tokens})])
        assert done.returncode == 1 and "line 1" in done.stderr, done.stderr


def test_a_tokenizer_without_harmony_is_refused(tmp_path):
    tokenizer = json.loads((NANO / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] != "<|channel|>"]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    done = harmony("render", lines=[], tokenizer=path)
    assert done.returncode == 1 and "<|channel|>" in done.stderr
