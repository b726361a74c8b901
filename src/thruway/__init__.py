"""Build, watch and dissect very deep networks in PyTorch."""
