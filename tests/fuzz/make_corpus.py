"""Writes the seeds of the gguf and safetensors fuzz targets into tests/fuzz/corpus: small valid files, each
with a feature of the format. Inputs that once broke a target lie beside them and are left alone.
"""

import json
import struct
from pathlib import Path

HERE = Path(__file__).parent
DATA = HERE.parent / "io" / "data"
U32, F32, STRING, ARRAY = 4, 6, 8, 9


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def entry(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


def array(key, kind, values):
    return entry(key, ARRAY, struct.pack("<IQ", kind, len(values)) + b"".join(values))


def gguf(entries, tensors, data, alignment=32, version=3):
    out = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(entries)) + b"".join(entries)
    for name, ne, kind, offset in tensors:
        out += text(name) + struct.pack(f"<I{len(ne)}QIQ", len(ne), *ne, kind, offset)
    return out + bytes(-len(out) % alignment) + data


def safetensors(header, data):
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SEEDS = {
    "gguf/toy": (DATA / "toy.gguf").read_bytes(),
    "gguf/empty": gguf([], [], b""),
    "gguf/vocabulary": gguf(
        [
            entry("general.architecture", STRING, text("gpt-oss")),
            entry("gpt-oss.block_count", U32, struct.pack("<I", 24)),
            entry("gpt-oss.rope.freq_base", F32, struct.pack("<f", 150000)),
            array("tokenizer.ggml.tokens", STRING, [text(t) for t in ("<unk>", "a", "b", "ab")]),
            array("tokenizer.ggml.scores", F32, [struct.pack("<f", -i) for i in range(4)]),
            array("tokenizer.ggml.merges", STRING, [text("a b")]),
        ],
        [],
        b"",
        version=2,
    ),
    "gguf/blocks": gguf(
        [entry("general.alignment", U32, struct.pack("<I", 8))],
        [("f32", (3, 2), 0, 0), ("mxfp4", (32, 2, 2), 39, 24), ("q4_k", (256,), 12, 96), ("i8", (5,), 24, 240)],
        bytes(i % 256 for i in range(248)),
        alignment=8,
    ),
    "gguf/shard": gguf(
        [
            entry("split.no", 2, struct.pack("<H", 0)),
            entry("split.count", 2, struct.pack("<H", 2)),
            entry("split.tensors.count", 5, struct.pack("<i", 2)),
        ],
        [("t", (1,), 0, 0)],
        bytes(32),
    ),
    "safetensors/toy": (DATA / "toy.safetensors").read_bytes(),
    "safetensors/empty": safetensors({}, b""),
    "safetensors/types": safetensors(
        {
            "__metadata__": {"format": "pt"},
            "a": tensor("BF16", [2, 3], 0, 12),
            "b": tensor("U8", [3, 1], 12, 15),
            "c": tensor("F4", [2], 15, 16),
            "d": tensor("F64", [], 16, 24),
            "e": tensor("I64", [0], 24, 24),
        },
        bytes(24),
    ),
}

for name, data in SEEDS.items():
    path = HERE / "corpus" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
