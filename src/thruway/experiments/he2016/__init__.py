"""Identity Mappings in Deep Residual Networks, He, Zhang, Ren & Sun 2016."""

from thruway.experiments.he2016.gates_page import STUDY as GATES

__all__ = ["GATES"]
