"""NNI's hub as somebody's own files: migrated, and what is reported done as the report says."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from nas_space.interop.migrate import OVERRIDDEN, migrate

__all__ = ["CASES", "SPACES", "STAGES", "write_own_hub"]

PACKAGE = "own_hub"


COMPACT = ("InvertedResidual", "DepthwiseSeparableConv")
"""Blocks from which a choice that became an identity is left out."""


class Done(ast.NodeTransformer):
    """Does to a file what the report on it says: leaves out, or writes ``same_width``."""

    def __init__(self, tree: ast.Module) -> None:
        called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        self.left_out = OVERRIDDEN.keys() - called
        self.gone = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nni"
            for alias in node.names
        }

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        return None if (node.module or "").split(".")[0] == "nni" else node

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        if any(isinstance(base, ast.Name) and base.id in self.gone for base in node.bases):
            return None
        if node.name in COMPACT:
            node.bases.insert(0, ast.Name("Compact", ast.Load()))
        node.decorator_list = [
            each
            for each in node.decorator_list
            if not (isinstance(each, ast.Name) and each.id in self.gone)
        ]
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        return None if node.name in self.left_out else self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> Any:
        sides = [node.left, *node.comparators]
        if not isinstance(node.ops[0], (ast.Is, ast.IsNot)) or any(
            isinstance(side, ast.Constant) for side in sides
        ):
            return node
        text = f"same_width({', '.join(map(ast.unparse, sides))})"
        negated = isinstance(node.ops[0], ast.IsNot)
        return ast.parse(f"not {text}" if negated else text, mode="eval").body


def as_reported(source: str) -> str:
    """Return a file migrated, and changed as the report on it says."""
    tree = ast.parse(migrate(source).text)
    tree = Done(tree).visit(tree)
    after = 1 + max(  # behind what has to stand first
        (
            place
            for place, node in enumerate(tree.body)
            if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        ),
        default=-1,
    )
    tree.body.insert(after, ast.parse("from nas_space.hub import Compact, same_width").body[0])
    return ast.unparse(ast.fix_missing_locations(tree))


def write_own_hub(hub: Path, folder: Path) -> None:
    """Write a package ``own_hub``, with nothing of NNI's in it, of the folder of NNI's hub."""
    for path in hub.rglob("*.py"):
        target = folder / PACKAGE / path.relative_to(hub)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = as_reported(path.read_text())
        if path.name == "pretrained.py":  # it downloads, by what is internal to NNI
            text = "def load_pretrained_weight(name, **kwargs):\n    raise NotImplementedError\n"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] != "nni"
            elif isinstance(node, ast.Import):
                assert all(alias.name.split(".")[0] != "nni" for alias in node.names)
        target.write_text(text)


CELLS: dict[str, Any] = {"width": (8, 16), "num_cells": (3, 4), "dataset": "cifar"}
SMALL: dict[str, Any] = {
    "search_embed_dim": (64, 128), "search_mlp_ratio": (1.0, 2.0), "search_num_heads": (1, 2),
    "search_depth": (1, 2), "img_size": 32, "num_labels": 10,
}  # fmt: skip
STAGES: dict[str, Any] = {
    "base_widths": (16, 16, 16, 32, 64, 128),
    "squeeze_excite": ("none", "optional", "force"),
    "stride": (2, 1, 2, 2, 1, 1),
    "activation": ("hswish", "relu", "relu", "hswish", "hswish", "hswish"),
    "num_labels": 10,
}
SPACES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ProxylessNAS": ("proxylessnas", "ProxylessNAS", {"num_labels": 10, "width_mult": 0.25}),
    "MobileNetV3Space": ("mobilenetv3", "MobileNetV3Space", STAGES),
    "ShuffleNetSpace": ("shufflenet", "ShuffleNetSpace", {"num_labels": 10}),
    "ShuffleNetSpace with channels": (
        "shufflenet",
        "ShuffleNetSpace",
        {"num_labels": 10, "channel_search": True, "affine": True},
    ),
    "NasBench201": ("nasbench201", "NasBench201", {"num_modules_per_stack": 1}),
    "NasBench101": (
        "nasbench101",
        "NasBench101",
        {"stem_out_channels": 8, "num_stacks": 2, "num_modules_per_stack": 1},
    ),
    "AutoFormer": ("autoformer", "AutoFormer", SMALL),
    **{name: ("nasnet", name, CELLS) for name in ("NASNet", "ENAS", "AmoebaNet", "PNAS", "DARTS")},
}
QUICK = ("ShuffleNetSpace", "NasBench101", "AutoFormer", "DARTS")
CASES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SPACES]
