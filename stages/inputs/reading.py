"""Pictures with their geometry, and rows of prepared pixels made of them."""

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from stages.core import parallel, tables
from stages.core.errors import TableError, name_some
from stages.core.params import InputsParams
from stages.images import decoding
from stages.inputs import preparation

MARGIN = 0.25  # of the side: surroundings for turned and smaller views; a full turn needs 0.21

Picture = tuple[str, bytes, preparation.Geometry]  # image_id, file, where the cell is
Changed = tuple[str, preparation.Pixels, preparation.Geometry]  # a picture that is no file any more


@dataclass(frozen=True)
class Examples:
    """Rows for a network, in the order of the pictures.

    Attributes
    ----------
    image_ids : list of str, length n_rows
        Which picture each row shows; one for each colour correction follow one another.
    x : numpy.ndarray, shape (n_rows, side, side, 3)
        Pixels, uint8, RGB, that lie on disk as a memory map.
    margin : int
        Surroundings on each side of the pixels, beyond what a network takes in.
    hidden : numpy.ndarray, same shape as `x`, optional
        The same rows with everything outside the cell hidden.
    """

    image_ids: list[str]
    x: np.ndarray
    margin: int = 0
    hidden: np.ndarray | None = None


def read_split(
    hospitals: Sequence[str], parts: Sequence[str], columns: Sequence[str]
) -> pd.DataFrame:
    """Read the rows of some parts of data/split, and of no other part.

    Parameters
    ----------
    hospitals : sequence of str
    parts : sequence of str
        For example ``["train", "valid"]``: the labels of other parts never reach the caller.
    columns : sequence of str
        Of ``tables.SPLIT``; ``image_id`` among them.

    Returns
    -------
    pandas.DataFrame
        Sorted by image_id.

    Raises
    ------
    TableError
        A file is not there.
    """
    rows = tables.SPLIT.read_all(hospitals, [*dict.fromkeys([*columns, "part"])])
    chosen = rows[rows["part"].isin(parts)]
    return chosen[list(columns)].sort_values("image_id", ignore_index=True)


def stream_pictures(
    hospital: str, rule: InputsParams, wanted: Collection[str] | None = None
) -> Iterator[Picture]:
    """Yield pictures of a hospital with their geometry, one row group in memory at a time.

    Parameters
    ----------
    hospital : str
    rule : InputsParams
    wanted : collection of str, optional
        Image_ids; all of the hospital where not given.

    Raises
    ------
    TableError
        A picture is not in the tables of images and quality.
    """
    measured = tables.QUALITY.read(hospital, preparation.MEASURED)
    geometries = preparation.geometries(measured, rule)
    missing = set() if wanted is None else set(wanted)
    for row in tables.IMAGES.stream(hospital, ["image_id", "bytes"], wanted):
        image_id = row["image_id"]
        missing.discard(image_id)
        if image_id not in geometries:
            missing = {image_id}
            break
        yield image_id, row["bytes"], geometries[image_id]
    if missing:
        raise TableError(
            f"{tables.IMAGES.at(hospital)} or {tables.QUALITY.at(hospital)} has no row of "
            f"{len(missing)} pictures ({name_some(sorted(missing))}). Run 'uv run dvc repro', "
            "which brings the tables into step."
        )


def stream_training(part: str) -> Iterator[Picture]:
    """Yield the pictures of ``"train"`` or ``"valid"`` out of data/training."""
    for row in tables.TRAINING.stream():
        if row["part"] == part:
            yield row["image_id"], row["bytes"], preparation.from_row(row)


def read_pixels(pictures: Iterable[Picture | Changed], rule: InputsParams, size: int) -> Examples:
    """Decode and prepare pictures, one row for each colour correction of the rule.

    Parameters
    ----------
    pictures : iterable of Picture or Changed
        Read lazily.
    rule : InputsParams
        How a picture becomes an array; each entry of ``white_balance`` is a row.
    size : int
        Side, px.

    Returns
    -------
    rows : Examples
        Pixels of shape (n_rows, size, size, 3), uint8, mapped from a temporary file, so that
        memory does not grow with the number of pictures.

    Notes
    -----
    The file has no name any more when this returns: the system frees its space as soon as the
    array is gone, also where the process is killed. It lies in the folder that ``TMPDIR`` names,
    and takes ``n_rows * size * size * 3`` bytes there. It is written through, not mapped for
    writing, so that a full disk is an error and not a crash.
    """
    balances = sorted(rule.white_balance)
    prepare = partial(_prepare, balances=balances, rule=rule, size=size)
    ids, (x,) = _write_pixels(prepare, pictures, [(len(balances), size)])
    return Examples([name for name in ids for _ in balances], x)


def read_wide(
    pictures: Iterable[Picture], rule: InputsParams, size: int, with_hidden: bool
) -> Examples:
    """Decode and prepare pictures once each, with surroundings for views to be cut from.

    Parameters
    ----------
    pictures : iterable of Picture
        Read lazily.
    rule : InputsParams
        How a picture becomes an array. The colour correction is the first of ``white_balance``
        that is not ``grey_world``, which depends on what a view shows, or else ``none``.
    size : int
        Side of a view, px.
    with_hidden : bool
        Whether to prepare each picture also with everything outside the cell hidden; not done
        where the rule hides something already.

    Returns
    -------
    rows : Examples
        One for each picture, with a margin of a quarter of the side. Its middle is the plain
        view, byte for byte. Held as the pixels of `read_pixels` are, in ``n_rows * 2.25 * size *
        size * 3`` bytes, and as many for what is hidden.

    Notes
    -----
    To decode and crop a picture takes longer than to augment it, so it is not done in each epoch.
    """
    balance = next((name for name in rule.white_balance if name != "grey_world"), "none")
    hides = with_hidden and rule.hide == "nothing"
    side = size + 2 * round(MARGIN * size)
    prepare = partial(_prepare_wide, balance=balance, hides=hides, rule=rule, size=size)
    ids, arrays = _write_pixels(prepare, pictures, [(1, side)] * (1 + hides))
    return Examples(ids, arrays[0], round(MARGIN * size), arrays[1] if hides else None)


def plain(examples: Examples) -> Examples:
    """Return the rows without their surroundings, as models are judged; no pixel is copied."""
    if not (margin := examples.margin):
        return examples
    return Examples(examples.image_ids, examples.x[:, margin:-margin, margin:-margin])


def sample(examples: Examples, n_images: int) -> Examples:
    """Return the rows of at most so many images, spread evenly."""
    images = sorted(set(examples.image_ids))
    if len(images) <= n_images:
        return examples
    chosen = {images[place] for place in np.linspace(0, len(images) - 1, n_images, dtype=int)}
    keep = [row for row, image_id in enumerate(examples.image_ids) if image_id in chosen]
    return Examples([examples.image_ids[row] for row in keep], examples.x[keep])


def _write_pixels(
    prepare: Callable[..., tuple[str, list[np.ndarray]]],
    pictures: Iterable[Picture | Changed],
    shapes: Sequence[tuple[int, int]],
) -> tuple[list[str], list[np.ndarray]]:
    """Write what `prepare` gives for each picture to nameless files; map each into an array.

    `shapes` says for each file how many rows a picture has there, and their side.
    """
    ids: list[str] = []
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(prefix="smearflow-")) for _ in shapes]
        for image_id, pieces in parallel.map_ordered(prepare, pictures):
            for file, pixels in zip(files, pieces, strict=True):
                file.write(pixels.tobytes())
            ids.append(image_id)
        arrays: list[np.ndarray] = []
        for file, (n_rows, side) in zip(files, shapes, strict=True):
            file.flush()
            shape = (len(ids) * n_rows, side, side, 3)
            arrays.append(
                np.memmap(file, np.uint8, "r", shape=shape) if ids else np.zeros(shape, np.uint8)
            )
    return ids, arrays


def _prepare(
    picture: Picture | Changed, balances: Sequence[str], rule: InputsParams, size: int
) -> tuple[str, list[np.ndarray]]:
    image_id, content, geometry = picture
    rgb = decoding.decode(content).rgb if isinstance(content, bytes) else content
    pixels = [preparation.prepare(rgb, geometry, rule, size, name) for name in balances]
    return image_id, [np.stack(pixels)]


def _prepare_wide(
    picture: Picture, balance: str, hides: bool, rule: InputsParams, size: int
) -> tuple[str, list[np.ndarray]]:
    image_id, content, geometry = picture
    rgb = decoding.decode(content).rgb
    margin = round(MARGIN * size)
    side = size + 2 * margin
    outward = np.diag([side / size, side / size, 1.0])
    wide = preparation.prepare(rgb, geometry, rule, side, balance, outward)
    # The sampler rounds places, and from another corner some pixels come out one level off.
    plain_view = preparation.prepare(rgb, geometry, rule, size, balance)
    wide[margin : margin + size, margin : margin + size] = plain_view
    if not hides:
        return image_id, [wide]
    masked = rule.model_copy(update={"hide": "background"})
    return image_id, [wide, preparation.prepare(rgb, geometry, masked, side, balance, outward)]
