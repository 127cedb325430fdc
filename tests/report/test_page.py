"""The report in a real browser: it shows, sorts, filters and fits a phone, without an error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

import nas_space as ns
from nas_space.hub import ProxylessNAS
from nas_space.report.page import write_report
from nas_space.runs import StoredRun
from nas_space.study import minimize, report
from tests.problems import Various, worth
from tests.report.pages import data_of

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium is installed: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="pip install 'nas-space[dev]'")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


def evaluate(network: object, arch: dict[str, Any]) -> dict[str, float]:
    value = worth(network, arch)
    report(value, 0)
    if int(value * 1000) % 7 == 0:
        raise ValueError("no </script> luck")
    return {"score": value, "size": float(1000 * len(str(arch)) + 37 * value)}


@pytest.fixture(scope="module")
def page_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a search for two objectives."""
    with pytest.warns(UserWarning, match="luck"):
        result = ns.search(
            Various(), evaluate, objectives=["score", minimize("size")], trials=60, failures=50
        )
    return written(result, tmp_path_factory.mktemp("report") / "report.html")


def written(result: Any, file: Path) -> Path:
    run = StoredRun("a [place] <b>of</b> $trials$", {})
    run.__dict__["result"] = result
    write_report(run, file)
    return file


class Open:
    """A page that is open, with what its console has complained of."""

    def __init__(self, browser: Any, file: Path, **context: Any) -> None:
        self.page = browser.new_page(**context)
        self.complaints: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)
        self.page.goto(file.as_uri())

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.complaints.append(f"asked for {request.url}")


def test_hovering_shows_a_trial_and_clicking_draws_its_network(browser: Any, page_of_two: Path):
    opened = Open(browser, page_of_two, viewport={"width": 1200, "height": 900})
    page = opened.page
    places = page.evaluate("report.first.places()")
    winner = data_of(page_of_two)["winner"]
    x, y, _ = max((p for p in places if p[2] != winner), key=lambda p: p[1])
    box = page.locator("#front").bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + y)
    tip = page.locator("#tip")
    assert tip.is_visible()
    assert "score" in tip.inner_text()
    assert "size" in tip.inner_text()
    assert "=" in tip.inner_text()  # the architecture
    page.mouse.click(box["x"] + x, box["y"] + y)
    shown = page.locator("#detail h2").inner_text()
    assert shown.startswith("Trial ")
    assert "winner" not in shown
    assert page.locator("#detail .chip.on").count() >= 1
    assert opened.complaints == []
    page.close()


def test_the_winner_is_drawn_first_and_failures_are_text(browser: Any, page_of_two: Path):
    opened = Open(browser, page_of_two)
    page, data = opened.page, data_of(page_of_two)
    assert f"Trial {data['winner']}, the winner" in page.locator("#detail").inner_text()
    [failed, *_] = [trial["number"] for trial in data["trials"] if trial["state"] == "failed"]
    page.fill("#filter", "failed")
    page.locator(f'tr[data-trial="{failed}"]').click()
    assert "no </script> luck" in page.locator("#detail").inner_text()
    assert "<b>of</b> $trials$" in page.locator("dl.facts").first.inner_text()
    assert opened.complaints == []
    page.close()


def test_the_table_sorts_and_filters(browser: Any, page_of_two: Path):
    opened = Open(browser, page_of_two)
    page, data = opened.page, data_of(page_of_two)
    column = next(i for i, c in enumerate(data["columns"]) if c["name"] == "score")
    scores = sorted(t["values"][column] for t in data["trials"] if t["state"] == "complete")
    by_number = {t["number"]: t["values"][column] for t in data["trials"]}

    def numbers() -> list[int]:
        rows = page.locator("#trials tbody tr")
        return [int(n) for n in rows.evaluate_all("rows => rows.map(r => r.dataset.trial)")]

    assert numbers() == sorted(by_number)
    head = page.locator("#trials th button", has_text="score")
    head.click()
    shown = [by_number[n] for n in numbers() if by_number[n] is not None]
    assert shown == scores
    page.locator("#trials th button", has_text="score").click()
    shown = [by_number[n] for n in numbers() if by_number[n] is not None]
    assert shown == scores[::-1]
    middle = scores[len(scores) // 2]
    page.fill("#filter", f"score>{middle}")
    assert {by_number[n] for n in numbers()} == {s for s in scores if s > middle}
    label = data["labels"][0]
    page.fill("#filter", f"{label['name']}={label['values'][0]}")
    wanted = {t["number"] for t in data["trials"] if t["codes"][0] == 0}
    assert set(numbers()) == wanted
    assert f"{len(wanted)} of {len(by_number)}" in page.locator("#count").inner_text()
    assert opened.complaints == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_is_legible_by_day_and_night(
    browser: Any, page_of_two: Path, scheme: str
):
    opened = Open(browser, page_of_two, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # Contrast as WCAG 2 defines it, of every element with text of its own.
    worst = page.evaluate(
        """() => {
          const parse = c => c.match(/[\\d.]+/g).map(Number);
          const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255;
            return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
          const behind = e => { const stack = []; for (; e; e = e.parentElement) {
              const c = parse(getComputedStyle(e).backgroundColor);
              stack.push(c); if (c.length < 4 || c[3] === 1) break; }
            let base = stack.pop(); if (base.length > 3 && base[3] === 0) base = [255, 255, 255];
            while (stack.length) { const c = stack.pop(), a = c.length > 3 ? c[3] : 1;
              base = base.slice(0, 3).map((v, i) => a * c[i] + (1 - a) * v); }
            return base; };
          let found = [99, ''];
          for (const e of document.querySelectorAll('body *')) {
            if (!e.checkVisibility() || ['SCRIPT', 'STYLE', 'OPTION'].includes(e.tagName)) continue;
            const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
            if (!own) continue;
            const a = light(parse(getComputedStyle(e).color)), b = light(behind(e));
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (ratio < found[0]) found = [ratio, e.outerHTML.slice(0, 200)];
          }
          return found; }"""
    )
    assert worst[0] >= 4.5, worst
    assert opened.complaints == []
    page.close()


def test_a_search_with_shared_weights_shows_its_find_and_its_policy(browser: Any, tmp_path: Path):
    settings = {
        "space": "a:Space", "strategy": "darts", "steps": 20, "data": "x.npz",
        "described": {"labels": {"op": {"kind": "Categorical", "values": ["conv", "pool"]}}},
    }  # fmt: skip
    run = StoredRun(str(tmp_path), settings)
    told = {"arch": {"op": "pool"}, "macs": 1e6, "params": 5e3, "inherited": 0.5}
    run.__dict__["policy"] = {"op": [(0, [0.5, 0.5]), (20, [0.25, 0.75])]}
    (tmp_path / "architecture.json").write_text(json.dumps(told | {"validation": 0.6, "test": 0.7}))
    write_report(run, tmp_path / "report.html")
    opened = Open(browser, tmp_path / "report.html")
    page = opened.page
    assert page.locator("#detail .chip.on").inner_text() == "pool"
    assert "pool: 75% at the end" in page.locator("#policy").inner_html()
    assert "75%" in page.locator("#preferred").inner_text()
    assert opened.complaints == []
    page.close()


@pytest.mark.slow  # five thousand trials
def test_it_opens_at_once_with_five_thousand_trials(browser: Any, tmp_path: Path):
    space = ProxylessNAS(num_labels=10, width_mult=0.25)
    result = ns.search(
        space,
        lambda _, arch: sum(len(str(v)) * hash(k) % 97 for k, v in arch.items()) / 1000,
        strategy="random", trials=5000, weights="none",
    )  # fmt: skip
    file = written(result, tmp_path / "report.html")
    opened = Open(browser, file)
    assert opened.page.evaluate("report.first.places().length") == 5000
    assert opened.complaints == []
    opened.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(
    browser: Any, page_of_two: Path, scheme: Literal["light", "dark"]
) -> None:
    """At least 4.5:1 as WCAG 2 asks, over the colours that are mixed behind it."""
    opened = Open(browser, page_of_two, color_scheme=scheme)
    assert opened.page.evaluate("document.querySelectorAll('#heat td').length") > 10
    assert opened.page.evaluate(FAINT) == []
    # The strongest that a cell of the heat map can be, which these trials need not show.
    opened.page.evaluate("""() => [...document.querySelectorAll('#heat td')].forEach((cell, i) => {
      cell.style.background = `rgba(var(${i % 2 ? "--up" : "--down"}), .85)`})""")
    assert opened.page.evaluate(FAINT) == []
    opened.page.close()


FAINT = """() => {
  const numbers = (text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const light = (colour) => {
    const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = colour.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const [r, g, b, alpha = 1] = numbers(getComputedStyle(element).backgroundColor);
    if (alpha === 1) return [r, g, b];
    const below = behind(element.parentElement);
    return [r, g, b].map((v, i) => alpha * v + (1 - alpha) * below[i]);
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim(), element = texts.currentNode.parentElement;
    if (!text || !element.getClientRects().length) continue;
    const pair = [numbers(getComputedStyle(element).color).slice(0, 3), behind(element)].map(light);
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (contrast < 4.5) faint.push([contrast, element.tagName, text.slice(0, 40)]);
  }
  return faint;
}"""
"""What stands out too little: the contrast, the element, its text."""
