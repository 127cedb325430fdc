"""``python -m benchmarks``: the figures of the trunk, as ``make bench`` prints them."""

from benchmarks.trunk import main

main()
