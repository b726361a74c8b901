"""Quantities measured on captured tensors, and the code that measures them.

Import the public names from `thruway.watching`.
"""

__all__: list[str] = []
