"""Costs of the architectures of a space, as expressions over its labels.

Each function follows the space's own forward once, for all of its architectures, on shapes
alone; so a cost is exact for every architecture, and equal to what torch's counters say of the
frozen network.

>>> from nas_space.hub import ProxylessNAS
>>> from nas_space.profiler import macs
>>> space = ProxylessNAS(num_labels=10, width_mult=0.25)
>>> cost = macs(space, (3, 32, 32))
>>> cost.evaluate(space.sample(seed=0)) > 0
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from ..runtimes import Turns as Turns  # described there; importable from here as before
    from ..runtimes import time_in_turns
    from .blocks import Block
    from .calibration import calibrate_latency
    from .correction import Correction
    from .cost import Cost, LayerCall, UnknownOperatorError
    from .costs import flops, macs
    from .device_kit import device_kit, export_blocks, read_device_kit
    from .formulas import FlopsResult, register_flops_formula
    from .latency import blocks, latency
    from .latency_table import LatencyTable
    from .measuring import measure_latency
    from .memory import memory
    from .operator_calls import OperatorCall
    from .parameters import params
    from .profile import ModuleCost, Profile, profile
    from .registry import COSTS, RegisteredCost, find_cost, register_cost
    from .target import TimingTarget

__all__ = [
    "COSTS",
    "Block",
    "Correction",
    "Cost",
    "FlopsResult",
    "LatencyTable",
    "LayerCall",
    "ModuleCost",
    "OperatorCall",
    "Profile",
    "RegisteredCost",
    "TimingTarget",
    "UnknownOperatorError",
    "blocks",
    "calibrate_latency",
    "device_kit",
    "export_blocks",
    "find_cost",
    "flops",
    "latency",
    "macs",
    "measure_latency",
    "memory",
    "params",
    "profile",
    "read_device_kit",
    "register_cost",
    "register_flops_formula",
    "time_in_turns",
]

__getattr__, __dir__ = lazily(__name__)
