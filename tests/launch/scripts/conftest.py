"""These files are programs for other tests to run. Pytest does not import them."""

collect_ignore_glob = ["*.py"]
