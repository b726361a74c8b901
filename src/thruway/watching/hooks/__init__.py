"""Hooks that capture what a model computes during a sampled step.

Import the public names from `thruway.watching`.
"""

__all__: list[str] = []
