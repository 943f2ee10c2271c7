"""The one walk through a folder of somebody's: it trusts nothing, and loses nothing in silence."""

import heapq
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from stages.core.errors import DownloadError, name_some
from stages.datasets.contents import LeftOut
from stages.datasets.leftovers import is_leftover

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class Found:
    """What lies below a folder.

    Attributes
    ----------
    files : dict of str to pathlib.Path
        Regular files by their path below the folder, sorted.
    left_out : list of LeftOut
        Sorted by path.
    links : list of str
        Links that were followed, sorted.
    """

    files: dict[str, Path] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    def say(self) -> list[str]:
        """Return a line on links, and one on what was left out, where there is any."""
        lines = []
        if self.links:
            lines.append(f"follows {len(self.links)} links: {name_some(self.links)}")
        if self.left_out:
            why: dict[str, list[str]] = {}
            for one in self.left_out:
                why.setdefault(one.detail, []).append(one.path)
            shown = "; ".join(f"{name_some(paths)} ({detail})" for detail, paths in why.items())
            lines.append(f"does not read {len(self.left_out)} of what lies there: {shown}")
        return lines


def walk(folder: Path) -> Found:
    """List the files below a folder, the same on every disk.

    Parameters
    ----------
    folder : pathlib.Path
        Or a single file, which is all that is found.

    Returns
    -------
    Found
        Only regular files: opening a pipe or a device may wait for ever.

    Raises
    ------
    DownloadError
        A file or folder cannot be read, or a link is broken: pictures would be missing. Or there
        is no file at all.

    Notes
    -----
    A link to a file stands for that file. A folder is read once: at its own place, or, where that
    is outside, under the first link to it by name; every other link to it, as every link to a
    folder above, is left out. So no folder gets a second label, and no walk goes round for ever.
    """
    if folder.is_file():
        return Found({folder.name: folder})
    found = Found()
    broken: list[str] = []
    seen: dict[tuple[int, int], str] = {}
    # What hangs on links waits until all folders are seen at their own places; then names decide.
    waiting: list[tuple[bool, str, Path]] = [(False, "", folder)]
    while waiting:
        is_linked, below, place = heapq.heappop(waiting)
        identity = _identify(place)
        first = seen.get(identity, ".." if is_linked and _leads_above(place, folder) else None)
        if first is not None:
            detail = f"a link to a folder that is read as {first or '.'!r}"
            found.left_out.append(_leave(below + "/", "no_file", detail))
            continue
        seen[identity] = below
        if place.is_symlink() and below:
            found.links.append(f"{below}/")
        for entry in _list(place):
            path = f"{below}/{entry.name}".removeprefix("/")
            if is_leftover(entry.name):
                slash = "/" if entry.is_dir(follow_symlinks=False) else ""
                found.left_out.append(_leave(path + slash, "hidden", "hidden, or left by a system"))
            elif (mode := _mode(entry)) is None:
                broken.append(f"{path} -> {Path(entry.path).readlink()}")
            elif stat.S_ISDIR(mode):
                is_link = is_linked or entry.is_symlink()
                heapq.heappush(waiting, (is_link, path, Path(entry.path)))
            elif stat.S_ISREG(mode):
                if not os.access(entry.path, os.R_OK):
                    raise _unreadable(Path(entry.path), PermissionError(13, "Permission denied"))
                found.files[path] = Path(entry.path)
                found.links.extend([path] * entry.is_symlink())
            else:
                kind = KINDS.get(stat.S_IFMT(mode), "no regular file")
                found.left_out.append(_leave(path, "no_file", f"{kind}, which is never opened"))
    if broken:
        raise DownloadError(
            f"{folder}: {name_some(sorted(broken))}: a broken link leads to nothing that can be "
            "read, so that its picture would be missing. Nothing was changed. Bring back what it "
            "names, or remove the link."
        )
    if not found.files:
        raise DownloadError(f"{folder} holds no file. Put the hospital's pictures there.")
    return Found(
        dict(sorted(found.files.items())),
        sorted(found.left_out, key=lambda one: one.path),
        sorted(found.links),
    )


def _leave(path: str, reason: str, detail: str) -> LeftOut:
    return LeftOut(path=path.encode("utf-8", "replace").decode(), reason=reason, detail=detail)


def _identify(place: Path) -> tuple[int, int]:
    try:
        status = place.stat()
    except OSError as error:
        raise _unreadable(place, error) from None
    return status.st_dev, status.st_ino


def _mode(entry: os.DirEntry[str]) -> int | None:
    """Return the kind of file that an entry is or leads to; None for a broken link."""
    try:
        return entry.stat().st_mode
    except OSError as error:
        if entry.is_symlink():
            return None
        raise _unreadable(Path(entry.path), error) from None


def _list(place: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(place, error) from None


def _leads_above(place: Path, folder: Path) -> bool:
    return folder.resolve().is_relative_to(place.resolve())


def _unreadable(place: Path, error: OSError) -> DownloadError:
    return DownloadError(
        f"{place} cannot be read ({error.strerror}), so that its pictures would be missing. "
        "Nothing was changed. Give yourself the right to read it, or move it elsewhere."
    )
