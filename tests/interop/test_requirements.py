"""What is said where NNI, or what it needs, is missing, too old or too new."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from nas_space.errors import UsageError
from nas_space.hub import ProxylessNAS
from nas_space.interop.nni import to_nni


def install(folder: Path, **versions: str) -> None:
    """Puts into a folder what installed distributions leave behind, for `importlib.metadata`."""
    for name, version in versions.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({}, r"NNI is not installed: pip install 'nas-space\[nni\]'"),
        ({"nni": "2.10.1"}, r"NNI 2.10.1 is too old: 3.0 is needed; pip install"),
        ({"nni": "4.0"}, r"NNI 4.0 is too new: 3.0 is needed; pip install"),
        ({"nni": "999.dev0"}, "NNI 999.dev0 is too new"),
        ({"nni": "3.0"}, "NNI needs pytorch-lightning, which is not installed"),
        (
            {"nni": "3.0", "pytorch_lightning": "2.1.0"},
            r"does not work with pytorch-lightning 2.1.0: pip install 'pytorch-lightning>=1.8,<1",
        ),
        (
            {"nni": "3.0", "pytorch_lightning": "1.9.5", "lightning_fabric": "2.6.0"},
            "pytorch-lightning 1.9 and lightning-fabric overwrite each other's files: pip install",
        ),
    ],
)
def test_the_message_says_what_to_install(
    versions: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, **versions)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=message):
        to_nni(ProxylessNAS(width_mult=0.1))


@pytest.mark.skipif(find_spec("pkg_resources") is not None, reason="setuptools still has it")
def test_setuptools_that_are_too_new_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, nni="3.0", pytorch_lightning="1.8.6")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="pip install 'setuptools<80'"):
        to_nni(ProxylessNAS(width_mult=0.1))
