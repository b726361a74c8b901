"""Text of a diagnosis, as shown by `print(tw.diagnose(trace))`."""

from thruway.diagnosing.diagnosis import Diagnosis

__all__ = ["diagnosis_text"]


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """Return the diagnosis as one screen of text."""
    lines = [f"Diagnosis of {diagnosis.trace.model}: {'healthy' if diagnosis.healthy else ''}"]
    for depth, finding in diagnosis.every_finding():
        lines.append(f"{'  ' * depth}{finding.rule} since step {finding.onset}: {finding.cause}")
        lines += [f"{'  ' * depth}    {evidence.text}" for evidence in finding.evidence]
        lines += [f"{'  ' * depth}    try: {cure.text}" for cure in finding.cures[:2]]
    return "\n".join(lines)
