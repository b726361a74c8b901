"""Benchmarks of speed and memory, as ratios against common alternatives; `make bench` runs them all."""
