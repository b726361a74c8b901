"""Quantities measured on captured tensors, and the code that measures them. Its door is `thruway.watching`."""

__all__: list[str] = []
