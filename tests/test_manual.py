"""The manual's links, images and included files are there; its code fits the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
INCLUDED = re.compile(r"^```\{(?:literalinclude|include)\} (\S+)", re.MULTILINE)
FENCES = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"`((?:docs|benchmarks|tests|nas_space)/[\w./-]+\.\w+)`")
MADE = DOCS / "examples" / "output"
"""What is made when the manual is built: a text of each script, and pictures of one."""


def anchors(page: Path) -> set[str]:
    """The names under which a page's headings can be linked to."""
    text = FENCES.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_made(file: Path) -> bool:
    """Whether the build of the manual writes a file."""
    if MADE not in file.parents:
        return False
    scripts = json.loads((DOCS / "examples" / "sizes.json").read_text())
    if file.parent == MADE:
        return file.stem in scripts
    return file.parent.name in scripts  # tests/test_examples.py looks which pictures it draws


def there(page: Path, target: str) -> bool:
    """Whether a link from a page leads to something."""
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
        return is_made(file)
    return not anchor or file.suffix != ".md" or anchor in anchors(file)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_images_and_included_files_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    plain = FENCES.sub("", text)
    targets = [t for t in LINK.findall(plain) if "://" not in t and not t.startswith("mailto:")]
    targets += INCLUDED.findall(text)
    assert [target for target in targets if not there(page, target)] == []
    if page.name != "CHANGELOG.md":  # which tells of what is no more
        assert [name for name in NAMED.findall(plain) if not (ROOT / name).exists()] == []


def test_the_check_sees_what_is_missing() -> None:
    page = DOCS / "index.md"
    assert there(page, "watching.md#the-files-of-a-run")
    assert there(page, "examples/output/first_space.txt")
    for wrong in ("watching.md#the-filse", "wathing.md", "examples/output/no_such.txt"):
        assert not there(page, wrong)


def test_the_contents_are_the_pages_that_there_are() -> None:
    listed = {DOCS / "index.md"}
    for page in DOCS.rglob("*.md"):
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            names = [line for line in tree.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / f"{name}.md").resolve() for name in names}
    # What is in docs/api is written when the manual is built.
    written = {page for page in DOCS.rglob("*.md") if (DOCS / "api") not in page.parents}
    assert listed == written


def test_code_of_the_readme_fits_a_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    wide = [line for fence in FENCES.findall(text) for line in fence.splitlines() if len(line) > 88]
    assert wide == []
