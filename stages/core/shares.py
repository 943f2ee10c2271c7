"""Shares with the interval of independent draws."""

import math

Z95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson's score method [1]_.

    Parameters
    ----------
    hits, n : int
        ``hits`` of ``n``, which must be 1 at least.

    Returns
    -------
    tuple of float
        Both within 0..1, also where `hits` is 0 or `n`.

    References
    ----------
    .. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
       J. Am. Stat. Assoc. 22 (1927), 209-212.
    """
    share, z2 = hits / n, Z95**2
    middle = share + z2 / (2 * n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low, high = (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)
    # Exact at the ends, where rounding would give 1e-17.
    return (0.0 if hits == 0 else low), (1.0 if hits == n else high)


def describe_share(hits: int, n: int) -> dict[str, float | int | None]:
    """Return ``value``, ``low``, ``high`` (Wilson) and ``n`` of a share; None where n is 0."""
    low, high = wilson(hits, n) if n else (None, None)
    return {"value": hits / n if n else None, "low": low, "high": high, "n": n}
