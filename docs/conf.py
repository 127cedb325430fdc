"""How Sphinx builds the manual: pages in Markdown, and the reference from the docstrings."""

from importlib.metadata import version as installed

project = "nas_space"
author = "The nas_space authors"
copyright = author
release = installed("nas-space")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"nas_space {release}"

# Titles of the pages can be linked to, as on the web pages that show Markdown.
myst_heading_anchors = 3

# What a class inherits from torch is described by torch, in a markup of its own.
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# A few exceptions can be imported from where NNI has them, too; a link may lead to either place.
suppress_warnings = ["ref.python"]
