"""How like a picture's colours are to those of a reference hospital."""

import pandas as pd

from stages.core.errors import TableError
from stages.images.robust import robust_z

MEASURES = ("mean_r", "mean_g", "mean_b", "sd_r", "sd_g", "sd_b", "saturation")


def measure_distances(colours: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Measure how far the colours of pictures lie from those of a reference hospital.

    Parameters
    ----------
    colours, reference : pandas.DataFrame, shape (n_images, n_columns)
        `MEASURES`, as in ``tables.QUALITY``, of the pictures, and of the reference hospital's.

    Returns
    -------
    pandas.DataFrame, shape (n_images, 2)
        On the index of `colours`: ``distance``, the largest distance of a measure from the
        reference's median in its robust standard deviations (``robust.robust_z``), and
        ``measure``, the name of that one. A measure of which half of the reference's values are
        equal is left out.

    Raises
    ------
    TableError
        The reference's pictures do not differ in any measure.

    Notes
    -----
    The largest one, so that a picture within 5 is one of which each measure lies within 5 spreads
    of the reference's median, whatever the others do.
    """
    columns = {name: robust_z(colours[name], reference[name]).abs() for name in MEASURES}
    off = pd.DataFrame(columns, colours.index).dropna(axis="columns", how="all")
    if off.empty and len(colours):
        raise TableError(
            "data/quality: the colours of the pictures of quality.similar_to do not differ enough "
            "to tell what is like them. Name a hospital with more pictures in params.yaml."
        )
    return pd.DataFrame({"distance": off.max(axis=1), "measure": off.idxmax(axis=1)})
