"""Compile every GPU kernel for three generations of GPUs and print its resource usage as JSON."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from thruway.nn import triton_kernels as kernels
from thruway.nn.triton_launch import _COLUMNS, _ELEMENTS, _STACK, NARROW

STACK = {"precision": "ieee", "ROWS": NARROW, "COLUMNS": _COLUMNS}
KERNELS = {
    "stack_forward": (("W", "b", "X", "A", "Y"), STACK, _STACK),
    "stack_backward": (("g_in_out", "W", "X", "A", "dA", "G"), STACK | {"keeps_G": True}, _STACK),
    "gate": (("z", "x", "y", "b"), {"ELEMENTS": _ELEMENTS, "adds_bias": True}, {}),
    "ungate": (("g", "x", "z", "dz", "carry"), {"ELEMENTS": _ELEMENTS}, {}),
}
# compute capability, dtype, activation: each value occurs
TARGETS = [
    (75, "fp16", "relu"),
    (80, "fp32", "tanh"),
    (80, "fp32", "elu"),
    (90, "bf16", "sigmoid"),
    (90, "fp32", "linear"),
]


def taken(kernel, pointers, constants, options, capability, dtype):
    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else f"*{dtype}" if n in pointers else "i32" for n in names}
    constexprs = {(names.index(name),): value for name, value in constants.items()}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in pointers}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constexprs, attrs=aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        usage = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True)
    spilled = int(re.search(r"STACK:(\d+)", usage.stdout + usage.stderr)[1])
    return {"kernel": kernel.__name__, "fast_memory": compiled.metadata.shared, "spilled": spilled}


rows = []
for capability, dtype, act in TARGETS:
    for name, (pointers, constants, options) in KERNELS.items():
        row = taken(getattr(kernels, name), pointers, constants | {"act": act}, options, capability, dtype)
        rows.append(row | {"capability": capability, "dtype": dtype, "act": act})
print(json.dumps(rows))
