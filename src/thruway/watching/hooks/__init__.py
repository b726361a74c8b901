"""Hooks that capture what a model computes during a sampled step. Its door is `thruway.watching`."""

__all__: list[str] = []
