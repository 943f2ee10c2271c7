"""Rows of features, or of prepared pixels, read for some pictures."""

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from stages.core import parallel, tables
from stages.core.errors import TableError, name_some
from stages.core.params import InputsParams
from stages.images import decoding
from stages.inputs import preparation

AUGMENTED = "augmented"  # stands in the name of every view that is not a plain one
MARGIN = 0.25  # of the side: surroundings for turned and smaller views; a full turn needs 0.21

Work = tuple[str, bytes, preparation.Geometry]


@dataclass(frozen=True)
class Examples:
    """Rows for a network, sorted by picture and view.

    Attributes
    ----------
    image_ids, views : list of str, length n_rows
        Which view of which picture each row is.
    x : numpy.ndarray, shape (n_rows, n_features) or (n_rows, side, side, 3)
        Float32 features, or uint8 pixels (RGB) that lie on disk as a memory map.
    margin : int
        Surroundings on each side of the pixels, beyond what a network takes in.
    hidden : numpy.ndarray, same shape as `x`, optional
        The same rows with everything outside the cell hidden.
    """

    image_ids: list[str]
    views: list[str]
    x: np.ndarray
    margin: int = 0
    hidden: np.ndarray | None = None


def read_split(parts: Sequence[str]) -> pd.DataFrame:
    """Read the rows of some parts of data/split.parquet, and of no other part.

    Parameters
    ----------
    parts : sequence of str
        For example ``["train", "valid"]``: the labels of the other parts are filtered out by
        the Parquet reader and never reach the caller.

    Returns
    -------
    pandas.DataFrame
        Columns image_id, hospital, label, group, part; sorted by image_id.

    Raises
    ------
    TableError
        The file is not there.
    """
    path = tables.SPLIT.at()
    if not path.is_file():
        raise TableError(f"{path} is missing. Run 'uv run dvc repro', which makes it.")
    columns = ["image_id", "hospital", "label", "group", "part"]
    rows = pq.read_table(path, columns=columns, filters=[("part", "in", list(parts))])
    frame: pd.DataFrame = rows.to_pandas()
    return frame.sort_values("image_id", ignore_index=True)


def read_features(
    hospitals: Sequence[str], image_ids: Collection[str], plain_only: bool
) -> Examples:
    """Read the feature vectors of some pictures.

    Parameters
    ----------
    hospitals : sequence of str
        Where the pictures come from.
    image_ids : collection of str
        The pictures. All must be there.
    plain_only : bool
        Leave the augmented views out, as for every picture that judges a model.

    Returns
    -------
    rows : Examples
        Features of shape (n_rows, n_features), float32. All wanted rows are held in
        memory: 5.6 kB for each row of 1392 features.

    Raises
    ------
    TableError
        A picture has no features, or the vectors differ in length.
    """
    wanted = set(image_ids)
    ids: list[str] = []
    views: list[str] = []
    pieces: list[np.ndarray] = []
    for hospital in sorted(hospitals):
        for rows in _stream_features(hospital):
            keep = rows["image_id"].isin(wanted)
            if plain_only:
                keep &= ~rows["view"].str.contains(AUGMENTED, regex=False)
            chosen = rows[keep]
            ids += chosen["image_id"].tolist()
            views += chosen["view"].tolist()
            if len(chosen):
                pieces.append(_stack(chosen))
    _require_all(wanted, ids, "data/features", "view")
    if len({piece.shape[1] for piece in pieces}) > 1:
        raise TableError(
            "data/features: the vectors of the hospitals differ in length. Run 'uv run dvc repro', "
            "which makes them all with the same layers."
        )
    return Examples(ids, views, np.concatenate(pieces) if pieces else np.zeros((0, 0), np.float32))


def read_pixels(
    hospitals: Sequence[str], image_ids: Collection[str], rule: InputsParams, size: int
) -> Examples:
    """Decode and prepare some pictures, one row for each colour correction of the rule.

    Parameters
    ----------
    hospitals : sequence of str
        Where the pictures come from.
    image_ids : collection of str
        The pictures. All must be there.
    rule : InputsParams
        How a picture becomes an array; each entry of ``white_balance`` is a view.
    size : int
        Side, px.

    Returns
    -------
    rows : Examples
        Pixels of shape (n_rows, size, size, 3), uint8, mapped from a temporary file, so that
        memory does not grow with the number of pictures.

    Raises
    ------
    TableError
        A picture is not in the tables of the hospitals.

    Notes
    -----
    The file has no name any more when this returns: the system frees its space as soon as the
    array is gone, also where the process is killed. It lies in the folder that ``TMPDIR`` names,
    and takes ``n_rows * size * size * 3`` bytes there. It is written through, not mapped for
    writing, so that a full disk is an error and not a crash.
    """
    views: list[str] = sorted(rule.white_balance)
    prepare = partial(_prepare, views=views, rule=rule, size=size)
    ids, (x,) = _write_pixels(prepare, hospitals, image_ids, rule, [(len(views), size)])
    return Examples([name for name in ids for _ in views], views * len(ids), x)


def read_wide(
    hospitals: Sequence[str],
    image_ids: Collection[str],
    rule: InputsParams,
    size: int,
    with_hidden: bool,
) -> Examples:
    """Decode and prepare some pictures once each, with surroundings for views to be cut from.

    Parameters
    ----------
    hospitals : sequence of str
        Where the pictures come from.
    image_ids : collection of str
        The pictures. All must be there.
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

    Raises
    ------
    TableError
        A picture is not in the tables of the hospitals.

    Notes
    -----
    To decode and crop a picture takes longer than to augment it, so it is not done in each epoch.
    """
    balance = next((name for name in rule.white_balance if name != "grey_world"), "none")
    hides = with_hidden and rule.hide == "nothing"
    side = size + 2 * round(MARGIN * size)
    prepare = partial(_prepare_wide, balance=balance, hides=hides, rule=rule, size=size)
    ids, arrays = _write_pixels(prepare, hospitals, image_ids, rule, [(1, side)] * (1 + hides))
    hidden = arrays[1] if hides else None
    return Examples(ids, [balance] * len(ids), arrays[0], round(MARGIN * size), hidden)


def plain(examples: Any) -> Any:
    """Return the rows of the plain views, on which models are judged; of a dict, of each value.

    Returns
    -------
    rows : Examples
        The very same where no view is augmented. Surroundings are left out. Pixels on disk are
        not copied.
    """
    if isinstance(examples, dict):
        return {name: plain(rows) for name, rows in examples.items()}
    if margin := examples.margin:
        middle = examples.x[:, margin:-margin, margin:-margin]
        return Examples(examples.image_ids, examples.views, middle)
    keep = [row for row, view in enumerate(examples.views) if AUGMENTED not in view]
    if len(keep) == len(examples.views):
        return examples
    return Examples(
        [examples.image_ids[row] for row in keep],
        [examples.views[row] for row in keep],
        examples.x[keep],
    )


def sample(examples: Any, n_images: int) -> Any:
    """Return the rows of at most so many images, spread evenly; of a dict, of each value."""
    if isinstance(examples, dict):
        return {name: sample(rows, n_images) for name, rows in examples.items()}
    images = sorted(set(examples.image_ids))
    if len(images) <= n_images:
        return examples
    chosen = {images[place] for place in np.linspace(0, len(images) - 1, n_images, dtype=int)}
    keep = [row for row, image_id in enumerate(examples.image_ids) if image_id in chosen]
    return Examples(
        [examples.image_ids[row] for row in keep],
        [examples.views[row] for row in keep],
        examples.x[keep],
    )


def _stream_features(hospital: str) -> Iterator[pd.DataFrame]:
    path = tables.FEATURES.at(hospital)
    if not path.is_file():
        raise TableError(f"{path} is missing. Run 'uv run dvc repro', which makes it.")
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(tables.ROW_GROUP, columns=["image_id", "view", "vector"]):
            yield batch.to_pandas()


def _stack(rows: pd.DataFrame) -> np.ndarray:
    try:
        return np.stack(rows["vector"].tolist()).astype(np.float32, copy=False)
    except ValueError:
        raise TableError(
            f"data/features: the vectors near {rows['image_id'].iloc[0]} differ in length. "
            "Run 'uv run dvc repro -f' on the features stage of that hospital."
        ) from None


def _write_pixels(
    prepare: Callable[[Work], tuple[str, list[np.ndarray]]],
    hospitals: Sequence[str],
    image_ids: Collection[str],
    rule: InputsParams,
    shapes: Sequence[tuple[int, int]],
) -> tuple[list[str], list[np.ndarray]]:
    """Write what `prepare` gives for each picture to nameless files; map each into an array.

    `shapes` says for each file how many rows a picture has there, and their side.
    """
    wanted = set(image_ids)
    works = chain.from_iterable(_stream_pictures(name, wanted, rule) for name in sorted(hospitals))
    ids: list[str] = []
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(prefix="smearflow-")) for _ in shapes]
        for image_id, pieces in parallel.map_ordered(prepare, works):
            for file, pixels in zip(files, pieces, strict=True):
                file.write(pixels.tobytes())
            ids.append(image_id)
        _require_all(wanted, ids, "data/images and data/quality", "picture")
        arrays: list[np.ndarray] = []
        for file, (n_rows, side) in zip(files, shapes, strict=True):
            file.flush()
            shape = (len(ids) * n_rows, side, side, 3)
            arrays.append(
                np.memmap(file, np.uint8, "r", shape=shape) if ids else np.zeros(shape, np.uint8)
            )
    return ids, arrays


def _stream_pictures(hospital: str, wanted: set[str], rule: InputsParams) -> Iterator[Work]:
    geometries = preparation.geometries(tables.QUALITY.read(hospital), rule)
    for row in tables.IMAGES.stream(hospital, ["image_id", "bytes"]):
        image_id = row["image_id"]
        if image_id in wanted and image_id in geometries:
            yield image_id, row["bytes"], geometries[image_id]


def _prepare(
    work: Work, views: Sequence[str], rule: InputsParams, size: int
) -> tuple[str, list[np.ndarray]]:
    image_id, content, geometry = work
    rgb = decoding.decode(content).rgb
    pixels = [preparation.prepare(rgb, geometry, rule, size, view) for view in views]
    return image_id, [np.stack(pixels)]


def _prepare_wide(
    work: Work, balance: str, hides: bool, rule: InputsParams, size: int
) -> tuple[str, list[np.ndarray]]:
    image_id, content, geometry = work
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


def _require_all(wanted: set[str], found: Iterable[str], where: str, what: str) -> None:
    missing = sorted(wanted - set(found))
    if missing:
        raise TableError(
            f"{where}: no {what} of {len(missing)} pictures of data/split.parquet "
            f"({name_some(missing)}). Run 'uv run dvc repro', which brings the tables into step."
        )
