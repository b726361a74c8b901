"""Rules of the diagnosis, one file per symptom or family of symptoms.

Import the public names from `thruway.diagnosing`.
"""

__all__: list[str] = []
