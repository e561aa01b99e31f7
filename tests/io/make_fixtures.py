"""Writes the files of tests/io/data with the reference implementations, the `gguf` and `safetensors` packages.

The C++ tests hold our readers to what is put in here and our writers to the same bytes. Run again after a
change: build/python/bin/python tests/io/make_fixtures.py
"""

from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

DATA = Path(__file__).parent / "data"


def write_gguf(path, alignment):
    w = gguf.GGUFWriter(path, "toy")
    if alignment:
        w.add_custom_alignment(alignment)
    w.add_uint8("toy.u8", 200)
    w.add_int8("toy.i8", -100)
    w.add_uint16("toy.u16", 60000)
    w.add_int16("toy.i16", -30000)
    w.add_uint32("toy.u32", 4000000000)
    w.add_int32("toy.i32", -2000000000)
    w.add_float32("toy.f32", 0.1)
    w.add_bool("toy.true", True)
    w.add_bool("toy.false", False)
    w.add_string("toy.string", "grüße\n")
    w.add_uint64("toy.u64", 2**64 - 1)
    w.add_key_value("toy.i64", -(2**63), gguf.GGUFValueType.INT64)
    w.add_float64("toy.f64", 1e300)
    w.add_array("toy.strings", ["", "a", "βγ", "<|end|>"])
    w.add_array("toy.i32s", [1, -2, 3])
    w.add_array("toy.f32s", [0.5, -1.5])
    w.add_array("toy.bools", [True, False, True])
    w.add_tensor("scalars", np.arange(5, dtype=np.float32))
    w.add_tensor("matrix", np.arange(12, dtype=np.float16).reshape(3, 4))
    blocks = (np.arange(2 * 3 * 2 * 34) % 251).astype(np.uint8).reshape(2, 3, 68)
    w.add_tensor("experts", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


DATA.mkdir(exist_ok=True)
write_gguf(DATA / "toy.gguf", None)
write_gguf(DATA / "toy-aligned.gguf", 256)
save_file(
    {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.arange(4, dtype=np.int32),
        "c": np.zeros((0, 8), dtype=np.int32),
    },
    DATA / "toy.safetensors",
)
