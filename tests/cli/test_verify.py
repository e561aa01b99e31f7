"""`mxgpt verify` against sha256sum and hashlib."""

import hashlib
import subprocess

import pytest
from program import mxgpt


def verify(*args, status=0):
    done = mxgpt("verify", *args, status=status)
    return done.stdout, done.stderr


def sha(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "original").mkdir(parents=True)
    (folder / ".cache").mkdir()
    for name, data in {
        "config.json": b"{}",
        "model.safetensors": b"x" * 5_000_000,
        "original/a b": b"1",
        "with\nnewline": b"2",
        ".gitattributes": b"no",
        ".cache/x": b"no",
    }.items():
        (folder / name).write_bytes(data)
    return folder


def test_prints_what_sha256sum_checks(model):
    manifest, _ = verify(model)
    assert manifest.splitlines()[0] == f"{sha(b'{}')}  config.json"
    assert manifest.count("\n") == 4 and ".cache" not in manifest
    (model / "SHA256SUMS").write_text(manifest)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=model, check=True, capture_output=True)
    assert verify(model)[0] == manifest  # the manifest does not list itself


def test_reads_what_sha256sum_prints(model):
    files = ["./model.safetensors", "config.json", "original/a b", "with\nnewline"]
    printed = subprocess.run(["sha256sum", "--binary", *files], cwd=model, check=True, capture_output=True).stdout
    (model / "sums").write_bytes(printed)
    out, err = verify(model, "--manifest", model / "sums")
    assert out.count(": OK\n") == 4 and err == ""


def test_a_changed_missing_or_added_file(model):
    (model / "SHA256SUMS").write_text(verify(model)[0])
    check = (model, "--manifest", model / "SHA256SUMS")
    (model / "added").write_bytes(b"")
    out, err = verify(*check)
    assert "added: not in the manifest" in err
    (model / "config.json").write_bytes(b"{ }")
    (model / "original" / "a b").unlink()
    out, err = verify(*check, status=1)
    assert "config.json: FAILED" in out and "original/a b: MISSING" in out and "model.safetensors: OK" in out
    assert "2 of 4 files" in err


def test_the_hash_of_a_file_and_of_a_directory(model):
    weights = model / "model.safetensors"
    assert verify(weights)[0] == f"{sha(b'x' * 5_000_000)}  model.safetensors\n"
    verify(weights, "--expect-sha256", sha(b"x" * 5_000_000).upper())
    whole = sha(verify(model)[0].encode())
    verify(model, "--expect-sha256", whole)
    _, err = verify(model, "--expect-sha256", sha(b""), status=1)
    assert whole in err and sha(b"") in err
    _, err = verify(model, "--expect-sha256", "abc", status=1)
    assert "64 hexadecimal digits" in err


def test_a_file_against_a_manifest_of_its_folder(model):
    (model / "SHA256SUMS").write_text(verify(model)[0])
    out, _ = verify(model / "config.json", "--manifest", model / "SHA256SUMS")
    assert out == "config.json: OK\n"
    (model / "other").write_bytes(b"")
    _, err = verify(model / "other", "--manifest", model / "SHA256SUMS", status=1)
    assert "does not list 'other'" in err


def test_shards_are_one_model(tmp_path):
    shards = [tmp_path / f"m-0000{i}-of-00002.gguf" for i in (1, 2)]
    for i, shard in enumerate(shards):
        shard.write_bytes(bytes([i]))
    manifest = "".join(f"{sha(s.read_bytes())}  {s.name}\n" for s in shards)
    assert verify(shards[1])[0] == manifest
    verify(shards[0], "--expect-sha256", sha(manifest.encode()))
    shards[1].unlink()
    assert "m-00002-of-00002.gguf" in verify(shards[0], status=1)[1]


def test_a_hostile_manifest(model, tmp_path):
    (tmp_path / "sums").write_text(f"{sha(b'')}  ../../etc/passwd\n")
    _, err = verify(model, "--manifest", tmp_path / "sums", status=1)
    assert "sums: line 1" in err and "outside the model's folder" in err


def test_wrong_use(tmp_path):
    assert "check the path" in verify(tmp_path / "none", status=1)[1]
    verify(status=2)
    verify(tmp_path, "--manifest", "x", "--expect-sha256", "y", status=2)
