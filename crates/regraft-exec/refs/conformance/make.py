"""Writes cases.bin: a small part of the ONNX backend suite, for test runs without a download.

Usage: make.py DATA, the `onnx/backend/test/data` folder of the wheel onnx 1.22.0 (onnx and tomllib
are needed). Of the cases that pass, it takes the smallest ones of each op, then small ones of
PyTorch's. Layout, little-endian: u32 count; per case kind, name, model (each u32 length + bytes),
u32 number of data sets; per set the inputs, then the outputs (each u32 count, then the encoded
tensors as u32 length + bytes).
"""

import pathlib
import struct
import sys
import tomllib

import onnx

HERE = pathlib.Path(__file__).parent
STATUS = HERE / "../../tests/conformance/expectations.toml"
# Of each op.
PER_OP = {"node": 2, "pytorch-operator": 1, "pytorch-converted": 1, "simple": 1}
MAX_CASE_BYTES = 24_000
MAX_CASES = 400


def block(data):
    return struct.pack("<I", len(data)) + data


def numbered(folder, what):
    files = []
    while (path := folder / f"{what}_{len(files)}.pb").is_file():
        files.append(path.read_bytes())
    return files


def encode(kind, folder):
    sets = sorted(folder.glob("test_data_set_*"))
    out = block(kind.encode()) + block(folder.name.encode())
    out += block((folder / "model.onnx").read_bytes()) + struct.pack("<I", len(sets))
    for data in sets:
        for what in ("input", "output"):
            files = numbered(data, what)
            out += struct.pack("<I", len(files)) + b"".join(map(block, files))
    return out


def ops(graph):
    found = set()
    for node in graph.node:
        found.add(node.op_type)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found |= ops(attribute.g)
    return found


def main(root):
    expected = tomllib.loads(STATUS.read_text())
    picked = []
    for kind, per_op in PER_OP.items():
        names = [c for g in expected[kind].get("pass", []) for c in g["cases"]]
        sized = sorted((len(encode(kind, root / kind / n)), n) for n in names if "_expanded" not in n)
        taken = {}
        for size, name in sized:
            if size > MAX_CASE_BYTES:
                break
            own = ops(onnx.load(root / kind / name / "model.onnx").graph)
            if len(picked) < MAX_CASES and any(taken.get(op, 0) < per_op for op in own):
                picked.append((kind, name))
                for op in own:
                    taken[op] = taken.get(op, 0) + 1
    packed = struct.pack("<I", len(picked))
    packed += b"".join(encode(kind, root / kind / name) for kind, name in sorted(picked))
    (HERE / "cases.bin").write_bytes(packed)
    print(f"{len(picked)} cases, {len(packed)} bytes")


main(pathlib.Path(sys.argv[1]))
