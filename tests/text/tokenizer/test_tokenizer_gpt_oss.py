"""The real gpt-oss tokenizer against the `tokenizers` package."""

import json
import random
import subprocess

import pytest
import tokenizers
from program import FIXTURES, MXGPT, REPO
from tokenizer_texts import SCRIPTS, all_code_points, first_difference, random_mixtures, run

PATH = FIXTURES / "gpt-oss-tokenizer" / "tokenizer.json"
CONTROL = ["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>", "<|constrain|>"]


@pytest.fixture(scope="module")
def oracle():
    return tokenizers.Tokenizer.from_file(str(PATH))


def control_mixtures(count, seed):
    rng = random.Random(seed)
    pool = CONTROL + [
        "<|",
        "|>",
        "<",
        "start",
        " ",
        "user",
        "\n",
        "<|endoftext|>",
        "<|reserved_200000|>",
        "<|nothing|>",
    ]
    return ["".join(rng.choice(pool) for _ in range(rng.randrange(1, 12))) for _ in range(count)]


def sources():
    """The project's own source files."""
    paths = sorted([*REPO.glob("src/**/*.cpp"), *REPO.glob("tests/**/*.py")])
    return [open(path, encoding="utf-8").read() for path in paths[:150]]


def long_runs():
    units = ["a", " ", "\n", "7", "\u0301", "é", "中", "👍", "A", "ab", " \n", "'s", "=", "\t "]
    return [unit * n for unit in units for n in (2, 3, 63, 64, 65, 1000, 20_000)]


def texts():
    points = all_code_points()
    runs = ["".join(map(chr, points[i : i + 256])) for i in range(0, len(points), 256)]
    rng = random.Random(3)
    shuffled = points[:]
    rng.shuffle(shuffled)
    mixed = [
        "".join(chr(c) + rng.choice(["", " ", "a", "1", "\n"]) for c in shuffled[i : i + 256])
        for i in range(0, 200_000, 256)
    ]
    return SCRIPTS + sources() + long_runs() + runs + mixed + random_mixtures(3000, 1) + control_mixtures(300, 2)


def test_encode_and_decode(oracle):
    given = texts()
    assert len(given) >= 5000
    ids = [encoding.ids for encoding in oracle.encode_batch(given, add_special_tokens=False)]
    assert not (difference := first_difference(given, run("tokenize", PATH, given), ids)), difference
    rng = random.Random(4)
    ids += [[rng.randrange(201_100) for _ in range(rng.randrange(1, 30))] for _ in range(1000)]
    decoded = oracle.decode_batch(ids, skip_special_tokens=False)
    assert not (difference := first_difference(ids, run("detokenize", PATH, ids), decoded)), difference


def test_control_tokens_as_text(oracle):
    given = CONTROL + control_mixtures(500, 5)
    oracle.encode_special_tokens = True
    ids = [encoding.ids for encoding in oracle.encode_batch(given, add_special_tokens=False)]
    oracle.encode_special_tokens = False
    assert not (difference := first_difference(given, run("tokenize", PATH, given, "--plain"), ids)), difference
    assert all(each < 199_998 for line in ids for each in line)


def test_invalid_utf8_is_replaced(oracle):
    rng = random.Random(6)
    raw = [
        bytes(rng.choice([rng.randrange(256), 0xE2, 0x82, 0xF0, 0x9F, 0x41, 0xC3]) for _ in range(rng.randrange(1, 24)))
        for _ in range(500)
    ]
    raw = [line.translate(None, b'\n\r"\\' + bytes(range(32))) for line in raw]
    done = subprocess.run(
        [MXGPT, "tokenize", "--tokenizer", PATH, "--jsonl"],
        check=True,
        input=b"".join(b'"' + line + b'"\n' for line in raw),
        capture_output=True,
    )
    ours = [json.loads(line) for line in done.stdout.splitlines()]
    theirs = [oracle.encode(line.decode("utf-8", "replace"), add_special_tokens=False).ids for line in raw]
    assert not (difference := first_difference(raw, ours, theirs)), difference
