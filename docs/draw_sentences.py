"""Random sentences from docstrings, error messages and pages, to proof-read.

    python docs/draw_sentences.py --seed 1 [--count 10] [--kind docstring]

The same seed on the same files draws the same sentences. Code, doctests, formulas, tables and headings are left out.
"""

import argparse
import ast
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
KINDS = ("docstring", "error", "page")

# A paragraph keeps the line number of each of its lines.
Lines = list[tuple[int, str]]

SECTION = re.compile(r"(Args|Arguments|Attributes|Returns|Yields|Raises|Source|Example|Examples|Note|Shape):$")
ITEMIZED = ("Args", "Arguments", "Attributes", "Raises")  # each line that is not indented further begins an item
NAMED = re.compile(r" {4}[a-z_]\w*(, [a-z_]\w*)*: ")  # "std: ..." in other sections
LABEL = re.compile(r"\w+ {2,}\S")  # "Claims    ..." at the head of a study
ITEM = re.compile(r"(?:[-*+]|\d+\.) +")
ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|vs|cf|al|[Ss]ecs?|[Ff]igs?|[Ee]qs?|[Nn]o|approx|resp)|\.)\.$")
END = re.compile(r"(?<=[.!?])[\"'`)\]*]*\s+(?=[A-Z0-9\"'(`\[*<{|])")


class Sentence(NamedTuple):
    """One sentence and where it stands."""

    kind: str
    text: str
    path: Path
    line: int


def sentences(root: Path = ROOT) -> list[Sentence]:
    """Return all sentences of at least three words below `root`, in the order of their files and lines."""
    found: list[Sentence] = []
    for path in sorted((root / "src").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += _split_all("docstring", path, _docstrings(tree))
        found += _split_all("error", path, _errors(tree))
    pages = [root / "README.md", root / "CHANGELOG.md", root / "results" / "README.md", *(root / "docs").glob("*.md")]
    for path in sorted(page for page in pages if page.exists()):
        found += _split_all("page", path, _paragraphs_of_page(path.read_text(encoding="utf-8")))
    return found


def draw(seed: int, count: int = 10, kinds: tuple[str, ...] = KINDS, root: Path = ROOT) -> list[Sentence]:
    """Return `count` different sentences of these kinds, all of them equally likely."""
    every = [sentence for sentence in sentences(root) if sentence.kind in kinds]
    return random.Random(seed).sample(every, min(count, len(every)))


# --- docstrings


def _docstrings(tree: ast.Module) -> Iterator[Lines]:
    """Docstrings of modules, classes and functions, and strings that stand below an attribute."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for before, statement in zip([None, *body], body, strict=False):
            if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                continue
            is_first = before is None and isinstance(
                node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            )
            is_documented = is_first or isinstance(before, ast.Assign | ast.AnnAssign)
            if is_documented and isinstance(statement.value.value, str):
                yield from _paragraphs_of_docstring(statement.value.value, statement.lineno)


def _paragraphs_of_docstring(text: str, first_line: int) -> Iterator[Lines]:
    numbered = [(first_line + i, line) for i, line in enumerate(text.splitlines())]
    margin = min((_indent(line) for _, line in numbered[1:] if line.strip()), default=0)
    numbered = numbered[:1] + [(number, line[margin:]) for number, line in numbered[1:]]
    section = ""
    for paragraph in _blocks(numbered):
        if paragraph[0][1].lstrip().startswith(">>>"):
            continue
        current: Lines = []
        is_labelled = False
        for number, line in paragraph:
            is_label, is_item = bool(LABEL.match(line)), bool(ITEM.match(line.lstrip()))
            is_labelled = is_labelled or is_label
            heading = SECTION.match(line.strip())
            if heading:
                yield current
                current, section = [], heading[1]
            elif (
                is_label or is_item or (_indent(line) == 4 and (section in ITEMIZED or (section and NAMED.match(line))))
            ):
                yield current
                current = [(number, line)]
            elif section or is_labelled or _indent(line) < 4:
                current.append((number, line))
            # Other indented lines are formulas or shell commands.
        yield current
        section = section if _indent(paragraph[-1][1]) >= 4 else ""


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


# --- errors


def _errors(tree: ast.Module) -> Iterator[Lines]:
    """String arguments of raised exceptions; a placeholder of an f-string is printed as its source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            for argument in node.exc.args:
                yield from ([(line, text)] for line, text in _strings(argument))


def _strings(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    elif isinstance(node, ast.JoinedStr):
        parts = (
            str(part.value) if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"
            for part in node.values
            if isinstance(part, ast.Constant | ast.FormattedValue)
        )
        yield node.lineno, "".join(parts)
    elif not isinstance(node, ast.Call):  # an argument such as the kind in unknown_name(kind, ...) is no sentence
        for child in ast.iter_child_nodes(node):
            yield from _strings(child)


# --- pages


def _paragraphs_of_page(text: str) -> Iterator[Lines]:
    """Paragraphs and list items of a Markdown page, without code, tables, headings and images."""
    kept: Lines = []
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        opening = re.match(r"`{3,}|~{3,}|:{3,}", stripped)
        if fence:
            fence = "" if stripped == fence else fence
            kept.append((number, ""))
        elif opening:
            fence = opening[0]
            kept.append((number, ""))
        elif stripped.startswith(("|", "#", "![", "<!--")) or (_indent(line) >= 4 and not kept[-1:][0][1].strip()):
            kept.append((number, ""))
        else:
            item = ITEM.match(stripped)
            if item:
                kept.append((number, ""))
            kept.append((number, stripped[item.end() :] if item else line))
    yield from _blocks(kept)


# --- sentences


def _blocks(lines: Lines) -> Iterator[Lines]:
    """Runs of lines that are not empty."""
    block: Lines = []
    for number, line in lines:
        if line.strip():
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _split_all(kind: str, path: Path, paragraphs: Iterator[Lines]) -> list[Sentence]:
    return [
        Sentence(kind, text, path, line)
        for paragraph in paragraphs
        for text, line in _split(paragraph)
        if len(text.split()) >= 3
    ]


def _split(paragraph: Lines) -> Iterator[tuple[str, int]]:
    """Each sentence of a paragraph with the number of its first line."""
    text, starts = "", []
    for number, line in paragraph:
        starts.append((len(text), number))
        text += line.strip() + " "
    begin = 0
    for end in [*(match.end() for match in END.finditer(text)), len(text)]:
        sentence = text[begin:end].strip()
        if end < len(text) and ABBREVIATION.search(sentence):
            continue
        yield sentence, max((number for at, number in starts if at <= begin), default=0)
        begin = end


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw random sentences to proof-read.")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--kind", choices=KINDS, help="only sentences of this kind; default: all")
    chosen = parser.parse_args()
    for sentence in draw(chosen.seed, chosen.count, (chosen.kind,) if chosen.kind else KINDS):
        print(f"{sentence.path.relative_to(ROOT)}:{sentence.line}: [{sentence.kind}]\n    {sentence.text}")


if __name__ == "__main__":
    main()
