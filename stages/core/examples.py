"""What a recipe learns from and is judged on: rows of features, or rows of prepared pixels."""

import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from stages.core import decoding, inputs, parallel, tables
from stages.core.errors import TableError, name_some
from stages.core.params import HeadRecipe, InputsParams, PixelRecipe

AUGMENTED = "augmented"  # stands in the name of every view that is not a plain one


@dataclass(frozen=True)
class Examples:
    """Rows for a network, sorted by picture and view.

    Attributes
    ----------
    image_ids, views : list of str, length n_rows
        Which view of which picture each row is.
    x : numpy.ndarray, shape (n_rows, n_features) or (n_rows, size, size, 3)
        Float32 features, or uint8 pixels (RGB) that lie on disk as a memory map.
    """

    image_ids: list[str]
    views: list[str]
    x: np.ndarray


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


def read(
    recipe: HeadRecipe | PixelRecipe,
    hospitals: Sequence[str],
    image_ids: Collection[str],
    rule: InputsParams,
    plain_only: bool,
) -> Examples:
    """Read what a recipe learns from; see `read_features` and `read_pixels`."""
    if isinstance(recipe, HeadRecipe):
        return read_features(hospitals, image_ids, plain_only)
    return read_pixels(hospitals, image_ids, rule, recipe.size)


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
    wanted = set(image_ids)
    views: list[str] = sorted(rule.white_balance)
    prepare = partial(_prepare, views=views, rule=rule, size=size)
    works = chain.from_iterable(_stream_pictures(name, wanted, rule) for name in sorted(hospitals))
    ids: list[str] = []
    with tempfile.TemporaryFile(prefix="smearflow-") as file:
        for image_id, pixels in parallel.map_ordered(prepare, works):
            file.write(pixels.tobytes())
            ids.append(image_id)
        file.flush()
        _require_all(wanted, ids, "data/images and data/quality", "picture")
        shape = (len(ids) * len(views), size, size, 3)
        x = np.memmap(file, np.uint8, "r", shape=shape) if ids else np.zeros(shape, np.uint8)
    return Examples([name for name in ids for _ in views], views * len(ids), x)


def plain(examples: Examples) -> Examples:
    """Return the rows of the plain views, on which models are judged.

    Returns
    -------
    rows : Examples
        The very same where no view is augmented: pixels on disk are not copied.
    """
    keep = [row for row, view in enumerate(examples.views) if AUGMENTED not in view]
    if len(keep) == len(examples.views):
        return examples
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


def _stream_pictures(
    hospital: str, wanted: set[str], rule: InputsParams
) -> Iterator[tuple[str, bytes, inputs.Geometry]]:
    geometries = inputs.geometries(tables.QUALITY.read(hospital), rule)
    for row in tables.IMAGES.stream(hospital, ["image_id", "bytes"]):
        image_id = row["image_id"]
        if image_id in wanted and image_id in geometries:
            yield image_id, row["bytes"], geometries[image_id]


def _prepare(
    work: tuple[str, bytes, inputs.Geometry], views: Sequence[str], rule: InputsParams, size: int
) -> tuple[str, np.ndarray]:
    image_id, content, geometry = work
    rgb = decoding.decode(content).rgb
    return image_id, np.stack([inputs.prepare(rgb, geometry, rule, size, view) for view in views])


def _require_all(wanted: set[str], found: Iterable[str], where: str, what: str) -> None:
    missing = sorted(wanted - set(found))
    if missing:
        raise TableError(
            f"{where}: no {what} of {len(missing)} pictures of data/split.parquet "
            f"({name_some(missing)}). Run 'uv run dvc repro', which brings the tables into step."
        )
