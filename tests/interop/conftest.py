"""Tests beside the real NNI, which lives in an environment of its own.

There, ``test_under_nni.py`` runs them from here.
"""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [] if find_spec("nni") else ["under_nni"]
