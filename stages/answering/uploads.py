"""Pictures that come through a browser: kept under names of ours, asked about under theirs."""

import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from stages.answering import pictures
from stages.answering.pictures import Asked
from stages.datasets import archives

MAX_PICTURES = 500  # at a time: a differential count takes 200, and more fill no screen
MAX_BYTES = 1 << 30  # of all files together
ENDING = re.compile(r"(?:\.[A-Za-z0-9]{1,5}){1,2}$")  # .png, .tar.gz
REST = "smearflow predict' answers any number."


@contextmanager
def keep(files: Iterable[tuple[str, bytes]]) -> Iterator[list[Asked]]:
    """Keep files for as long as the block lasts, and list what is asked of them.

    Parameters
    ----------
    files : iterable of (str, bytes)
        The name that the browser sends, which may be any text, and the content.

    Yields
    ------
    list of Asked
        In the order of the files, those of an archive by name. Beyond 500 pictures, or 1 GiB of
        files, one entry says how many are left out.

    Notes
    -----
    No text of a stranger becomes a path: a file is named by its number, with the ending that tells
    what it claims to be. Its own name is put back into what is shown.
    """
    with tempfile.TemporaryDirectory(prefix="smearflow-") as folder:
        names: dict[str, str] = {}
        n_bytes, left_out = 0, []
        for number, (name, content) in enumerate(files):
            shown = _tell_apart(archives.tidy(name), names.values())
            if n_bytes + len(content) > MAX_BYTES:
                left_out.append(shown)
                continue
            n_bytes += len(content)
            path = Path(folder) / f"upload_{number}{_find_ending(name)}"
            path.write_bytes(content)
            names[str(path)] = shown
        with pictures.find(list(names)) as found:
            asked = [_rename(one, names) for one in found]
            yield [*_cut(asked), *_say_left_out(left_out)]


def _find_ending(name: str) -> str:
    found = ENDING.search(name)
    return found[0] if found else ""


def _tell_apart(name: str, known: Iterable[str]) -> str:
    """Return the name, with a number behind it where a file of that name is there already."""
    taken, number, own = set(known), 2, name
    while own in taken:
        own, number = f"{name} ({number})", number + 1
    return own


def _rename(one: Asked, names: dict[str, str]) -> Asked:
    """Put the person's own name of a file in the place of ours, wherever it shows."""
    path = next(path for path in names if one.name == path or one.name.startswith(f"{path}/"))
    name, ours = names[path], Path(path).name
    member, problem = one.member, one.problem
    if member is not None and one.name == path:
        member = replace(member, path=name)
    if problem is not None:
        problem = problem.replace(path, name).replace(ours, name)
    below = one.name.removeprefix(path).replace(ours.partition(".")[0], Path(name).stem)
    return Asked(name + below, member, problem)


def _cut(asked: list[Asked]) -> list[Asked]:
    more = len(asked) - MAX_PICTURES
    if more <= 0:
        return asked
    told = f"not asked: {MAX_PICTURES} pictures at a time. Send the others next; or '{REST}"
    return [*asked[:MAX_PICTURES], Asked(f"{more:,} more", problem=told)]


def _say_left_out(names: list[str]) -> list[Asked]:
    told = f"not asked: all files together are larger than 1 GiB. Send fewer; or '{REST}"
    return [Asked(name, problem=told) for name in names]
