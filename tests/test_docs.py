"""The texts: their code runs and prints what they show, their links lead somewhere, their names exist."""

import contextlib
import io
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

import cllm_lab as lab

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LINKED = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md", *PAGES]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:")
PUBLIC_NAME = re.compile(r"\blab\.([A-Za-z_]\w*)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def fenced(text: str) -> list[tuple[str, str, int]]:
    """(language, content, number of the content's first line) of every fenced block."""
    return [(found[1], found[2], text.count("\n", 0, found.start(2)) + 1) for found in FENCE.finditer(text)]


def run_page(text: str, page: str) -> int:
    """Executes the python blocks in order, in one namespace; a text block shows what the block before it prints.

    Returns how many blocks ran. Line numbers in a traceback are the page's.
    """
    namespace: dict[str, object] = {"__name__": page}
    ran = 0
    printed: str | None = None
    for language, content, first_line in fenced(text):
        if language == "python":
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(  # noqa: S102 - the project's own text
                    compile("\n" * (first_line - 1) + content, page, "exec"), namespace
                )
            printed = output.getvalue()
            ran += 1
        elif language == "text":
            assert printed == content, f"{page}, line {first_line}: printed\n{printed}"
    return ran


def dead_links(text: str, folder: Path) -> list[str]:
    prose = FENCE.sub("", text)
    relative = [link for link in LINK.findall(prose) if not ELSEWHERE.match(link)]
    paths = {link: unquote(link.partition("#")[0]) for link in relative}
    return [link for link, path in paths.items() if not folder.joinpath(path).exists()]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text("utf-8")], ids=name_of
)
def test_the_code_runs_and_prints_what_is_shown(page: Path) -> None:
    text = page.read_text("utf-8")
    assert run_page(text, name_of(page)) == text.count("```python\n")


def test_the_procedure_has_code() -> None:
    assert "```python\n" in (ROOT / "docs" / "when-the-loss-does-not-fall.md").read_text("utf-8")


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page.read_text("utf-8"), page.parent) == []


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_public_names_exist(page: Path) -> None:
    names = set(PUBLIC_NAME.findall(page.read_text("utf-8")))
    assert sorted(name for name in names if not hasattr(lab, name)) == []


def test_every_document_has_its_page_and_is_listed() -> None:
    folder = ROOT / "docs" / "documents"
    pages = [page.name for page in sorted(folder.glob("0*.md"))]
    assert [page[:4] for page in pages] == ["000_", "001_", "002_", "003_", "004_"]
    overview = (folder / "README.md").read_text("utf-8")
    assert [page for page in pages if f"({page})" not in overview] == []


def test_the_namespace_is_one_and_in_order() -> None:
    assert run_page("```python\na = 2\n```\n\n```python\nprint(a)\n```\n\n```text\n2\n```\n", "made up") == 2
    with pytest.raises(NameError):
        run_page("```python\nprint(b)\n```\n\n```python\nb = 2\n```\n", "made up")


def test_another_output_is_noticed() -> None:
    with pytest.raises(AssertionError, match="made up, line 6"):
        run_page("```python\nprint(1)\n```\n\n```text\n2\n```\n", "made up")


def test_a_dead_link_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "here.md").touch()
    text = "[a](here.md) [b](here.md#part) [c](gone.md) [d](https://example.org) [e](mailto:a@example.org)"
    assert dead_links(text, tmp_path) == ["gone.md"]
