"""Which pictures must stand on one side: of one patient, slide or field, or near twins."""

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

UNITS = ("patient", "slide", "field", "twins", "image")


def group_images(pictures: pd.DataFrame, copies: pd.DataFrame) -> pd.DataFrame:
    """Join the pictures of one hospital that share a patient, a slide, a field, a twin or a copy.

    Parameters
    ----------
    pictures : pandas.DataFrame, shape (n_images, n_columns)
        Of one hospital; needs ``image_id``, ``patient``, ``slide``, ``field``, ``twin_group`` and
        ``pixel_sha256``, of which patient, slide and field may be empty.
    copies : pandas.DataFrame, shape (n_copies, n_columns)
        Rejected pictures with the pixels of another one; needs ``patient``, ``slide`` and
        ``pixel_sha256``. They are in no group, but tell whose pictures belong together.

    Returns
    -------
    pandas.DataFrame, shape (n_images, 2)
        On the index of `pictures`: ``group``, the smallest image_id of the group, and ``unit``,
        the widest thing known of the picture (patient, slide, field, twins, image).

    Notes
    -----
    Pictures of one smear share stain and camera, so that a split by picture measures memory of
    the smear. Two patients who share one picture become one group: which of them it shows cannot
    be known. A slide joins only pictures without a patient: its name is often a number that
    starts anew with each patient, and one slide holds one patient's blood. In the same way a
    field of view, whose name starts anew on each slide, joins only images of which neither
    patient nor slide is known.
    """
    names = ["patient", "slide", "pixel_sha256"]
    known = pd.concat([pictures[[*names, "field"]].astype(object), copies[names].astype(object)])
    known = known.reset_index(drop=True)
    twins = pictures["twin_group"].astype(object).reset_index(drop=True).reindex(known.index)
    lone_slide = known["slide"].where(known["patient"].isna())
    lone_field = known["field"].where(known["patient"].isna() & known["slide"].isna())
    links = [twins, known["patient"], lone_slide, lone_field, known["pixel_sha256"]]
    component = join_by(len(known), links)[: len(pictures)]
    group = pictures["image_id"].groupby(component).transform("min")
    has_twin = pictures["twin_group"].duplicated(keep=False)
    is_known = [pictures[name].notna() for name in ("patient", "slide", "field")]
    unit = np.select([*is_known, has_twin], UNITS[:-1], UNITS[-1])
    return pd.DataFrame({"group": group, "unit": unit}, index=pictures.index)


def join_twins(images: pd.DataFrame) -> pd.DataFrame:
    """Make one group of all images that share a group or a twin.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        Of several hospitals; needs ``group`` and ``twin_group``.

    Returns
    -------
    pandas.DataFrame, shape (n_images, n_columns)
        With other values in ``group``: numbers.

    Notes
    -----
    Twins of two hospitals may both train, each in a group of its own hospital. A model that
    learns from one must not be asked about the other.
    """
    joined = join_by(len(images), [images["group"], images["twin_group"]])
    return images.assign(group=joined)


def join_by(n_images: int, links: list[pd.Series]) -> np.ndarray:
    """Give one number to all pictures that are linked, directly or through others.

    Parameters
    ----------
    n_images : int
        Number of pictures.
    links : list of pandas.Series, each of shape (n_images,)
        Equal values join pictures; empty values join nothing.

    Returns
    -------
    numpy.ndarray of int, shape (n_images,)
        The component of each picture.
    """
    rows, columns, width = [], [], 0
    for link in links:
        codes, values = pd.factorize(link)
        known = codes >= 0
        rows.append(np.flatnonzero(known))
        columns.append(codes[known] + width)
        width += len(values)
    row, column = np.concatenate(rows), np.concatenate(columns) + n_images
    size = n_images + width
    graph = coo_matrix((np.ones(len(row), np.int8), (row, column)), shape=(size, size))
    component: np.ndarray = connected_components(graph, directed=False)[1][:n_images]
    return component
