"""`mxgpt inspect` against the `gguf` and `safetensors` packages, and with files that are neither."""

import json
import struct

import gguf
import numpy as np
import pytest
import tokenizers
from program import NANO, REPO, output_of
from safetensors import safe_open
from safetensors.numpy import save_file

TOY = REPO / "tests" / "io" / "data" / "toy.gguf"


def inspect(*args, status=0):
    return output_of("inspect", *args, status=status)


def check_against_gguf_package(path):
    ours = json.loads(inspect(path, "--json"))
    reader = gguf.GGUFReader(path)
    theirs = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    assert list(ours["metadata"]) == list(theirs)
    for key, value in theirs.items():
        assert ours["metadata"][key] == value, key
    assert [(t["name"], t["type"], t["shape"], t["bytes"]) for t in ours["tensors"]] == [
        (t.name, t.tensor_type.name, [int(n) for n in reversed(t.shape)], t.n_bytes) for t in reader.tensors
    ]
    return ours


def test_gguf_as_the_package_reads_it():
    check_against_gguf_package(TOY)


def make_model(path, **override):
    w = gguf.GGUFWriter(path, "gpt-oss")
    w.add_name("Toy")
    w.add_context_length(131072)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-4o")
    w.add_token_list(override.get("tokens", ["a", "b", "<|startoftext|>", "<|return|>"]))
    w.add_bos_token_id(2)
    w.add_eos_token_id(override.get("eos", 3))
    w.add_string("general.description", override.get("description", "plain"))
    w.add_tensor("token_embd.weight", np.zeros((4, 32), dtype=np.float32))
    w.add_tensor("output.weight", np.zeros((4, 17), dtype=np.uint8), raw_dtype=gguf.GGMLQuantizationType.MXFP4)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


def test_gguf_facts(tmp_path):
    facts = check_against_gguf_package(make_model(tmp_path / "m.gguf"))
    assert facts["format"] == "GGUF version 3"
    assert (facts["architecture"], facts["name"], facts["context"]) == ("gpt-oss", "Toy", 131072)
    assert facts["tokenizer"] == {
        "kind": "gpt2",
        "vocabulary": 4,
        "pre_tokenizer": "gpt-4o",
        "bos": {"id": 2, "token": "<|startoftext|>"},
        "eos": [{"id": 3, "token": "<|return|>"}],
    }
    assert facts["totals"] == {"F32": {"tensors": 1, "bytes": 512}, "MXFP4": {"tensors": 1, "bytes": 68}}

    text = inspect(tmp_path / "m.gguf")
    for part in (
        "gpt-oss",
        "131072 tokens",
        "2 <|startoftext|>",
        "3 <|return|>",
        "array of 4 strings",
        "token_embd.weight  F32    [4, 32]  512 B",
        "output.weight      MXFP4  [4, 32]   68 B",
        "all    2 tensors  580 B",
    ):
        assert part in text


def test_long_arrays_are_shortened_in_text_only(tmp_path):
    path = make_model(tmp_path / "m.gguf", tokens=[f"token{i}" for i in range(5000)])
    text = inspect(path)
    assert '"token5", …]' in text and "token6" not in text
    assert len(json.loads(inspect(path, "--json"))["metadata"]["tokenizer.ggml.tokens"]) == 5000


def test_checkpoint():
    facts = json.loads(inspect(NANO, "--json"))
    assert (facts["format"], facts["architecture"], facts["context"]) == ("checkpoint", "gpt_oss", 131072)
    assert facts["metadata"] == json.loads((NANO / "config.json").read_text())
    assert facts["tokenizer"]["kind"] == "BPE"
    tokenizer = tokenizers.Tokenizer.from_file(str(NANO / "tokenizer.json"))
    assert facts["tokenizer"]["vocabulary"] == max(tokenizer.get_vocab().values()) + 1
    assert facts["tokenizer"]["bos"] == {"id": 8000, "token": "<|startoftext|>"}
    assert [t["id"] for t in facts["tokenizer"]["eos"]] == [8004, 8001, 8014]
    with safe_open(NANO / "model.safetensors", "np") as f:
        assert {t["name"]: (t["type"], t["shape"]) for t in facts["tensors"]} == {
            k: (f.get_slice(k).get_dtype(), f.get_slice(k).get_shape()) for k in f.keys()
        }
    assert "rope_scaling.factor" in inspect(NANO)


def test_safetensors_file(tmp_path):
    save_file({"x": np.zeros((2, 3), dtype=np.float16)}, tmp_path / "x.safetensors", metadata={"made": "here"})
    facts = json.loads(inspect(tmp_path / "x.safetensors", "--json"))
    assert facts["tensors"] == [{"name": "x", "type": "F16", "shape": [2, 3], "bytes": 12}]
    assert facts["metadata"] == {"made": "here"}


def test_a_file_cannot_drive_the_terminal(tmp_path):
    path = make_model(
        tmp_path / "m.gguf", description="\x1b[2J\x9b31m\r\u202eevil", tokens=["\x1b]0;title\x07", "b", "c", "\x1b[A"]
    )
    text = inspect(path)
    assert all(c == "\n" or c.isprintable() for c in text)
    assert "\\x1b[2J" in text
    # JSON output keeps the text, with JSON escapes.
    assert json.loads(inspect(path, "--json"))["metadata"]["general.description"] == "\x1b[2J\x9b31m\r\u202eevil"
    assert "\x1b" not in inspect(path, "--json")


def test_a_broken_tokenizer_does_not_hide_the_rest(tmp_path):
    path = tmp_path / "m.gguf"
    w = gguf.GGUFWriter(path, "toy")
    w.add_tokenizer_model("gpt2")
    w.add_tensor("t", np.zeros(4, dtype=np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    facts = json.loads(inspect(path, "--json"))
    assert "tokenizer.ggml.tokens" in facts["tokenizer_problem"]
    assert len(facts["tensors"]) == 1
    special = json.loads(inspect(make_model(tmp_path / "n.gguf", eos=77), "--json"))["tokenizer"]
    assert special["eos"] == [{"id": 77, "token": "not in the vocabulary"}]


def test_bytes_that_are_not_utf8(tmp_path):
    raw = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1)
    raw += struct.pack("<Q", 3) + b"k\xff\xfe" + struct.pack("<IQ", 8, 2) + b"\xe2\x82"
    (tmp_path / "m.gguf").write_bytes(raw)
    assert json.loads(inspect(tmp_path / "m.gguf", "--json"))["metadata"] == {"k\ufffd\ufffd": "\ufffd"}
    assert "k\\xff\\xfe" in inspect(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("none.gguf", None, "file not found; check the path"),
        ("notes.txt", b"hello", "is neither a GGUF nor a safetensors file; give one of those"),
        ("empty.gguf", b"", "is neither a GGUF"),
        ("cut.gguf", b"GGUF\x03\0\0\0", "download it again"),
        ("bad.safetensors", b"12345678", "bytes; the format allows"),
        ("empty", "directory", "contains no config.json; choose a checkpoint directory or a GGUF file"),
    ],
)
def test_a_wrong_path_gets_one_sentence(tmp_path, name, content, expected):
    path = tmp_path / name
    if content == "directory":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    message = inspect(path, status=1)
    assert expected in message and name in message and message.count("\n") == 1
