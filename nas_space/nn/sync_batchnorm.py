"""``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` for elastic layers, too.

It makes each batch norm anew from its attributes, which in an elastic one are expressions. So where
there are such, they are made anew from their arguments, and all else is left to torch.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .elastic import ElasticModule
from .layers import MutableSyncBatchNorm
from .parametrized import signature_of

__all__ = ["install"]

_convert_plain: Any = nn.SyncBatchNorm.convert_sync_batchnorm


def _is_elastic(module: nn.Module | None) -> bool:
    return isinstance(module, ElasticModule) and module.is_parametrized


def _convert(module: nn.Module, process_group: Any = None) -> Any:
    if not any(_is_elastic(m) and isinstance(m, _BatchNorm) for m in module.modules()):
        return _convert_plain(module, process_group)
    return _converted(module, process_group, {})


def _converted(module: nn.Module, process_group: Any, memo: dict[int, nn.Module]) -> nn.Module:
    if id(module) in memo:  # used in several places, and one in all of them
        return memo[id(module)]
    made = memo[id(module)] = module
    if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
        if not _is_elastic(module):
            made = _convert_plain(module, process_group)
        else:
            made = _synchronised(module, process_group)
        memo[id(module)] = made
    for name, child in module._modules.items():
        if child is not None:
            made._modules[name] = _converted(child, process_group, memo)
    return made


def _synchronised(module: Any, process_group: Any) -> nn.Module:
    known = signature_of(nn.SyncBatchNorm).parameters
    arguments = {name: value for name, value in module.args.items() if name in known}
    for name in ("eps", "momentum"):  # which may have been set since
        arguments[name] = module.expression(name)
    made: nn.Module = MutableSyncBatchNorm(**arguments, process_group=process_group)
    made._parameters.update(module._parameters)
    made._buffers.update(module._buffers)
    return made.train(module.training)


def install() -> None:
    """Have torch's utility convert elastic batch norms."""
    nn.SyncBatchNorm.convert_sync_batchnorm = staticmethod(_convert)  # type: ignore[method-assign]
