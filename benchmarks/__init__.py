"""What Thruway's speed and memory are, as ratios against what one would otherwise write; `make bench` runs it all."""
