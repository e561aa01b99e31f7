"""Rules for the source tree: the module graph, names that must not appear, and documents that match the code."""

import re
import subprocess
import sys

import pytest
from program import REPO, mxgpt

sys.path.insert(0, str(REPO / "scripts"))
import check_includes  # noqa: E402

DOCUMENTS = [REPO / name for name in ("README.md", "HACKING.md", "CONTRIBUTING.md")]


# ---- the module graph ------------------------------------------------------------------------------------

# A small graph and a tree that follows it; each test adds one file.
GRAPH = """[
  {"name": "base", "uses": []},
  {"name": "quant", "uses": ["base"]},
  {"name": "kernels", "uses": ["quant"], "also": "^quant/[^/]+/[^/]+_(scalar|avx2|avx512)\\\\.cpp$"},
  {"name": "backend", "uses": ["kernels"], "also": "^quant/[^/]+/[^/]+\\\\.cu$"},
  {"name": "text", "uses": ["base"]},
  {"name": "model", "uses": ["backend"]},
  {"name": "engine", "uses": ["model"], "vendor_neutral": true},
  {"name": "cli", "uses": ["engine", "text"]}
]"""
CLEAN = {
    "modules.json": GRAPH,
    "main.cpp": '#include <cstdio>\n#include "cli/command.h"\n',
    "cli/command.h": '#include "engine/session.h"\n#include "text/tokenizer.h"\n',
    "engine/session.h": '#include "backend/ops.h"\n',
    "backend/ops.h": '#include "quant/format.h"\n',
    "backend/cuda/gemm.cu": '#include <cuda_runtime.h>\n#ifdef __CUDA_ARCH__\n#include "backend/cuda/gemm.cuh"\n',
    "backend/cuda/gemm.cuh": "#include <cuda_bf16.h>\n",
    "kernels/cpu/avx2.h": '#include "quant/format.h"\n',
    "quant/format.h": "#include <span>\n",
    "quant/mxfp4/mxfp4.h": "",
    "quant/mxfp4/mxfp4_avx2.cpp": '#include "kernels/cpu/avx2.h"\n#include "quant/mxfp4/mxfp4.h"\n',
    "quant/mxfp4/mxfp4.cu": '#include "backend/cuda/gemm.cuh"\n#include "quant/mxfp4/mxfp4.h"\n',
    "text/tokenizer.h": '#include "base/error.h"\n',
    "base/error.h": "#include <string>\n",
}


def check_with(folder, added):
    for path, text in {**CLEAN, **added}.items():
        (folder / "src" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "src" / path).write_text(text)
    return check_includes.check(folder)


def test_the_tree_follows_the_module_graph():
    assert check_includes.check(REPO) == []


def test_a_clean_tree_has_no_faults(tmp_path):
    assert check_with(tmp_path, {}) == []


@pytest.mark.parametrize(
    "path, text, fault",
    [
        ("base/x.h", '\n#include "quant/format.h"', "x.h:2: base may not include quant"),
        ("quant/x.h", '#include "backend/ops.h"', "quant may not include backend"),
        ("quant/x.h", '#include "kernels/cpu/avx2.h"', "quant may not include kernels"),
        ("quant/mxfp4/mxfp4_avx512.cpp", '#include "backend/ops.h"', "kernels may not include backend"),
        ("model/x.cpp", '  # include "text/tokenizer.h"', "model may not include text"),
        ("text/x.cpp", '#include "engine/session.h"', "text may not include engine"),
        ("backend/x.cpp", '#include "quant/mxfp4/mxfp4.h"', "may not name a format"),
        ("engine/x.cpp", '#include "session.h"', "not a path relative to src/"),
        ("engine/x.cpp", '#include "engine/../text/tokenizer.h"', "not a path relative to src/"),
        ("engine/x.cpp", "// as on Cuda", "engine names a vendor ('Cuda')"),
        ("attic/x.cpp", "", "'attic' is not a module"),
        ("model/x.cpp", "#include <cuda_runtime.h>", "CUDA header <cuda_runtime.h>"),
        ("quant/mxfp4/x.h", "#include <cuda_bf16.h>", "CUDA header <cuda_bf16.h>"),
        ("backend/cuda/x.h", "#include <cuda_bf16.h>", "CUDA header <cuda_bf16.h>"),
        ("backend/cuda/x.h", '#include "backend/cuda/gemm.cuh"', "only device files include"),
        ("model/x.cpp", "#ifdef __CUDACC__", "condition on a device (__CUDACC__)"),
        ("main.cpp", "#if defined(MXGPT_WITH_CUDA)", "condition on a device (MXGPT_WITH_CUDA)"),
    ],
)
def test_each_fault_is_found(tmp_path, path, text, fault):
    faults = check_with(tmp_path, {path: text})
    assert len(faults) == 1 and fault in faults[0], faults


# ---- names that must not appear --------------------------------------------------------------------------

# Users have other machines and mirrors, named by their own configuration.
FORBIDDEN = re.compile(
    r"""(?<![\w.}])/(?:work|root|tmp|home/\w+)/
      | \b(?:pypi|pythonhosted|debian|ubuntu|npmjs|crates|docker)\.(?:org|com|io)\b""",
    re.VERBOSE,
)
# Not checked: data, licenses, and files outside the project.
NOT_OURS = re.compile(
    r"(models|build|\.git|\.cache|\.ruff_cache)(/|$)|tests/(\w+/)*(data|corpus)/|LICENSE$|.*__pycache__"
)


def own_files():
    for path in sorted(REPO.rglob("*")):
        name = path.relative_to(REPO).as_posix()
        if path.is_file() and not NOT_OURS.match(name):
            yield path


def forbidden_names(text):
    return [match[0] for match in FORBIDDEN.finditer(text)]


def test_no_machine_path_and_no_registry_host():
    files = list(own_files())
    assert len(files) > 100
    found = {str(path): names for path in files if (names := forbidden_names(path.read_text("utf-8")))}
    assert found == {}


@pytest.mark.parametrize("text", ["cp /%s/x y", "file:///%s/x", '"/%s/"'])
@pytest.mark.parametrize("folder", ["work", "root", "tmp", "home/ada"])
def test_a_machine_path_is_found(text, folder):
    assert forbidden_names(text % folder)


@pytest.mark.parametrize("host", ["pypi", "files.pythonhosted", "deb.debian"])
def test_a_registry_host_is_found(host):
    assert forbidden_names(f"http://{host}.org/simple")


# ---- the documents ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_a_document_names_exist(document):
    """Links, and paths in backticks that begin with a folder of the tree."""
    text = document.read_text("utf-8")
    named = re.findall(r"\]\(([^)#:]+)\)", text)
    named += re.findall(r"`((?:src|tests|scripts|bench|cmake|models)/[\w./-]+)`", text)
    assert named
    assert [name for name in named if not (REPO / name).exists()] == []


def commands_of_the_program():
    text = mxgpt("--help").stdout
    listed = text.split("Subcommands:")[1]
    return {line.split()[0] for line in listed.splitlines() if re.match(r"  \w", line)}


def test_readme_knows_each_command_and_no_other():
    text = (REPO / "README.md").read_text("utf-8")
    shown = set(re.findall(r"\bmxgpt ([a-z]+)\b", " ".join(re.findall(r"`[^`]+`|```.*?```", text, re.DOTALL))))
    assert shown == commands_of_the_program()


# ---- the sources -----------------------------------------------------------------------------------------


def own_sources():
    sources = [path for path in own_files() if path.suffix in (".h", ".cpp", ".cu", ".cuh")]
    assert len(sources) > 100
    return sources


def test_sources_are_of_a_readable_size():
    assert [str(path) for path in own_sources() if path.read_bytes().count(b"\n") > 600] == []


def lint(*paths):
    return subprocess.run([REPO / "scripts/lint.sh", *paths], capture_output=True, text=True, cwd=REPO)


def test_sources_are_formatted():
    """If this fails: scripts/lint.sh --fix."""
    result = lint()
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name, text", [("x.h", "int  x ;\n"), ("x.py", "x = [1,\n  2]\n"), ("y.py", "import os\n")])
def test_a_misformatted_source_is_found(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    result = lint(tmp_path / name)
    assert result.returncode == 1 and name in result.stdout + result.stderr
