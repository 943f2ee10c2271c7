"""The four documents, and the commands that they tell a reader to run."""

import re
import shlex
from pathlib import Path

from tests.projects import ROOT

NAMES = ("README.md", "data/README.md", "metrics/README.md", "stages/README.md")
GENERATED = "<!-- Generated from"


def read(name: str, root: Path = ROOT) -> str:
    return (root / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """From a heading of the second level to the next one."""
    start = text.index(f"## {title}\n")
    end = text.find("\n## ", start + 4)
    return text[start:end] if end > 0 else text[start:]


def find_section(title: str, root: Path = ROOT) -> str:
    """The section of that title in the one document that has it."""
    [found] = [read(name, root) for name in NAMES if f"\n## {title}\n" in read(name, root)]
    return section(found, title)


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks, as (language, text); indented ones without their indentation."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    return [
        (language, re.sub(rf"^{indent}", "", body, flags=re.MULTILINE))
        for indent, language, body in found
    ]


def commands(text: str) -> list[str]:
    """The lines of the bash blocks, without comments."""
    lines = [
        line.strip()
        for language, body in blocks(text)
        if language == "bash"
        for line in body.replace("\\\n", " ").splitlines()
    ]
    return [line for line in lines if line and not line.startswith("#")]


def named(text: str) -> list[str]:
    """Commands within a sentence or a table: what stands between two backticks."""
    plain = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    pattern = r"`((?:\w+=\S+ )?uv run [^`]+|python -m [^`]+)`"
    return [" ".join(found.split()) for found in re.findall(pattern, plain)]


def settings(command: str) -> list[str]:
    """What a command sets, as ``key=value``."""
    words = shlex.split(command)
    return [words[i + 1] for i, word in enumerate(words) if word == "-S" and i + 1 < len(words)]


def module(command: str) -> str | None:
    """The module that a command runs; None: it runs none."""
    words = shlex.split(command)
    if "-m" not in words:
        return None
    return words[words.index("-m") + 1]
