"""Counts what shows whether a kind is one thing: `python -m tests.house [TREE]` prints a table of a tree's sources.

A *question* asks which kind something is, outside of the folders where kinds live. A field is *written again* where two
classes describe the same thing and both declare it. Counts are of syntax trees, so any commit's tree can be counted.
"""

import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]

KIND_ROOMS = ("kinds", "families", "layers", "projectors", "modalities", "optimizers", "losses", "recorders")
"""Where a file may know a kind by its class: its own folder, and the registries."""

DESCRIPTIONS = r"(Config|Section|Sizes|Entry|Recipe|Request|Settings|Intake|Payload|Batch)$"
"""How classes end that hold what one kind of a thing is or made: to ask for such a class is to ask for the kind."""

ROOTS = {"Config", "Section"}
"""Classes of this form that are of no kind."""

SEAMS = "seams.py"
"""The file of classes that say what may be done with a module, whatever kind of layer it is."""

MARKS = {"LinearLoss", "Multiply", "ScoredRows"}
"""Such classes that stand elsewhere."""

TWO_FACTS = {
    "Layout.ranks": "a config may leave ranks to the world; a layout has those that came out",
    "Layout.dp_shard": "a config may leave it to the number of ranks; a layout has what came out",
    "Edge.depths": "a config names both layers of a depth; an edge has pairs, which links and JSON are made of",
}
"""Fields that two classes declare because they hold different things, and which things."""

KIND = "kind"

KINDS = {
    *("*", "-", "m", "e", "l"),
    *("adapter", "conformer", "convnext", "custom", "decoder", "features", "vit", "whisper"),
    *("attention", "mamba", "mlp", "moe", "linear"),
    *("image", "audio", "prepared", "synthetic"),
    *("gpipe", "1f1b", "interleaved", "zero_bubble", "adamw", "constant", "cosine"),
}
"""What kinds are called, letters of layers among them: elsewhere `kind` may be that of anything."""


@dataclass(frozen=True)
class Sources:
    """The package's syntax trees by path, relative to the package."""

    trees: Mapping[Path, ast.Module]
    lines: Mapping[Path, int]

    @classmethod
    def of(cls, tree: Path) -> "Sources":
        """Those of a working tree."""
        package = tree / "src" / "counterpoint"
        texts = {file.relative_to(package): file.read_text() for file in sorted(package.rglob("*.py"))}
        lines = {file: len(text.splitlines()) for file, text in texts.items()}
        return cls({file: ast.parse(text) for file, text in texts.items()}, lines)

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        """All classes by name; of two with the same name the last."""
        nodes = (node for tree in self.trees.values() for node in ast.walk(tree))
        return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}

    def is_kind(self, name: str) -> bool:
        """Whether a class, or a union of classes, is what one kind of a thing has."""
        is_meant = name in self._of_kinds or re.search(DESCRIPTIONS, name) is not None
        return is_meant and name not in MARKS | ROOTS | self._seams

    @cached_property
    def _seams(self) -> set[str]:
        lines = [line for file, tree in self.trees.items() if file.name == SEAMS for line in tree.body]
        return {line.name for line in lines if isinstance(line, ast.ClassDef)}

    @cached_property
    def _of_kinds(self) -> frozenset[str]:
        """Sections, modules of layers, and all classes that folders of kinds define."""
        below = {name for name in self.classes if self._is_below(name, {"Module", "Section"})}
        rooms = (tree for file, tree in self.trees.items() if file.parts[0] in KIND_ROOMS)
        lines = [line for tree in rooms for line in tree.body]
        inside = {line.name for line in lines if isinstance(line, ast.ClassDef)}
        unions = {last(target) for line in lines if isinstance(line, ast.Assign) for target in line.targets}
        return frozenset(below | inside | {name for name in unions if name and not name.isupper()})

    def _is_below(self, name: str, bases: set[str]) -> bool:
        node = self.classes.get(name)
        above = [] if node is None else [last(base) for base in node.bases]
        return any(base in bases or (base != name and self._is_below(base, bases)) for base in above)


def questions(sources: Sources) -> Iterator[str]:
    """`file:line: question` of all that ask for a kind outside of the folders of kinds."""
    for file, tree in sources.trees.items():
        if file.parts[0] not in KIND_ROOMS:
            for node in ast.walk(tree):
                yield from (f"{file}:{line}: {asked}" for line, asked in _asked(node, sources))


def _asked(node: ast.AST, sources: Sources) -> Iterator[tuple[int, str]]:
    match node:
        case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, classes]) if any(
            sources.is_kind(name) for name in _names(classes)
        ):
            yield node.lineno, ast.unparse(node)
        case ast.Match(subject=subject, cases=cases) if last(subject) == KIND:
            for case in cases:
                if isinstance(case.pattern, ast.MatchValue) and _is_known(case.pattern.value):
                    yield case.pattern.lineno, f"{ast.unparse(subject)} is {ast.unparse(case.pattern)}"
        case ast.MatchClass(cls=cls) if sources.is_kind(last(cls)):
            yield node.lineno, f"case {ast.unparse(cls)}"
        case ast.Compare(left=left, comparators=[right]) if _is_question(left, right, sources):
            yield node.lineno, ast.unparse(node)


def _is_question(left: ast.expr, right: ast.expr, sources: Sources) -> bool:
    """Whether a comparison asks for the name of a kind, a letter of a pattern, or a class."""
    match left, right:
        case (ast.Constant(value=str(letter)), _) if last(right) == "pattern":
            return letter.lower() in KINDS
        case (ast.Call(func=ast.Name(id="type")), _):
            return any(map(sources.is_kind, _names(right)))
    is_name = any(last(side) == "name" and ast.unparse(side).split(".")[0].isupper() for side in (left, right))
    return is_name or (KIND in (last(left), last(right)) and (_is_known(left) or _is_known(right)))


def _is_known(node: ast.expr) -> bool:
    """Whether an expression is the name of a kind that stands there, several, or a constant that is called so."""
    match node:
        case ast.Constant(value=str(name)):
            return name.lower() in KINDS
        case ast.Tuple(elts=elements) | ast.Set(elts=elements) | ast.List(elts=elements):
            return any(map(_is_known, elements))
        case ast.Name(id=name):
            return name.isupper() and name.lower() in KINDS
    return False


def _names(classes: ast.expr) -> list[str]:
    """The classes that a question is after."""
    match classes:
        case ast.Tuple(elts=elements):
            return [name for element in elements for name in _names(element)]
        case ast.BinOp(left=left, right=right):
            return _names(left) + _names(right)
        case ast.Attribute(value=ast.Name(id="nn")):
            return []
    return [last(classes)]


def last(node: ast.expr) -> str:
    """The last part of a dotted name, an empty string of another expression."""
    if isinstance(node, ast.Subscript):
        return last(node.value)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def written_again(sources: Sources) -> dict[str, Counter[str]]:
    """By thing that a config has a section of, the fields that its classes declare more than once, and how often."""
    found = {
        thing: +Counter({field: count - (f"{thing}.{field}" in TWO_FACTS) for field, count in fields.items()})
        for thing, fields in declared_twice(sources).items()
    }
    return {thing: fields for thing, fields in found.items() if fields}


def declared_twice(sources: Sources) -> dict[str, Counter[str]]:
    """The same, those of `TWO_FACTS` among them."""
    groups: dict[str, list[ast.ClassDef]] = defaultdict(list)
    for name, node in sources.classes.items():
        if thing := re.sub(DESCRIPTIONS, "", name.lstrip("_")):
            groups[thing].append(node)
    found: dict[str, Counter[str]] = {}
    for thing, classes in groups.items():
        if any(map(_is_section, classes)):
            # What is called `LinearProjectorConfig` describes a kind of what `ProjectorSizes` describes.
            wider = [node for other, others in groups.items() if _is_narrower(thing, other) for node in others]
            fields = Counter(field for node in classes for field in _declared(node))
            shared = {field for node in wider for field in _declared(node)}
            found[thing] = +Counter({field: count - 1 + (field in shared) for field, count in fields.items()})
    return {thing: fields for thing, fields in found.items() if fields}


def _is_narrower(thing: str, other: str) -> bool:
    return thing.endswith(other) and thing.removesuffix(other)[-1:].islower()


def _is_section(node: ast.ClassDef) -> bool:
    return any(last(base).endswith(("Section", "Config")) for base in node.bases)


def _declared(node: ast.ClassDef) -> Iterator[str]:
    """Annotated fields of a class of data, less the name of its kind."""
    is_data = any("dataclass" in ast.unparse(one) for one in node.decorator_list)
    if is_data or _is_section(node) or any(last(base) == "NamedTuple" for base in node.bases):
        for line in node.body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.target.id != KIND:
                yield line.target.id


def longest_classes(sources: Sources) -> list[tuple[int, str]]:
    """(lines, file and name) of all classes, the longest first."""
    found = [
        ((node.end_lineno or 0) - node.lineno + 1, f"{file}: {node.name}")
        for file, tree in sources.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    return sorted(found, reverse=True)


def files_by_folder(files: Iterable[Path]) -> list[tuple[str, int]]:
    """Folders with the number of files that lie in them themselves, the fullest first."""
    return Counter(str(file.parent) for file in files if file.name != "__init__.py").most_common()


def table(sources: Sources) -> Table:
    """What is counted, one row each."""
    asked, again = list(questions(sources)), written_again(sources)
    (length, longest), folders = longest_classes(sources)[0], files_by_folder(sources.trees)
    rows = Table("what", "count", "where")
    by_room = Counter(Path(question.partition(":")[0]).parts[0] for question in asked)
    by_thing = {thing: fields.total() for thing, fields in again.items()}
    rows.add_row("questions after a kind", str(len(asked)), _most(by_room))
    rows.add_row("fields written again", str(sum(by_thing.values())), _most(by_thing))
    rows.add_row("files", str(len(sources.trees)), "")
    rows.add_row("lines", str(sum(sources.lines.values())), "")
    rows.add_row("lines of the longest class", str(length), longest)
    rows.add_row("files in the fullest folder", str(folders[0][1]), _most(dict(folders[:8])))
    return rows


def _most(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def main() -> None:
    """Print the table of the tree that the command line names, this one's otherwise; `-v` lists what is counted."""
    arguments = sys.argv[1:]
    trees = [Path(argument) for argument in arguments if argument != "-v"]
    sources = Sources.of(trees[0] if trees else ROOT)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(table(sources))
    if "-v" in arguments:
        for question in questions(sources):
            console.print(question)
        for thing, fields in written_again(sources).items():
            console.print(f"{thing}: {_most(fields)}")


if __name__ == "__main__":
    main()
