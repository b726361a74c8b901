"""Hooks that capture the tensors computed by a model during a sampled step.

Import the public names from `thruway.watching`.
"""

__all__: list[str] = []
