"""Sphinx configuration."""

project = "Thruway"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_prev_next": False}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["ref.python", "myst.xref_missing"]
