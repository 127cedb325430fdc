"""What NNI 3.0 calls things, and NNI 2 where that differs, and where they are here."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

__all__ = [
    "ADVICE",
    "HOMES",
    "RENAMED",
    "Target",
    "advice",
    "canonical",
    "find",
    "homes",
    "is_module",
    "is_nni",
    "offers",
]

HOMES: dict[str, tuple[str, ...]] = {
    "nni": ("nas_space",),
    "nni.mutable": ("nas_space.mutable",),
    "nni.nas.nn.pytorch": ("nas_space.nn", "nas_space.mutable", "nas_space.interop.nni_compat"),
    "nni.nas.space": ("nas_space.nn", "nas_space.interop.nni_compat"),
    "nni.nas.hub.pytorch": ("nas_space.hub", "nas_space.mutable", "nas_space.nn"),
    "nni.nas.hub.pytorch.utils.pretrained": ("nas_space.hub.pretrained",),
    "nni.nas.strategy": ("nas_space.strategy",),
    "nni.nas.profiler": ("nas_space.profiler", "nas_space.interop.nni_compat"),
    "nni.nas.evaluator.pytorch": (),
}
"""Where the names of a module, and of those below it, are looked for."""

RENAMED: dict[tuple[str, str], tuple[str, str]] = {
    ("nni.nas.strategy", "TPEStrategy"): ("nas_space.strategy", "TPE"),
    # Its own hub, and so who copied that, compares with it.
    ("nni.mutable", "_mutable_equal"): ("nas_space.interop.nni_compat", "mutable_equal"),
    # A block that may choose an identity has the tensors of one that was built without.
    ("nni.nas.hub.pytorch", "InvertedResidual"): ("nas_space.hub", "CompactInvertedResidual"),
    ("nni.nas.hub.pytorch", "DepthwiseSeparableConv"): (
        "nas_space.hub",
        "CompactDepthwiseSeparableConv",
    ),
    # Of one name with strategies there.
    **{
        ("nni.nas.hub.pytorch", name): ("nas_space.hub", f"{name}Space")
        for name in ("NASNet", "ENAS", "AmoebaNet", "PNAS", "DARTS")
    },
    ("nni.nas.hub.pytorch", "NDS"): ("nas_space.hub", "CellSpace"),
    ("nni.nas.evaluator.pytorch", "DataLoader"): ("torch.utils.data", "DataLoader"),
}
"""Names that are not the same, by the module of :data:`HOMES` and the name."""

_SEARCH = (
    "call nas_space.search(space, evaluate, strategy=..., trials=...): it takes the function of "
    "NNI's FunctionalEvaluator, with the architecture as its second argument, and returns the "
    "result"
)
_METRIC = "return the metric from the function given to nas_space.search"
_RELAXED = (
    "there are no layers of one strategy: a space is its own supernet, and what runs it "
    "differently is a nas_space.nn.Activation with its own mix(), repeat() and elastic()"
)
_STEPS = (
    "derive it from torch.nn.Module with the network as an attribute model, and its own criterion; "
    "or write nas_space.training.Task(train=..., step=..., predict=..., metrics=...), whose "
    "step(network, batch) is training_step"
)
_WRITING = "use pickle, or json for architectures: everything here can be written by them"
_ARGUMENTS = "leave it out: a space knows the arguments that it was made with"
_REGISTRATION = "leave it out: nas_space needs no registration of classes"
_FORMATS = "leave it out: a space runs as it is, and has no other formats"

_BENCHMARK = (
    "keep NNI's query beside nas_space, or search the table itself: records = [...] of its rows, "
    "nas_space.search(space, nas_space.study.TableEvaluator(space, records, {own})) with space = "
    "nas_space.hub.{space}()"
)
_NB101 = "key=space.hash_of"
_NB201 = "key=space.string_of"

ADVICE: dict[str, str] = {
    "nni.nas.experiment": _SEARCH,
    "nni.nas.evaluator": _SEARCH
    + "; for training with Lightning Fabric, give it a nas_space.training.Task",
    "nni.nas.evaluator.FunctionalEvaluator": _SEARCH,
    "nni.nas.evaluator.pytorch.Trainer": "how long to train is said to the search: "
    "nas_space.search(space, task, epochs=...)",
    "nni.nas.evaluator.pytorch.LightningModule": "derive it from torch.nn.Module, or from "
    "lightning.LightningModule, with the network as an attribute model; see Task.from_lightning",
    "nni.nas.evaluator.pytorch.ClassificationModule": _STEPS,
    "nni.nas.evaluator.pytorch.RegressionModule": _STEPS,
    "nni.nas.strategy.middleware": "there is none between a strategy and a search: see the "
    "arguments of nas_space.search",
    "nni.nas.execution": "leave it out: nas_space.search(..., workers=...) says how trials run",
    "nni.report_final_result": _METRIC,
    "nni.report_intermediate_result": "call nas_space.study.report(value, step)",
    "nni.get_next_parameter": "take the second argument of the function given to nas_space.search",
    "nni.load": _WRITING,
    "nni.dump": _WRITING,
    "nni.trace": _ARGUMENTS,
    "nni.nas.oneshot": _RELAXED,
    "nni.nas.strategy": "nas_space.strategy.STRATEGIES lists what there is",
    "nni.nas.space": _FORMATS,
    "nni.nas.space.BaseModelSpace": "use nas_space.ModelSpace",
    "nni.nas.profiler": "leave it out: nas_space.profiler follows forward itself, on shapes alone",
    "nni.nas.nn.pytorch.MutationAnchor": _FORMATS,
    "nni.nas.nn.pytorch": "use the layer of torch.nn, or its Mutable form in nas_space.nn",
    "nni.nas.model_wrapper": "leave it out, and derive the class from nas_space.ModelSpace",
    "nni.nas.basic_unit": _REGISTRATION,
    "nni.nas.serialize": "call the class itself: a space knows the arguments it was made with",
    "nni.nas.serializer": _ARGUMENTS,
    "nni.nas.fixed_arch": "call space.freeze(arch), or build with ModelSpace.frozen_factory(arch)",
    "nni.nas.utils": _REGISTRATION,
    "nni.nas.benchmark.nasbench101": _BENCHMARK.format(space="NasBench101", own=_NB101),
    "nni.nas.benchmark.nasbench201": _BENCHMARK.format(space="NasBench201", own=_NB201),
    "nni.nas.benchmark": "keep NNI's query beside nas_space; of other tables search by "
    "nas_space.search(space, nas_space.study.TableEvaluator(space, records))",
    "nni.nas.hub.pytorch": "migrate the file that it is defined in as well, and import that",
    "nni.mutable": "see the table 'What is gone' in docs/migrating-from-nni.md",
    "nni.common": "it is internal to NNI; copy what you need of it",
    "nni": "it has no counterpart",
}
"""What to write instead, by name, or by the module that a name is in."""


class Target(NamedTuple):
    """Where something is here."""

    module: str
    name: str


def is_nni(module: str) -> bool:
    """Return whether a module is NNI's."""
    return module == "nni" or module.startswith("nni.")


def canonical(module: str) -> str:
    """Return what NNI 3.0 calls one of its modules: NNI 2 had other names, packages have two.

    Examples
    --------
    >>> canonical("nni.retiarii.nn.pytorch"), canonical("nni.nas.nn")
    ('nni.nas.nn.pytorch', 'nni.nas.nn.pytorch')
    """
    if module == "nni.retiarii" or module.startswith("nni.retiarii."):
        module = f"nni.nas{module.removeprefix('nni.retiarii')}"
    return f"{module}.pytorch" if module in {"nni.nas.nn", "nni.nas.hub"} else module


def is_module(name: str) -> bool:
    """Return whether a dotted name is that of one of NNI's modules with counterparts here."""
    return canonical(name) in HOMES


def homes(module: str) -> tuple[str, ...]:
    """Return the modules here in which the names of one of NNI's modules are looked for."""
    module = canonical(module)
    home = _nearest(module, HOMES)
    return () if home is None or (home == "nni" and module != "nni") else HOMES[home]


def find(module: str, name: str) -> Target | None:
    """Return where a name of one of NNI's modules is here; ``None`` if nowhere.

    Examples
    --------
    >>> find("nni.nas.hub.pytorch.proxylessnas", "make_divisible")
    Target(module='nas_space.mutable', name='make_divisible')
    >>> find("nni.nas.oneshot.pytorch", "MixedConv2d") is None
    True
    """
    home = _nearest(canonical(module), HOMES) or ""
    renamed = RENAMED.get((home, name))
    if renamed is not None:
        return Target(*renamed)
    for candidate in homes(module):
        if name == "*" or offers(candidate, name):
            return Target(candidate, name)
    if home == "nni.nas.nn.pytorch" and offers("nas_space.nn", f"Mutable{name}"):
        return Target("nas_space.nn", f"Mutable{name}")  # NNI 2's layers took choices themselves
    return None


def offers(module: str, name: str) -> bool:
    """Return whether a module here has a name, without importing what only that name needs."""
    # ``dir`` lists what is imported on first use, and imports none of it; only what it does not
    # list is asked for.
    found = import_module(module)
    return name in dir(found) or hasattr(found, name)


def advice(module: str, name: str = "") -> str:
    """Return what to write instead of something that has no counterpart."""
    module = canonical(module)
    nearest = _nearest(f"{module}.{name}" if name else module, ADVICE)
    return ADVICE[nearest or "nni"]


def _nearest(name: str, known: dict[str, tuple[str, ...]] | dict[str, str]) -> str | None:
    """Return the longest of some dotted names that is this one or above it."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None
