"""What every test runs under."""

import torch

# Two test processes share the cores; on busy ones a small gradcheck takes a hundred times longer with two threads each.
torch.set_num_threads(1)
