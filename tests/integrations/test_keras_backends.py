"""Agreement of the Keras layers with the PyTorch layers on each installed backend.

Each backend runs in its own process, since Keras cannot change its backend after import.
"""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.slow

CODE = textwrap.dedent(
    """
    import json, sys
    import numpy as np
    import torch
    from thruway import nn
    from thruway.integrations.keras import HighwayDense, from_torch, to_torch
    import keras

    generator = torch.Generator().manual_seed(0)
    errors = {}
    for carry in ("coupled", "independent"):
        modules = {
            "dense": (nn.HighwayLinear(6, "gelu", carry=carry, generator=generator), (4, 6)),
            "line": (nn.HighwayConv1d(6, 5, "tanh", carry=carry, dilation=2, generator=generator), (4, 6, 12)),
            "image": (nn.HighwayConv2d(6, (3, 5), carry=carry, generator=generator), (4, 6, 9, 7)),
        }
        for name, (module, shape) in modules.items():
            x = torch.randn(shape, generator=generator)
            for data_format in ("channels_last", "channels_first"):
                is_last = name == "dense" or data_format == "channels_last"
                layer = from_torch(module, **({} if name == "dense" else {"data_format": data_format}))
                y = keras.ops.convert_to_numpy(layer((x.movedim(1, -1) if is_last else x).numpy()))
                y = np.moveaxis(y, -1, 1) if is_last else y
                errors[f"{name} {carry} {data_format}"] = float(np.abs(y - module(x).detach().numpy()).max())
                back = to_torch(layer)
                assert torch.equal(back.weight, module.weight) and torch.equal(back.bias, module.bias)
    for policy in ("mixed_float16", "mixed_bfloat16"):
        y = HighwayDense(dtype=policy)(np.ones((2, 3)))
        assert keras.backend.standardize_dtype(y.dtype) == policy.removeprefix("mixed_"), y.dtype
    model = keras.Sequential([HighwayDense("tanh")])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    losses = model.fit(x, -x, epochs=5, verbose=0).history["loss"]
    print(json.dumps([keras.backend.backend(), errors, losses]))
    """
)


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_a_backend_agrees_with_pytorch(backend):
    for package in ("keras", backend):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    ran_on, errors, losses = json.loads(done.stdout.splitlines()[-1])
    assert ran_on == backend
    assert len(errors) == 12
    # float32, sums of at most 90 products below 1: a few roundings of 1e-7 each way.
    assert {name: error for name, error in errors.items() if not error < 5e-6} == {}
    assert losses[-1] < losses[0]
