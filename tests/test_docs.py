"""Links in all Markdown documents lead to existing files and headings, and every guide and record is in its index."""

import re

import pytest
from program import REPO

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "models/*/*.md", "tests/data/*.md", ".github/**/*.md")
    for path in REPO.glob(pattern)
)


def anchors_of(text):
    """The anchors of a document's headings, formed as GitHub does."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document):
    text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or anchor and anchor not in anchors_of(target.read_text("utf-8")):
            yield link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(REPO).as_posix())
def test_links_work(document):
    assert list(broken_links(document)) == []


@pytest.mark.parametrize("link", ["gone.md", "#no-such-heading", "other.md#no-such-heading"])
def test_a_broken_link_is_found(tmp_path, link):
    (tmp_path / "other.md").write_text("# Title\n")
    document = tmp_path / "page.md"
    document.write_text(f"# Page\n\n[good](other.md#title), [good](#page), [bad]({link})\n")
    assert list(broken_links(document)) == [link]


@pytest.mark.parametrize("folder", ["docs", "docs/design", "docs/benchmarks"])
def test_an_index_names_every_page(folder):
    index = (REPO / folder / "README.md").read_text("utf-8")
    pages = [path.name for path in (REPO / folder).glob("*.md") if path.name != "README.md"]
    assert len(pages) > 3
    assert [name for name in pages if f"({name})" not in index] == []
