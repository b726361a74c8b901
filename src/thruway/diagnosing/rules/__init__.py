"""Rules of the diagnosis, one file per symptom or family of symptoms."""
