"""Chat formats other than Harmony in `mxgpt run`, inspect and convert: the shipped model with renamed control tokens."""

import json
import re

import program
import pytest
from program import NANO
from terminal import Terminal

CHATML = """{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou are kind.<|im_end|>\\n' }}{% endif %}
{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"""
QWEN3 = """{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content.split('</think>')[-1] + '<|im_end|>\\n' }}
{% endfor %}{% if enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"""


def mxgpt(*arguments, stdin=""):
    return program.mxgpt(*arguments, stdin=stdin, status=None)


def model(path, template=None):
    """The shipped model with ChatML's control tokens in place of its own."""
    path.mkdir()
    for file in NANO.iterdir():
        if file.name != "tokenizer.json":
            (path / file.name).symlink_to(file)
    tokens = (NANO / "tokenizer.json").read_text()
    for old, new in (("<|start|>", "<|im_start|>"), ("<|end|>", "<|im_end|>")):
        assert old in tokens
        tokens = tokens.replace(old, new)
    (path / "tokenizer.json").write_text(tokens)
    if template:
        (path / "chat_template.jinja").write_text(template)
    return path


def prompt_tokens(*arguments):
    done = mxgpt("run", *arguments, "--temperature", "0", "--max-tokens", "1", "--stats")
    assert done.returncode == 0, done.stderr
    return int(re.search(r"prompt (\d+) tokens", done.stderr).group(1))


def encoded(text, directory):
    return len(json.loads(mxgpt("tokenize", "--tokenizer", directory, "--jsonl", stdin=json.dumps(text) + "\n").stdout))


def test_the_prompt_is_what_the_template_renders(tmp_path):
    path = model(tmp_path / "m", CHATML)
    frame = "<|im_start|>system\nYou are kind.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_tokens("-m", path, "Where is Oslo?") == encoded(frame.format("Where is Oslo?"), path)
    told = frame.replace("You are kind.", "Be brief.")
    assert prompt_tokens("-m", path, "hi", "--system", "Be brief.") == encoded(told.format("hi"), path)
    none = frame.replace("You are kind.", "")
    assert prompt_tokens("-m", path, "hi", "--system", "") == encoded(none.format("hi"), path)
    # Control tokens in user text stay plain text.
    spelled = prompt_tokens("-m", path, "hi<|im_end|>") - prompt_tokens("-m", path, "hi")
    assert spelled > 1


def test_thinking_can_be_switched_off_where_the_format_has_a_switch(tmp_path):
    path = model(tmp_path / "m", QWEN3)
    frame = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_tokens("-m", path, "hi") == encoded(frame, path)
    assert prompt_tokens("-m", path, "hi", "--no-thinking") == encoded(frame + "<think>\n\n</think>\n\n", path)


def test_a_format_can_be_named(tmp_path):
    path = model(tmp_path / "m", CHATML)
    assert prompt_tokens("-m", path, "hi", "--chat-format", "qwen3") == prompt_tokens(
        "-m", model(tmp_path / "q", QWEN3), "hi"
    )
    plain = model(tmp_path / "n")
    assert prompt_tokens("-m", plain, "hi", "--chat-format", "chatml") == encoded(
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", plain
    )


def test_conversion_keeps_the_template(tmp_path):
    path = model(tmp_path / "m", CHATML)
    assert mxgpt("convert", path, tmp_path / "m.gguf").returncode == 0
    for file in (path, tmp_path / "m.gguf"):
        assert json.loads(mxgpt("inspect", file, "--json").stdout)["chat_format"] == "chatml"
        assert re.search(r"chat format +chatml\n", mxgpt("inspect", file).stdout)
    assert prompt_tokens("-m", tmp_path / "m.gguf", "hi") == prompt_tokens("-m", path, "hi")


def test_inspect_names_what_it_does_not_know(tmp_path):
    unknown = model(tmp_path / "u", "{{ '<|turn|>' + content + '<|over|>' }}")
    assert json.loads(mxgpt("inspect", unknown, "--json").stdout)["chat_format"] is None
    assert "unknown; its template uses <|turn|>, <|over|>" in mxgpt("inspect", unknown).stdout
    assert json.loads(mxgpt("inspect", NANO, "--json").stdout)["chat_format"] == "harmony"
    base = model(tmp_path / "b")
    assert "chat_format" not in json.loads(mxgpt("inspect", base, "--json").stdout)
    assert "chat format" not in mxgpt("inspect", base).stdout


@pytest.mark.parametrize(
    "template, arguments, complaint",
    [
        (
            None,
            [],
            "has no chat template, as base models have none; name the format it was trained with by --chat-format",
        ),
        ("{{ '<|turn|>' }}", [], "its chat template is not a known one (it has <|turn|>); name the format"),
        ("{{ '<|turn|>' }}", [], "or have text completed with --raw"),
        ("{{ content }}", [], "(it has no control tokens)"),
        (CHATML, ["--effort", "low"], "--reasoning-effort: the chat format chatml has no levels of reasoning"),
        (CHATML, ["--no-thinking"], "--no-thinking: the chat format chatml has no switch for reasoning"),
        (CHATML, ["--chat-format", "gemma"], "has no token '<start_of_turn>'"),
        (CHATML, ["--chat-format", "harmony"], "has no token '<|start|>'"),
        (CHATML, ["--chat-format", "alpaca"], "'alpaca' is not one of harmony,"),
        (CHATML, ["--raw", "--chat-format", "chatml"], "--chat-format: cannot be combined with --raw"),
        (CHATML, ["--raw", "--system", "x"], "--system: cannot be combined with --raw"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, template, arguments, complaint):
    done = mxgpt("run", "-m", model(tmp_path / "m", template), "hi", *arguments)
    assert done.returncode in (1, 2) and done.stdout == ""
    assert complaint in done.stderr and done.stderr.count("\n") == 1


def test_tools_need_harmony(tmp_path):
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps([{"name": "f"}]))
    done = mxgpt("run", "-m", model(tmp_path / "m", CHATML), "hi", "--tools", tools)
    assert "--tools: the chat format chatml has no tools" in done.stderr
    assert "--no-thinking: models that use Harmony always reason" in mxgpt("run", "hi", "--no-thinking").stderr


def test_a_chat_goes_on_where_it_was(tmp_path):
    chat = Terminal("-m", str(model(tmp_path / "m", CHATML)), "--temperature", "0", "--max-tokens", "8", "--stats")
    chat.until("> ")
    counts = []
    for text in ("hi\n", "and then?\n", "/new\n", "hi\n"):
        chat.type(text)
        seen = chat.until("\n> ") if text != "/new\n" else chat.until("> ")
        counts += [tuple(map(int, found)) for found in re.findall(r"prompt (\d+) tokens \((\d+) reused\)", seen)]
    (first, none), (second, reused), (again, _) = counts
    assert none == 0 and first == again
    assert first <= reused < second
    chat.type("\x04")
    assert chat.process.wait(timeout=20) == 0
