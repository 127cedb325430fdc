"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# How long an example takes depends on the machine and on what else it does. Whether a change is
# merged is decided on the same examples each time; whoever runs tests by hand looks for new ones.
settings.register_profile("untimed", deadline=None)
settings.register_profile("merging", deadline=None, derandomize=True)
settings.load_profile("merging" if os.environ.get("CI") else "untimed")
