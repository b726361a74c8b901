"""Settings shared by all tests."""

import torch

# Two test processes share the cores. On busy cores a small gradcheck takes a hundred times longer with two threads.
torch.set_num_threads(1)
