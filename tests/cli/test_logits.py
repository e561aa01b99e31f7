"""`mxgpt logits`: file contents, against the reference, and errors."""

import json
import shutil

import numpy as np
import pytest
from program import NANO, mxgpt
from safetensors.numpy import load_file


def logits(tmp_path, ids, *arguments):
    source, out = tmp_path / "ids.json", tmp_path / "out.safetensors"
    source.write_text(ids if isinstance(ids, str) else json.dumps(ids))
    if "--model" not in arguments:
        arguments = ["--model", NANO, *arguments]
    result = mxgpt("logits", "--ids", source, "--out", out, *arguments, status=None)
    return result, load_file(out) if out.exists() else None


def test_equals_the_reference(tmp_path):
    reference = load_file(NANO / "reference-logits.safetensors")
    picked = [5, 10, 13]
    result, ours = logits(tmp_path, [reference[f"{i}.ids"].tolist() for i in picked], "--precision", "exact")
    assert result.returncode == 0, result.stderr
    for n, i in enumerate(picked):
        assert ours[f"{n}.top_ids"].dtype == np.int32 and ours[f"{n}.top_logprobs"].dtype == np.float32
        # Nearly equal tokens may swap ranks; their values must still agree.
        np.testing.assert_allclose(ours[f"{n}.top_logprobs"], reference[f"{i}.top_logprobs"], atol=2e-3)
        assert (ours[f"{n}.top_ids"] == reference[f"{i}.top_ids"]).mean() > 0.999
        np.testing.assert_allclose(ours[f"{n}.last_logits"], reference[f"{i}.last_logits"], atol=2e-3)


def test_full_logits_agree_with_the_top_ones(tmp_path):
    result, ours = logits(tmp_path, [[5, 6, 7, 8, 9], [8000]], "--full")
    assert result.returncode == 0, result.stderr
    for i, count in enumerate([5, 1]):
        full = ours[f"{i}.logits"].astype(np.float64)
        assert full.shape == (count, 8064)
        logprobs = (
            full - np.log(np.exp(full - full.max(1, keepdims=True)).sum(1, keepdims=True)) - full.max(1, keepdims=True)
        )
        top = np.argsort(-logprobs, axis=1, kind="stable")[:, :8]
        np.testing.assert_array_equal(top, ours[f"{i}.top_ids"])
        np.testing.assert_allclose(np.take_along_axis(logprobs, top, 1), ours[f"{i}.top_logprobs"], atol=1e-5)
        np.testing.assert_array_equal(ours[f"{i}.logits"][-1], ours[f"{i}.last_logits"])


def test_sums_in_f16_are_others_but_near(tmp_path):
    def last(*arguments):
        result, ours = logits(tmp_path, [list(range(500, 600))], "--precision", "exact", *arguments)
        assert result.returncode == 0, result.stderr
        return ours["0.last_logits"]

    f32, f16 = last("--accumulate", "f32"), last("--accumulate", "f16")
    np.testing.assert_array_equal(f32, last())
    # Kernels with f16 accumulation may have an NMSE of 5e-4.
    assert 0 < ((f16 - f32) ** 2).sum() < 5e-4 * (f32**2).sum()


@pytest.mark.parametrize(
    "ids, complaint",
    [
        ([], "has no sequences"),
        ([[]], "is empty"),
        ([[8064]], "outside the vocabulary of 8064"),
        ([[-1]], "outside 0 to"),
        ([[1.5]], "should be an integer"),
        (["text"], "should be an array"),
        ("[[1]", "is not valid JSON"),
        ("[" * 10000, "is not valid JSON"),
        ([[1] * 131073], "131072"),
    ],
)
def test_bad_ids_get_one_sentence_and_no_file(tmp_path, ids, complaint):
    result, ours = logits(tmp_path, ids)
    assert result.returncode == 1
    assert complaint in result.stderr
    assert ours is None


def test_a_nan_in_the_weights_is_an_error(tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(NANO, folder)
    path = folder / "model.safetensors"
    header = int.from_bytes(path.read_bytes()[:8], "little")
    where = json.loads(path.read_bytes()[8 : 8 + header])["model.layers.0.mlp.experts.down_proj_scales"]["data_offsets"]
    with open(path, "r+b") as file:
        file.seek(8 + header + where[0])
        file.write(b"\xff" * (where[1] - where[0]))  # the NaN scale
    result, ours = logits(tmp_path, [[1, 2, 3]], "--model", str(folder))
    assert result.returncode == 1 and "not finite" in result.stderr and ours is None
    answer = mxgpt("run", "-m", folder, "hi", status=None)
    assert answer.returncode == 1 and "not finite" in answer.stderr and answer.stdout == ""
