"""Which modules each stage reaches, and the lines of dvc.yaml that say so.

``python -m tests.dependencies`` writes those lines anew; tests/test_dag.py holds them to the code.
"""

import ast
import re
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CODE_LINE = re.compile(r" +- stages/.*\.py\n")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported_modules(path: Path, root: Path = ROOT) -> frozenset[str]:
    """The project's own modules that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "stages":
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("stages.")]
        else:
            continue
        files = [f"{name.replace('.', '/')}.py" for name in names]
        found |= {file for file in files if (root / file).is_file()}
    return frozenset(found)


def closure(path: str, root: Path = ROOT) -> set[str]:
    """The file and all of the project's modules that it reaches."""
    reached, waiting = set(), [path]
    while waiting:
        current = waiting.pop()
        if current not in reached:
            reached.add(current)
            waiting += imported_modules(root / current, root)
    return reached


def rewrite(text: str, root: Path = ROOT) -> str:
    """Return dvc.yaml with the modules of each stage as they are; everything else stays."""
    pieces = re.split(r"(?m)^(?=  \w+:\n)", text)
    for place, piece in enumerate(pieces):
        command = re.search(r"cmd: python -m stages\.(\w+)", piece)
        deps = re.search(r"(?m)^( +)deps:\n", piece)
        if not command or not deps:
            continue
        indent = deps[1] + "  "
        start = deps.end()
        listed = re.match(rf"(?:{indent}.*\n)*", piece[start:]).group()
        others = "".join(
            line for line in listed.splitlines(keepends=True) if not CODE_LINE.fullmatch(line)
        )
        code = "".join(
            f"{indent}- {name}\n" for name in sorted(closure(f"stages/{command[1]}.py", root))
        )
        pieces[place] = piece[:start] + others + code + piece[start + len(listed) :]
    return "".join(pieces)


def stage_names(root: Path = ROOT) -> list[str]:
    return list(yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"])


if __name__ == "__main__":
    file = ROOT / "dvc.yaml"
    file.write_text(rewrite(file.read_text(encoding="utf-8")), encoding="utf-8")
