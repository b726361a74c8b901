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
myst_heading_anchors = 3  # links such as page.md#a-heading
suppress_warnings = ["ref.python", "myst.xref_missing"]


def setup(app):
    """Docstrings are written to be read in an editor: a star in them is a product or an argument, not emphasis."""

    def escape_stars(_app, _what, _name, _obj, _options, lines):
        lines[:] = [line if line.lstrip().startswith(">>>") else line.replace("*", r"\*") for line in lines]

    app.connect("autodoc-process-docstring", escape_stars, priority=400)  # before napoleon
