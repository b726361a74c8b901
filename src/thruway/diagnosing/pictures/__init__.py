"""Pictures of findings: which figures show the evidence of each symptom.

case       the finding to draw, and the trace
maps       layers x steps, with the affected layers and the onset marked
depth      a quantity over depth at the onset, beside theory
theory     the lines that theory expects over depth
over_time  loss and norms over the steps
states     parameters: frozen, without gradient, forgotten by the optimizer
numbers    measured, expected and limit of each piece of evidence
table      PICTURES: the figures of each symptom
"""

from thruway.diagnosing.pictures.case import Case, Picture
from thruway.diagnosing.pictures.table import PICTURES, pictures_of

__all__ = ["PICTURES", "Case", "Picture", "pictures_of"]
