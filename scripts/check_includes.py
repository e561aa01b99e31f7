#!/usr/bin/env python3
"""Holds the sources to the picture of the rooms: who may include whom, and where a device may be named.

    scripts/check_includes.py [ROOT]

Prints one line a fault, `file:line: what`, and exits with 1 if there is any. tests/test_house.py runs it on the
tree, and on trees with each fault planted.
"""
import re
import sys
from pathlib import Path

# room: the rooms that it may include. An arrow of the picture holds through: who may use io may use formats.
ROOMS = {
    "base": (),
    "formats": ("base",),
    "io": ("formats", "base"),
    "text": ("io", "formats", "base"),
    "backend": ("formats", "base"),
    "model": ("backend", "io", "formats", "base"),
    "engine": ("model", "backend", "io", "formats", "base"),
    "numerics": ("engine", "model", "backend", "io", "formats", "base"),
    "server": ("engine", "model", "backend", "text", "io", "formats", "base"),
    "apps": ("server", "engine", "numerics", "model", "backend", "text", "io", "formats", "base"),
}
SOURCES = {".h", ".cpp", ".cuh", ".cu"}
INCLUDE = re.compile(r'\s*#\s*include\s*(?:"([^"]*)"|<([^>]*)>)')
CONDITION = re.compile(r"\s*#\s*(?:if|ifdef|ifndef|elif)\b(.*)")
DEVICE_HEADER = re.compile(r"(cuda|cublas|curand|cooperative_groups|cub/|cutlass|cute/|mma\.h|nccl|nvtx|hip/)")
DEVICE_MACRO = re.compile(r"\w*(CUDA|NVCC|HIPCC)\w*", re.IGNORECASE)


def is_device_file(path):
    """Whether `path`, relative to src/, may know CUDA: .cu and .cuh of backend/cuda/ and of formats/."""
    return path.suffix in {".cu", ".cuh"} and (path.parts[0] == "formats" or path.parts[:2] == ("backend", "cuda"))


def faults_of_include(path, target, src):
    room, target_room = path.parts[0], target.split("/")[0]
    if ".." in target.split("/") or not (src / target).is_file():
        yield f'"{target}" is not a path relative to src/'
    elif target_room not in (room, *ROOMS.get(room, ())):
        yield f"{room} may not include {target_room}"
    if target.startswith("backend/cuda/") and target.endswith(".cuh") and path.parts[:2] != ("backend", "cuda"):
        yield "only backend/cuda includes its own .cuh; its .h are free of CUDA"
    # Generic loops never name a format: they take it from the list.
    if room == "backend" and re.match(r"formats/\w+/", target) and not is_device_file(path):
        yield f'backend may not name a format ("{target}")'


def faults_of_file(path, src):
    """Yields (line, fault) of one file; `path` is relative to src/."""
    if len(path.parts) > 1 and path.parts[0] not in ROOMS:
        yield 1, f"'{path.parts[0]}' is no room; DESIGN lists them, scripts/check_includes.py checks them"
        return
    in_main = len(path.parts) == 1  # src/main.cpp stands above all rooms
    for number, line in enumerate((src / path).read_text(encoding="utf-8").splitlines(), 1):
        if match := INCLUDE.match(line):
            quoted, system = match.groups()
            if quoted is not None and not in_main:
                for fault in faults_of_include(path, quoted, src):
                    yield number, fault
            if DEVICE_HEADER.match(quoted or system) and not is_device_file(path):
                yield number, f"CUDA header <{quoted or system}> outside the .cu and .cuh of backend/cuda and formats"
        elif (match := CONDITION.match(line)) and not is_device_file(path):
            if macro := DEVICE_MACRO.search(match[1]):
                yield number, f"condition on a device ({macro[0]}); CMake picks the backend or its stub"


def check(root):
    src = root / "src"
    files = sorted(p for p in src.rglob("*") if p.suffix in SOURCES)
    if not files:
        return [f"{src}: no sources found"]
    return [
        f"{path}:{line}: {fault}"
        for path in files
        for line, fault in faults_of_file(path.relative_to(src), src)
    ]


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    faults = check(root)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
