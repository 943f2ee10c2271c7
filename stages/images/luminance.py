"""Which pictures are darker or brighter than others of their hospital and class, and why."""

import pandas as pd

from stages.images.robust import robust_z

WEIGHTS = {"mean_r": 0.2126, "mean_g": 0.7152, "mean_b": 0.0722}  # of ITU-R BT.709
LIMIT = 3.5  # robust z from which a picture stands out (Iglewicz and Hoaglin, 1993)
LARGE = 2.0  # robust z from which a nucleus is large, or red cells are many
REASONS = ("several cells", "large nucleus", "many red cells", "other")
DARK, BRIGHT = "dark", "bright"


def judge(measured: pd.DataFrame) -> pd.DataFrame:
    """Find the pictures whose luminance is unlike that of their hospital and class.

    Parameters
    ----------
    measured : pandas.DataFrame, shape (n_images, n_columns)
        ``hospital``, ``label``, and of ``tables.QUALITY`` the means of the channels,
        ``nucleus_radius``, ``stained_around`` and ``n_cells``.

    Returns
    -------
    pandas.DataFrame, shape (n_images, 4)
        On the index of `measured`:

        - ``luminance``: 0..255, the channels' means weighted as the eye does;
        - ``z``: its robust z within hospital and class, NaN where that cannot be told;
        - ``side``: ``"dark"`` or ``"bright"`` where it is beyond 3.5, else None;
        - ``reason``: of `REASONS` for a dark one, ``"other"`` for a bright one, else None.

    Notes
    -----
    Reasons of a dark picture, each by a measure of the table: several cells where more than
    one nucleus is seen; else a large nucleus or many red cells (what is stained
    outside of the cell), where its robust z in hospital and class is above 2; of both the one
    that is further off.
    """
    means = [weight * measured[name] for name, weight in WEIGHTS.items()]
    luminance = means[0] + means[1] + means[2]
    place = [measured["hospital"], measured["label"]]

    def within(values: pd.Series) -> pd.Series:
        return values.astype("float64").groupby(place).transform(robust_z)

    z = within(luminance)
    nucleus = within(measured["nucleus_radius"]).fillna(0.0)
    red_cells = within(measured["stained_around"]).fillna(0.0)
    several = measured["n_cells"] > 1
    dark, bright = z < -LIMIT, z > LIMIT
    side = pd.Series(None, measured.index, dtype=object).mask(dark, DARK).mask(bright, BRIGHT)
    reason = side.mask(side.notna(), "other")
    reason = reason.mask(dark & (red_cells > LARGE), "many red cells")
    reason = reason.mask(dark & (nucleus > LARGE) & (nucleus >= red_cells), "large nucleus")
    reason = reason.mask(dark & several, "several cells")
    return pd.DataFrame(
        {"luminance": luminance, "z": z, "side": side, "reason": reason}, measured.index
    )
