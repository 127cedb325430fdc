"""Published weights: the cache, downloads from a server here, and files that are not right."""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_space.errors import CheckpointError
from nas_space.hub import ProxylessNAS
from nas_space.hub.pretrained import BASE_ADDRESS, base_address, cache_folder
from nas_space.hub.published import Published, published_in

PROXYLESSNAS = published_in("ProxylessNAS")

NAME = "acenas-m1"
SMALL: dict[str, Any] = {"width_mult": 0.1}


class Server:
    """Serves files from memory on loopback, and notes what is asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                content = server.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if server.cut else content)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/weights"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setenv("NAS_SPACE_CHECKPOINTS", made.address + "/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAS_SPACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def publish(monkeypatch: pytest.MonkeyPatch, content: bytes, digest: str | None = None) -> str:
    """Makes some content the published weights of an architecture; gives the file's name."""
    digest = hashlib.sha256(content).hexdigest()[:8] if digest is None else digest
    name = f"{NAME}-{digest}.pth"
    published = Published(PROXYLESSNAS[NAME].architecture, name)
    monkeypatch.setitem(PROXYLESSNAS, NAME, published)
    return name


def saved(value: Any, tmp_path: Path) -> bytes:
    torch.save(value, tmp_path / "saved.pth")
    return (tmp_path / "saved.pth").read_bytes()


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return dict(ProxylessNAS.load_searched_model(NAME, **SMALL).state_dict())


def load(**options: Any) -> Any:
    return ProxylessNAS.load_searched_model(NAME, pretrained=True, **{**SMALL, **options})


def test_weights_are_fetched_checked_kept_and_loaded(
    server: Server,
    cache: Path,
    weights: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    content = saved(weights, tmp_path)
    name = publish(monkeypatch, content)
    server.files[f"/weights/{name}"] = content
    with pytest.raises(
        CheckpointError, match=f"{name} is not in .*download=True.*{server.address}"
    ):
        load()
    assert server.asked == []
    network = load(download=True)
    assert "100%" in capfd.readouterr().err
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    assert [path.name for path in cache.iterdir()] == [name]
    server.files.clear()
    again = load(download=True, progress=False)
    assert capfd.readouterr().err == ""
    assert torch.equal(again.classifier.weight, network.classifier.weight)
    assert len(server.asked) == 1


def test_another_number_of_labels_keeps_the_body(
    cache: Path, weights: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = saved(weights, tmp_path)
    name = publish(monkeypatch, content)
    cache.mkdir()
    (cache / name).write_bytes(content)
    network = load(num_labels=7)
    state = network.state_dict()
    assert state["classifier.weight"].shape[0] == 7
    assert abs(state["classifier.weight"].std() - 0.01) < 0.002  # fresh
    body = [key for key in state if not key.startswith("classifier.")]
    assert len(body) == len(weights) - 2
    assert all(torch.equal(state[key], weights[key]) for key in body)


def test_counters_that_old_checkpoints_lack_begin_at_zero(
    cache: Path, weights: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    content = saved(old, tmp_path)
    cache.mkdir()
    (cache / publish(monkeypatch, content)).write_bytes(content)
    state = load().state_dict()
    assert torch.equal(state["stem.0.weight"], weights["stem.0.weight"])
    assert state["stem.1.num_batches_tracked"] == 0


# -- what goes wrong --------------------------------------------------------------------------


def test_a_file_that_is_not_the_published_one_is_not_kept(
    server: Server, cache: Path, weights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = publish(monkeypatch, b"", "0" * 8)
    server.files[f"/weights/{name}"] = saved(weights, tmp_path)
    with pytest.raises(CheckpointError, match=r"damaged or not the published file.*hash"):
        load(download=True, progress=False)
    assert list(cache.iterdir()) == []


def test_a_download_that_breaks_off_leaves_nothing(
    server: Server, cache: Path, weights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = saved(weights, tmp_path)
    name = publish(monkeypatch, content)
    server.files[f"/weights/{name}"] = content
    server.cut = True
    with pytest.raises(CheckpointError, match=name):
        load(download=True, progress=False)
    assert list(cache.iterdir()) == []
    server.cut = False
    load(download=True, progress=False)  # and the next attempt works


@pytest.mark.parametrize("reachable", [True, False])
@pytest.mark.usefixtures("server")
def test_what_cannot_be_fetched_is_named_with_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch, reachable: bool
) -> None:
    if not reachable:
        monkeypatch.setenv("NAS_SPACE_CHECKPOINTS", "http://127.0.0.1:1")
    with pytest.raises(CheckpointError, match=r"cannot fetch http.*NAS_SPACE_CHECKPOINTS.*cache"):
        load(download=True, progress=False)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_named(
    server: Server, weights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = saved(weights, tmp_path)
    name = publish(monkeypatch, content)
    server.files[f"/weights/{name}"] = content
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAS_SPACE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(CheckpointError, match=r"put the file into .*file/cache"):
        load(download=True, progress=False)


def test_what_is_in_the_place_of_a_file_of_the_cache_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = publish(monkeypatch, b"", "0" * 8)
    (cache / name).mkdir(parents=True)
    with pytest.raises(CheckpointError, match=f"{name} is not in"):
        load()
    (cache / name).rmdir()
    (cache / name).touch()

    def unreadable(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load()


def cached(monkeypatch: pytest.MonkeyPatch, cache: Path, content: bytes) -> None:
    cache.mkdir()
    (cache / publish(monkeypatch, content)).write_bytes(content)


def test_a_file_damaged_in_the_cache_is_found(
    cache: Path, weights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = saved(weights, tmp_path)
    cache.mkdir()
    (cache / publish(monkeypatch, content)).write_bytes(content[:-100])
    with pytest.raises(CheckpointError, match=r"damaged: its SHA-256 begins with .* delete it"):
        load()


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_malicious_file_is_not_run(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "sprung"
    for content in (pickle.dumps(Malicious(trap)), saved({"x": Malicious(trap)}, tmp_path)):
        cached(monkeypatch, cache, content)
        with pytest.raises(CheckpointError, match="not a checkpoint of plain tensors"):
            load()
        assert not trap.exists()
        for path in cache.iterdir():
            path.unlink()
        cache.rmdir()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 but no archive"])
def test_a_file_that_is_no_checkpoint_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    cached(monkeypatch, cache, content)
    with pytest.raises(CheckpointError, match="not a checkpoint of plain tensors"):
        load()


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: [weights],
        lambda weights: {"state_dict": weights},
        lambda _: {1: torch.ones(1)},
        lambda weights: {k: v for k, v in weights.items() if k != "stem.0.weight"},
        lambda weights: {**weights, "more": torch.ones(1)},
        lambda weights: {**weights, "stem.0.weight": torch.ones(2, 2)},
        lambda weights: {k: v for k, v in weights.items() if not k.startswith("classifier.")},
    ],
    ids=["list", "nested", "keys", "missing", "more", "shape", "no head"],
)
def test_weights_of_something_else_are_refused(
    cache: Path, weights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    cached(monkeypatch, cache, saved(change(weights), tmp_path))
    with pytest.raises(
        CheckpointError, match=r"not a dictionary of tensors|does not fit a Proxyless"
    ):
        load()


# -- where ------------------------------------------------------------------------------------


def test_addresses_and_folders_can_be_configured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NAS_SPACE_CHECKPOINTS", raising=False)
    assert base_address() == BASE_ADDRESS
    monkeypatch.setenv("NAS_SPACE_CHECKPOINTS", "http://here/there/")
    assert base_address() == "http://here/there"
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("NAS_SPACE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "nas_space"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "nas_space"


@pytest.mark.parametrize("name", sorted(PROXYLESSNAS))
def test_every_published_file_name_carries_the_digest(name: str) -> None:
    checkpoint = PROXYLESSNAS[name].checkpoint
    assert checkpoint.startswith(f"{name}-")
    digest = checkpoint.removeprefix(f"{name}-").removesuffix(".pth")
    assert len(digest) == 8
    int(digest, 16)
