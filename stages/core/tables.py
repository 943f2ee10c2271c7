"""The data dictionary: every table's path, what one row is, its key, its columns and units."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.errors import TableError
from stages.core.store import replace

ROW_GROUP = 256  # pictures a row group: about 10 MB of JPEG, the unit of streaming
PARTS = ("train", "valid", "test", "unseen", "left_out")
SCORED_PARTS = ("test", "unseen")
REASONS = (
    "hidden",  # hidden, or left by a system or a program: never read
    "no_file",  # a pipe or a device, or a second link to a folder: never read
    "not_an_image",  # the content is no picture
    "foreign_format",  # a picture of a format that is not read
    "unknown_format",  # at a picture's place or under its name, but of no known format
    "no_class_folder",  # a picture without a folder that could be its label
    "outside_layout",  # a picture whose path is none of layout.image
    "other_ending",  # the same, but only for the ending of its name
    "empty",  # no bytes
    "unreadable",  # a picture's name, but no decoder opens it
    "truncated",  # opens, but ends before its last row
    "damaged",  # opens, but a part was overwritten or lost
    "undersized",
    "oversized",
    "blank",  # one colour: nothing was photographed
    "duplicate",  # the same pixels as a picture that was kept
    "conflicting_labels",  # the same pixels under two published labels: none can be trusted
    "same_name",  # a second member of the archive under the same image_id
)


def column(name: str, kind: pa.DataType, description: str, unit: str = "") -> pa.Field:
    """Describe one column; description and unit travel in the Parquet file."""
    return pa.field(name, kind, metadata={"description": description, "unit": unit})


@dataclass(frozen=True)
class Table:
    """One Parquet table: where it lies, what one row is, its key and its columns.

    Attributes
    ----------
    path : str
        With ``{hospital}`` where there is one file for each hospital.
    row : str
        What one row is.
    key : tuple of str
        Unique, and the order of the rows.
    schema : pyarrow.Schema
        Columns in order. Columns of `open_kind` may follow.
    open_kind : pyarrow.DataType, optional
        Type of the further columns, where their names depend on the experiment.
    """

    path: str
    row: str
    key: tuple[str, ...]
    schema: pa.Schema
    open_kind: pa.DataType | None = None

    def at(self, hospital: str | None = None) -> Path:
        """Return the file of a hospital, or of all."""
        return Path(self.path.format(hospital=hospital) if hospital else self.path)

    def read(
        self, hospital: str | None = None, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Read the table, or the named columns of it.

        Raises
        ------
        TableError
            The file is not there, or is no Parquet file.
        """
        with self._open(hospital) as file:
            rows = file.read(columns=list(columns) if columns else None)
        frame: pd.DataFrame = rows.to_pandas()
        return frame

    def read_all(
        self, hospitals: Sequence[str], columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Read the table of each hospital into one frame, sorted by key."""
        frames = [self.read(hospital, columns) for hospital in sorted(hospitals)]
        return pd.concat(frames, ignore_index=True)

    def stream(
        self,
        hospital: str | None = None,
        columns: Sequence[str] | None = None,
        wanted: Collection[str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows as dicts, one row group in memory at a time; errors as `read`.

        With `wanted`, only the rows of those image_ids; groups without any are not read.
        """
        with self._open(hospital) as file:
            for place in range(file.num_row_groups):
                keep = None
                if wanted is not None:
                    ids = file.read_row_group(place, ["image_id"]).column("image_id").to_pylist()
                    keep = [image_id in wanted for image_id in ids]
                    if not any(keep):
                        continue
                group = file.read_row_group(place, list(columns) if columns else None)
                yield from (group if keep is None else group.filter(pa.array(keep))).to_pylist()

    def count_rows(self, hospital: str | None = None) -> int:
        """Return the number of rows; errors as `read`."""
        with self._open(hospital) as file:
            n: int = file.metadata.num_rows
        return n

    def _open(self, hospital: str | None) -> pq.ParquetFile:
        path = self.at(hospital)
        if not path.is_file():
            raise TableError(f"{path} is missing. Run 'uv run dvc repro', which makes it.")
        try:
            return pq.ParquetFile(path)
        except pa.ArrowInvalid as error:
            raise TableError(
                f"{path} is no whole Parquet file ({error}). Delete it and run 'uv run dvc repro'."
            ) from None

    def write(self, frame: pd.DataFrame, hospital: str | None = None) -> None:
        """Check `frame`, sort it by key and write it atomically.

        Raises
        ------
        TableError
            A column is missing, unknown, of a wrong type or empty where it must not be, or the
            key is not unique.
        """
        ordered = frame.sort_values(list(self.key), kind="stable", ignore_index=True)
        with self.writer(hospital, self._extended(frame)) as append:
            append(ordered)

    @contextmanager
    def writer(self, hospital: str | None = None, schema: pa.Schema | None = None) -> Iterator[Any]:
        """Open the table for writing in pieces; rows must come in the order of the key.

        Yields
        ------
        callable
            Takes a pandas.DataFrame or a list of dicts. The file appears when the block ends
            without an error, and not before.
        """
        schema = schema or self.schema
        last: tuple[Any, ...] | None = None
        with (
            replace(self.at(hospital)) as temporary,
            pq.ParquetWriter(
                temporary, schema, compression="zstd", use_dictionary=False, write_statistics=False
            ) as file,
        ):

            def append(rows: pd.DataFrame | list[dict[str, Any]]) -> None:
                nonlocal last
                piece = self._to_arrow(rows, schema)
                last = self._check_order(piece, last)
                file.write_table(piece, row_group_size=ROW_GROUP)

            yield append

    def _extended(self, frame: pd.DataFrame) -> pa.Schema:
        if self.open_kind is None:
            return self.schema
        extra = [name for name in frame.columns if name not in self.schema.names]
        return pa.schema([*self.schema, *(pa.field(name, self.open_kind) for name in extra)])

    def _to_arrow(self, rows: pd.DataFrame | list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
        names = (
            list(rows.columns)
            if isinstance(rows, pd.DataFrame)
            else list(rows[0])
            if rows
            else schema.names
        )
        missing = [name for name in schema.names if name not in names]
        unknown = [name for name in names if name not in schema.names]
        if missing or unknown:
            raise TableError(f"{self.path}: missing columns {missing}, unknown columns {unknown}.")
        try:
            if isinstance(rows, pd.DataFrame):
                piece = pa.Table.from_pandas(rows, schema=schema, preserve_index=False)
                return piece.replace_schema_metadata(None)
            return pa.Table.from_pylist(rows, schema=schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
            raise TableError(f"{self.path}: a value is wrong for its column: {error}.") from None

    def _check_order(self, piece: pa.Table, last: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        for name in self.schema.names:
            if not self.schema.field(name).nullable and piece.column(name).null_count:
                raise TableError(f"{self.path}: column {name} has empty values.")
        keys: Iterable[tuple[Any, ...]] = zip(
            *(piece.column(name).to_pylist() for name in self.key), strict=True
        )
        for key in keys:
            if last is not None and key <= last:
                fault = "stands twice" if key == last else "is out of order"
                raise TableError(f"{self.path}: {dict(zip(self.key, key, strict=True))} {fault}.")
            last = key
        return last


def _required(name: str, kind: pa.DataType, description: str, unit: str = "") -> pa.Field:
    return column(name, kind, description, unit).with_nullable(False)


IMAGE_ID = _required("image_id", pa.string(), "<hospital>/<path in the archive>, stable for ever")
HOSPITAL = _required("hospital", pa.string(), "name of its block in data/hospitals.yaml")

IMAGES = Table(
    "data/images/{hospital}.parquet",
    "one usable picture",
    ("image_id",),
    pa.schema(
        [
            IMAGE_ID,
            HOSPITAL,
            _required("path", pa.string(), "member of the archive"),
            column(
                "published_label", pa.string(), "as the hospital wrote it; null: none published"
            ),
            column("patient", pa.string(), "null: not published"),
            column("slide", pa.string(), "slide or smear; null: not published"),
            column("field", pa.string(), "field of view on the slide; null: not published"),
            column("diagnosis", pa.string(), "of the patient; null: not published"),
            column("official_part", pa.string(), "the publisher's own part or cohort; null: none"),
            column("official_side", pa.string(), "which of our parts that is; null: none of them"),
            _required("simulated", pa.bool_(), "drawn by us"),
            _required("place", pa.string(), "the hospital, or that of which it is a copy or part"),
            column("expert_1", pa.string(), "published label by one expert; null: not given"),
            column("expert_2", pa.string(), "published label by another; null: not given"),
            _required("sha256", pa.string(), "of the file"),
            _required("pixel_sha256", pa.string(), "of the decoded RGB pixels and their shape"),
            _required("width", pa.int32(), "as decoded", "px"),
            _required("height", pa.int32(), "as decoded", "px"),
            _required("format", pa.string(), "of the file"),
            _required("mode", pa.string(), "channels of the file: RGB, RGBA, L"),
            _required("bytes", pa.binary(), "the publisher's file, byte for byte"),
            column("mask", pa.binary(), "the publisher's cell mask file; null: none"),
            _required("phash", pa.binary(32), "signs of the 16 x 16 lowest cosine frequencies"),
            _required("twin_group", pa.string(), "smallest image_id of its near twins here"),
            _required(
                "warnings", pa.list_(pa.string()), "odd_size, near_twin, fewer_bits, other_pages"
            ),
        ]
    ),
)

REJECTED = Table(
    "data/rejected/{hospital}.parquet",
    "one member of the archive that is not used as a picture",
    ("image_id",),
    pa.schema(
        [
            IMAGE_ID,
            HOSPITAL,
            _required("path", pa.string(), "member of the archive"),
            column("published_label", pa.string(), "as the hospital wrote it; null: none"),
            column("patient", pa.string(), "null: not published, or no picture"),
            column("slide", pa.string(), "null: not published, or no picture"),
            column("pixel_sha256", pa.string(), "of a copy: the pixels it shares; else null"),
            _required("reason", pa.string(), "one of " + ", ".join(REASONS)),
            _required("detail", pa.string(), "what was seen, for a person"),
        ]
    ),
)

QUALITY = Table(
    "data/quality/{hospital}.parquet",
    "one usable picture",
    ("image_id",),
    pa.schema(
        [
            IMAGE_ID,
            HOSPITAL,
            _required("mean_r", pa.float64(), "mean of the red channel", "0..255"),
            _required("mean_g", pa.float64(), "mean of the green channel", "0..255"),
            _required("mean_b", pa.float64(), "mean of the blue channel", "0..255"),
            _required("sd_r", pa.float64(), "standard deviation of the red channel", "0..255"),
            _required("sd_g", pa.float64(), "standard deviation of the green channel", "0..255"),
            _required("sd_b", pa.float64(), "standard deviation of the blue channel", "0..255"),
            column(
                "hue", pa.float64(), "mean direction of the HSV hue; null: no colour", "degrees"
            ),
            _required("saturation", pa.float64(), "mean HSV saturation", "0..1"),
            _required("value", pa.float64(), "mean HSV value", "0..1"),
            _required("lab_l", pa.float64(), "mean CIE L*", "0..100"),
            _required("lab_a", pa.float64(), "mean CIE a*: green to red", "-128..127"),
            _required("lab_b", pa.float64(), "mean CIE b*: blue to yellow", "-128..127"),
            _required("clipped", pa.float64(), "share of pixels at 0 or 255 in a channel", "0..1"),
            _required("white_r", pa.float64(), "background, red", "0..255"),
            _required("white_g", pa.float64(), "background, green", "0..255"),
            _required("white_b", pa.float64(), "background, blue", "0..255"),
            column(
                "unevenness",
                pa.float64(),
                "background, brightest minus darkest part; null: too little is seen",
                "share of the white",
            ),
            column(
                "haze",
                pa.float64(),
                "green level of the nucleus' darkest twentieth / white",
                "0..1",
            ),
            column(
                "jpeg_quality", pa.int32(), "libjpeg's, from the tables; null: no JPEG", "1..100"
            ),
            _required("entropy", pa.float64(), "of the grey levels", "bits"),
            _required(
                "laplacian_sum", pa.float64(), "sum of |Laplacian| of grey (PyCell)", "grey levels"
            ),
            _required("sharpness", pa.float64(), "mean of |Laplacian| of grey", "grey levels / px"),
            _required(
                "laplacian_variance", pa.float64(), "variance of the Laplacian", "grey levels^2"
            ),
            _required("tenengrad", pa.float64(), "mean squared Sobel gradient", "grey levels^2"),
            column(
                "tenengrad_cell", pa.float64(), "mean squared Sobel gradient, cell", "grey levels^2"
            ),
            _required("n_cells", pa.int32(), "nuclei in the picture, with the middle one", "count"),
            column(
                "red_cell_diameter",
                pa.float64(),
                "median of the red cells seen whole; null: fewer than two",
                "px",
            ),
            _required("has_cell", pa.bool_(), "a nucleus was found"),
            column("centre_x", pa.float64(), "centre of the cell", "px from the left"),
            column("centre_y", pa.float64(), "centre of the cell", "px from the top"),
            column("cell_radius", pa.float64(), "sqrt(cell area / pi)", "px"),
            column("nucleus_radius", pa.float64(), "sqrt(nucleus area / pi)", "px"),
            column("nucleus_share", pa.float64(), "nucleus area / cell area", "0..1"),
            column("nucleus_lobes", pa.int32(), "separate parts of the nucleus", "count"),
            column(
                "nucleus_solidity", pa.float64(), "nucleus area / area of its convex hull", "0..1"
            ),
            column("nucleus_od", pa.float64(), "mean green optical density of the nucleus", "OD"),
            column(
                "cytoplasm_od_r", pa.float64(), "mean optical density of the cytoplasm, red", "OD"
            ),
            column(
                "cytoplasm_od_g", pa.float64(), "mean optical density of the cytoplasm, green", "OD"
            ),
            column(
                "cytoplasm_od_b", pa.float64(), "mean optical density of the cytoplasm, blue", "OD"
            ),
            column(
                "mask_iou",
                pa.float64(),
                "our cell mask against the published one; null: none",
                "0..1",
            ),
            column(
                "cell_mask",
                pa.binary(),
                "the cell, a bit for each pixel, rows first, longer side 160 px; null: none",
            ),
            column("nucleus_blue", pa.float64(), "methylene blue in the nucleus, mean", "OD"),
            column("nucleus_eosin", pa.float64(), "eosin in the nucleus, mean", "OD"),
            column("nucleus_rest", pa.float64(), "what neither explains there", "OD"),
            column("cytoplasm_blue", pa.float64(), "methylene blue in the cytoplasm, mean", "OD"),
            column("cytoplasm_eosin", pa.float64(), "eosin in the cytoplasm, mean", "OD"),
            column("cytoplasm_rest", pa.float64(), "what neither explains there", "OD"),
            column(
                "blue_stain",
                pa.list_(pa.float64()),
                "the picture's own blue stain: red, green, blue parts; null: cannot be told",
                "length 1",
            ),
            column(
                "eosin_stain",
                pa.list_(pa.float64()),
                "the picture's own red stain: red, green, blue parts; null: cannot be told",
                "length 1",
            ),
            column(
                "stained_around",
                pa.float64(),
                "share of the pixels outside of the cell that are stained; null: all is cell",
                "0..1",
            ),
            column(
                "profile",
                pa.list_(pa.float64()),
                "mean blue, eosin and rest in 8 rings each, from the cell's centre to its radius",
                "OD",
            ),
            column(
                "thumbnail",
                pa.binary(),
                "40 x 40 px, red, green, blue: three cell radii wide; the whole picture: no cell",
            ),
            _required(
                "flags",
                pa.list_(pa.string()),
                "no_cell, at_border, unsure_outline, broken, <measure>_outlier",
            ),
        ]
    ),
)

LABELS = Table(
    "data/labels.parquet",
    "one usable picture",
    ("image_id",),
    pa.schema(
        [
            IMAGE_ID,
            HOSPITAL,
            column("published_label", pa.string(), "as the hospital wrote it; null: none"),
            column("cell_type", pa.string(), "ours; null: dropped by the label map"),
            column("label", pa.string(), "class in the chosen taxonomy; null: not kept"),
            column("patient", pa.string(), "null: not published"),
            column("slide", pa.string(), "null: not published"),
            _required("group", pa.string(), "pictures that must stand on one side"),
            _required(
                "unit",
                pa.string(),
                "what makes the group: patient, slide, field, twins or image",
            ),
            column("official_part", pa.string(), "the publisher's own part or cohort; null: none"),
            column("official_side", pa.string(), "which of our parts that is; null: none of them"),
            _required("keep", pa.bool_(), "takes part in the experiment"),
            column("drop_reason", pa.string(), "why not; null: kept"),
        ]
    ),
)

SPLIT = Table(
    "data/split/{hospital}.parquet",
    "one kept picture",
    ("image_id",),
    pa.schema(
        [
            IMAGE_ID,
            HOSPITAL,
            _required("label", pa.string(), "class in the chosen taxonomy"),
            _required("group", pa.string(), "pictures that must stand on one side"),
            _required("twin_group", pa.string(), "near twins, across hospitals too"),
            _required("part", pa.string(), "one of " + ", ".join(PARTS)),
            column("left_out_reason", pa.string(), "null: not left out"),
        ]
    ),
)

FEATURES = Table(
    "data/features/{hospital}.parquet",
    "one view of one usable picture",
    ("image_id", "view"),
    pa.schema(
        [
            IMAGE_ID,
            _required("view", pa.string(), "colour correction"),
            _required("vector", pa.list_(pa.float32()), "the backbone's averaged activations"),
        ]
    ),
)

TRAINING = Table(
    "data/training/pictures.parquet",
    "one picture to learn from or to validate on",
    ("image_id",),
    pa.schema(
        [
            IMAGE_ID,
            HOSPITAL,
            _required("label", pa.string(), "class in the chosen taxonomy"),
            _required("group", pa.string(), "pictures that stand on one side"),
            _required("twin_group", pa.string(), "near twins, across hospitals too"),
            _required("part", pa.string(), "train or valid"),
            _required("bytes", pa.binary(), "the file as published"),
            column("centre_x", pa.float64(), "middle of the crop; null: of the picture", "px"),
            column("centre_y", pa.float64(), "middle of the crop; null: of the picture", "px"),
            column("radius", pa.float64(), "of a cell, as inputs.scale says; null: unknown", "px"),
            _required("white_r", pa.float64(), "background, red", "0..255"),
            _required("white_g", pa.float64(), "background, green", "0..255"),
            _required("white_b", pa.float64(), "background, blue", "0..255"),
            column("cell_mask", pa.binary(), "as in quality; null: no cell was found"),
        ]
    ),
)

VECTORS = Table(
    "data/training/vectors.parquet",
    "one picture of the table of pictures",
    ("image_id",),
    pa.schema(
        [
            IMAGE_ID,
            _required("vector", pa.list_(pa.float32()), "mean of its views in features"),
        ]
    ),
)

SUSPECTS = Table(
    "data/suspects.parquet",
    "one image whose label is probably wrong",
    ("image_id",),
    pa.schema(
        [
            IMAGE_ID,
            HOSPITAL,
            _required("label", pa.string(), "the class that it bears"),
            _required("suggested", pa.string(), "the most probable other class"),
            _required("p_label", pa.float64(), "out-of-fold probability of its label", "0..1"),
            _required("p_suggested", pa.float64(), "out-of-fold probability of the other", "0..1"),
            _required("rank", pa.int32(), "1: look at this one first"),
        ]
    ),
)

PREDICTIONS = Table(
    "data/predictions/{hospital}.parquet",
    "one picture that taught the model nothing; its truth stands in the split",
    ("image_id",),
    pa.schema(
        [
            IMAGE_ID,
            HOSPITAL,
            _required("part", pa.string(), "valid, test or unseen"),
            _required("predicted", pa.string(), "the class of highest probability"),
        ]
    ),
    open_kind=pa.float64(),
)

ADAPTED = Table(
    "data/adapted/{hospital}.parquet",
    "one picture of an unseen hospital, by one way to adapt the model to it; the truth: the split",
    ("image_id", "method"),
    pa.schema(
        [
            IMAGE_ID,
            _required("method", pa.string(), "calibrated: without labels; labels_K: K a class"),
            HOSPITAL,
            _required("predicted", pa.string(), "the class of highest probability"),
        ]
    ),
)
