#!/usr/bin/env python3
"""Checks the sources against the module graph in src/modules.json: who may include whom, and where a vendor may be named.

    scripts/check_includes.py [ROOT]

Prints one line per fault, `file:line: fault`, and exits with 1 if there is any. tests/test_source_layout.py runs it on
the tree, and on trees with each fault planted.
"""

import json
import re
import sys
from pathlib import Path

SOURCES = {".h", ".cpp", ".cuh", ".cu"}
INCLUDE = re.compile(r'\s*#\s*include\s*(?:"([^"]*)"|<([^>]*)>)')
CONDITION = re.compile(r"\s*#\s*(?:if|ifdef|ifndef|elif)\b(.*)")
DEVICE_HEADER = re.compile(r"(cuda|cublas|curand|cooperative_groups|cub/|cutlass|cute/|mma\.h|nccl|nvtx|hip/)")
DEVICE_MACRO = re.compile(r"\w*(CUDA|NVCC|HIPCC)\w*", re.IGNORECASE)
VENDOR = re.compile(r"cuda|cublas|nvidia|cutlass|\bnccl|\bhip\b", re.IGNORECASE)


class Graph:
    """The modules of src/modules.json; `uses` is closed transitively."""

    def __init__(self, path):
        self.modules = {m["name"]: m for m in json.loads(path.read_text("utf-8"))}
        self.uses = {}
        for name, module in self.modules.items():  # in order: a module stands behind those that it uses
            self.uses[name] = set(module["uses"]).union(*(self.uses[used] for used in module["uses"]))

    def module_of(self, path):
        """The module that a file, relative to src/, belongs to."""
        for name, module in self.modules.items():
            if "also" in module and re.search(module["also"], path.as_posix()):
                return name
        return path.parts[0]


def is_device_file(path):
    """Whether a file, relative to src/, may use CUDA: .cu and .cuh of backend/cuda/ and .cu of quant/."""
    return path.suffix in {".cu", ".cuh"} and (path.parts[0] == "quant" or path.parts[:2] == ("backend", "cuda"))


def faults_of_include(graph, module, path, target, src):
    if ".." in target.split("/") or not (src / target).is_file():
        yield f'"{target}" is not a path relative to src/'
        return
    used = graph.module_of(Path(target))
    if used != module and used not in graph.uses.get(module, ()):
        yield f"{module} may not include {used}"
    if target.startswith("backend/cuda/") and target.endswith(".cuh") and not is_device_file(path):
        yield "only device files include backend/cuda's .cuh; its .h are free of CUDA"
    # Generic loops never name a format: they take it from the list.
    if (
        module in ("kernels", "backend")
        and path.parts[0] == module
        and not is_device_file(path)
        and re.match(r"quant/\w+/", target)
    ):
        yield f'{module} may not name a format ("{target}")'


def faults_of_file(graph, path, src):
    """Yields (line, fault) of one file; `path` is relative to src/."""
    in_main = len(path.parts) == 1  # src/main.cpp is above all modules
    module = graph.module_of(path)
    if not in_main and module not in graph.modules:
        yield 1, f"'{path.parts[0]}' is not a module of src/modules.json"
        return
    neutral = not in_main and graph.modules[module].get("vendor_neutral", False)
    for number, line in enumerate((src / path).read_text(encoding="utf-8").splitlines(), 1):
        if neutral and (match := VENDOR.search(line)):
            yield number, f"{module} names a vendor ('{match[0]}'); only backend and runtime may"
        if match := INCLUDE.match(line):
            quoted, system = match.groups()
            if quoted is not None and not in_main:
                for fault in faults_of_include(graph, module, path, quoted, src):
                    yield number, fault
            if DEVICE_HEADER.match(quoted or system) and not is_device_file(path):
                yield number, f"CUDA header <{quoted or system}> outside the .cu and .cuh of backend/cuda and quant"
        elif (match := CONDITION.match(line)) and not is_device_file(path):
            if macro := DEVICE_MACRO.search(match[1]):
                yield number, f"condition on a device ({macro[0]}); CMake picks the backend or its stub"


def check(root):
    src = root / "src"
    graph = Graph(src / "modules.json")
    files = sorted(p for p in src.rglob("*") if p.suffix in SOURCES)
    if not files:
        return [f"{src}: no sources found"]
    return [
        f"{path}:{line}: {fault}" for path in files for line, fault in faults_of_file(graph, path.relative_to(src), src)
    ]


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    faults = check(root)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
