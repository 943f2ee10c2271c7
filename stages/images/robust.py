"""How far values lie from others, told by medians, which outliers do not move."""

import numpy as np
import pandas as pd

SCALED_MAD = 0.6745  # the MAD of a normal distribution, in standard deviations


def robust_z(values: pd.Series, others: pd.Series | None = None) -> pd.Series:
    """Return the distance of each value from the median, in robust standard deviations.

    Parameters
    ----------
    values : pandas.Series of float, shape (n_images,)
    others : pandas.Series of float, shape (n_others,), optional
        Whose median and spread it is; None: those of the values themselves.

    Returns
    -------
    pandas.Series of float, shape (n_images,)
        0.6745 (x - median) / MAD [1]_. NaN where a value is missing, and everywhere where at least
        half of the others are equal: nothing can then be said of the rest.

    Notes
    -----
    Mean and standard deviation are moved by the very outliers that they should find.

    References
    ----------
    .. [1] B. Iglewicz, D. C. Hoaglin, "How to Detect and Handle Outliers", ASQC 1993.
    """
    known = values if others is None else others
    median = known.median()
    spread = (known - median).abs().median()
    off = values - median
    return SCALED_MAD * off / spread if spread > 0 else off * np.nan
