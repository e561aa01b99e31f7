"""Every format against the numpy (de)quantizers of the gguf package, bit for bit."""

import subprocess

import gguf
import numpy as np
import pytest
from program import BUILD

CONVERT = BUILD / "tests/quant_convert"


def run(*arguments, data=b""):
    return subprocess.run([CONVERT, *arguments], input=data, stdout=subprocess.PIPE, check=True).stdout


class Format:
    def __init__(self, line):
        name, ggml_type, elements, size, writable = line.split()
        self.name, self.elements, self.size = name, int(elements), int(size)
        self.type = gguf.GGMLQuantizationType(int(ggml_type))
        self.writable = writable == "1"

    def dequantize(self, blocks):
        return np.frombuffer(run("dequantize", self.name, data=blocks.tobytes()), np.float32)

    def quantize(self, values, importance_file=None):
        arguments = [importance_file] if importance_file else []
        return np.frombuffer(run("quantize", self.name, *arguments, data=values.tobytes()), np.uint8)


FORMATS = [Format(line) for line in run("list").decode().splitlines()]
every_format = pytest.mark.parametrize("format", FORMATS, ids=lambda f: f.name)

# Formats whose quantizer in the gguf package is a plain rounding rule. MXFP4 is missing: OCP rounds ties to
# even and keeps the sign of zero, while gguf picks the first of the nearest values. BF16 and F16 are below.
EXACT_QUANTIZERS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


def bits(values):
    return np.asarray(values, np.float32).view(np.uint32).ravel()


@every_format
def test_traits(format):
    assert format.name == format.type.name
    assert (format.elements, format.size) == gguf.GGML_QUANT_SIZES[format.type]


@every_format
def test_dequantize_random_bytes(format):
    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 256, (20000, format.size), dtype=np.uint8)
    if format.name == "MXFP4":
        blocks[blocks[:, 0] == 0xFF, 0] = 0xFE  # NaN here and in OCP, 2^127 in the gguf package
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(blocks, format.type).reshape(len(blocks), -1)
    actual = format.dequantize(blocks).reshape(len(blocks), -1)
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(actual), nan)
    np.testing.assert_array_equal(bits(actual[~nan]), bits(expected[~nan]))
    assert (~nan).mean() > 0.5


@every_format
def test_dequantize_of_quantized(format):
    values = np.random.default_rng(2).standard_normal(64 * 256, dtype=np.float32)
    blocks = format.quantize(values).reshape(-1, format.size)
    expected = gguf.quants.dequantize(blocks, format.type)
    np.testing.assert_array_equal(bits(format.dequantize(blocks)), bits(expected))


def awkward_rows():
    """Blocks of 256 with ties, signs, zeros, constants, outliers and magnitudes from 1e-30 to 1e4."""
    rng = np.random.default_rng(3)
    yield from rng.standard_normal((64, 256), dtype=np.float32)
    for exponent in range(-30, 5):
        yield (rng.standard_normal(256) * 10.0**exponent).astype(np.float32)
    yield np.zeros(256, np.float32)
    yield np.full(256, -0.0, np.float32)
    yield np.full(256, 0.37, np.float32)
    yield np.full(256, -0.37, np.float32)
    yield (rng.integers(-16, 17, 256) / 2).astype(np.float32)  # halves: ties of every kind
    yield np.arange(256, dtype=np.float32)
    yield np.where(np.arange(256) % 32 == 5, 100, rng.standard_normal(256)).astype(np.float32)
    yield np.abs(rng.standard_normal(256)).astype(np.float32)
    yield -np.abs(rng.standard_normal(256)).astype(np.float32)
    yield np.tile(np.float32([3, -3]), 128)  # two extremes: the first decides


@pytest.mark.parametrize("name", EXACT_QUANTIZERS)
def test_quantize(name):
    format = next(f for f in FORMATS if f.name == name)
    values = np.stack(list(awkward_rows()))
    with np.errstate(all="ignore"):
        expected = gguf.quants.quantize(values, format.type)
    np.testing.assert_array_equal(format.quantize(values).reshape(expected.shape), expected)


# sqrt(Σ w e² / Σ w x²) of llama.cpp's quantizers (ggml_quantize_chunk of ggml 0.25.3, by ctypes) on the data of
# the test below: without an importance matrix (w = 1), and with one (w = the importance).
LLAMA_CPP_ERROR = {
    "Q4_0": (0.08611, 0.07930),
    "Q4_1": (0.07833, 0.06658),
    "Q5_0": (0.04285, 0.03943),
    "Q5_1": (0.03798, 0.03225),
    "Q8_0": (0.00536, 0.00538),
    "Q2_K": (0.29724, 0.24907),
    "Q3_K": (0.15099, 0.13833),
    "Q4_K": (0.07159, 0.06756),
    "Q5_K": (0.03628, 0.03420),
    "Q6_K": (0.01776, 0.01664),
    "IQ4_NL": (0.07623, 0.07239),
    "IQ4_XS": (0.07681, 0.07314),
    "MXFP4": (0.11517, 0.11507),
}


@pytest.mark.parametrize("format", [f for f in FORMATS if f.name in LLAMA_CPP_ERROR], ids=lambda f: f.name)
def test_quantizer_is_as_good_as_llama_cpp(format, tmp_path):
    values = np.random.default_rng(0).standard_normal((500, 256)).astype(np.float32)
    importance = (np.random.default_rng(1).random(256) ** 2 + 0.05).astype(np.float32)
    (tmp_path / "importance").write_bytes(np.tile(importance, 500).tobytes())

    def error(blocks, weight):
        back = gguf.quants.dequantize(blocks, format.type).reshape(values.shape).astype(np.float64)
        return np.sqrt((weight * (back - values) ** 2).sum() / (weight * values.astype(np.float64) ** 2).sum())

    plain, weighted = LLAMA_CPP_ERROR[format.name]
    assert error(format.quantize(values), 1) <= 1.01 * plain
    assert error(format.quantize(values, tmp_path / "importance"), importance) <= 1.01 * weighted


@every_format
def test_quantize_non_finite(format):
    """NaN and infinity turn their block into NaN (or stay as elements), and affect no other block."""
    blocks = np.random.default_rng(4).standard_normal((5, max(format.elements, 32)), dtype=np.float32)
    blocks[1, 3], blocks[2, 17], blocks[3, 31] = np.nan, np.inf, -np.inf
    back = format.dequantize(format.quantize(blocks)).reshape(blocks.shape)
    assert np.isfinite(back[[0, 4]]).all()
    if format.elements == 1:
        np.testing.assert_array_equal(np.isnan(back), np.isnan(blocks))
        np.testing.assert_array_equal(np.isinf(back), np.isinf(blocks))
    else:
        assert np.isnan(back[1:4]).all()


def test_f16():
    every_pattern = np.arange(65536, dtype=np.uint16)
    f16 = next(f for f in FORMATS if f.name == "F16")
    expected = every_pattern.view(np.float16).astype(np.float32)
    actual = f16.dequantize(every_pattern)
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(actual), nan)
    np.testing.assert_array_equal(bits(actual[~nan]), bits(expected[~nan]))

    values = near_halves(expected[~nan])
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16)
    np.testing.assert_array_equal(f16.quantize(values).view(np.uint16), rounded.view(np.uint16))
    nans = np.arange(0x7F800001, 0x80000000, 4099, dtype=np.uint32)
    nans = np.concatenate([nans, nans | 0x80000000]).view(np.float32)
    back = f16.quantize(nans).view(np.float16)
    assert np.isnan(back).all()
    np.testing.assert_array_equal(np.signbit(back), np.signbit(nans))


def near_halves(representable):
    """All midpoints of adjacent values with the floats next to them, the values themselves, and infinities."""
    sorted_values = np.unique(representable[np.isfinite(representable)].astype(np.float64))
    midpoints = ((sorted_values[1:] + sorted_values[:-1]) / 2).astype(np.float32)
    last = np.float64(sorted_values[-1] * 2 - sorted_values[-2])  # the value that would follow the largest
    overflow = np.float32([(sorted_values[-1] + last) / 2])
    middle = np.concatenate([midpoints, overflow, -overflow])
    with np.errstate(over="ignore"):
        values = np.concatenate(
            [
                representable,
                middle,
                np.nextafter(middle, np.float32(np.inf)),
                np.nextafter(middle, np.float32(-np.inf)),
                np.float32([0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45, 3.4e38, -3.4e38]),
            ]
        )
    return values.astype(np.float32)


def test_bf16():
    every_pattern = np.arange(65536, dtype=np.uint16)
    bf16 = next(f for f in FORMATS if f.name == "BF16")
    expected = every_pattern.astype(np.uint32) << 16
    np.testing.assert_array_equal(bits(bf16.dequantize(every_pattern)), expected)

    values = near_halves(expected.view(np.float32)[np.isfinite(expected.view(np.float32))])
    rounded = gguf.quants.quantize(values, gguf.GGMLQuantizationType.BF16).view(np.uint16)
    np.testing.assert_array_equal(bf16.quantize(values).view(np.uint16), rounded)
    nans = np.arange(0x7F800001, 0x80000000, 4099, dtype=np.uint32)
    nans = np.concatenate([nans, nans | 0x80000000]).view(np.float32)
    back = bf16.dequantize(bf16.quantize(nans))
    assert np.isnan(back).all()
    np.testing.assert_array_equal(np.signbit(back), np.signbit(nans))
