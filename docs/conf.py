"""How Sphinx builds the manual: pages in Markdown, and the reference from the docstrings."""

import importlib.util
import json
import os
import sys
import warnings
from contextlib import chdir, redirect_stdout
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

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
# A picture of an architecture is one column, as wide as a phone: on a desk it is not wider either.
myst_enable_extensions = ["attrs_inline"]

# What a class inherits from torch is described by torch, in a markup of its own.
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# The reference lists a form of each layer of torch, of one that torch has deprecated, too.
warnings.filterwarnings("ignore", "`NLLLoss2d` has been deprecated", FutureWarning)
# A few exceptions can be imported from where NNI has them, too; a link may lead to either place.
suppress_warnings = ["ref.python"]


# ------------------------------------------------------------------- what the tutorials print

HERE = Path(__file__).parent
OUTPUT = HERE / "examples" / "output"


def run_examples(_: Any) -> None:
    """Run the scripts of the tutorials, at a small size: their pages show what they print.

    What the script of the gallery draws is on its page. A script that ran since it was changed is
    not run again: remove ``docs/examples/output`` to run them all.
    """
    OUTPUT.mkdir(exist_ok=True)
    sizes = json.loads((HERE / "examples" / "sizes.json").read_text(encoding="utf-8"))
    for name, size in sizes.items():
        script, printed = HERE / "examples" / f"{name}.py", OUTPUT / f"{name}.txt"
        if printed.exists() and printed.stat().st_mtime > script.stat().st_mtime:
            continue
        spec = importlib.util.spec_from_file_location(name, script)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        beside = printed.with_suffix(".part")
        with chdir(OUTPUT), beside.open("w", encoding="utf-8") as file, redirect_stdout(file):
            module.main(**size)
        beside.replace(printed)


def setup(app: Any) -> None:
    """Have the scripts run before pages are read."""
    os.environ.setdefault("COLUMNS", "100")
    app.connect("builder-inited", run_examples)
