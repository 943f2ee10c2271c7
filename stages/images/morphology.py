"""What a haematologist looks at in a prepared crop, as numbers: shape, density, texture."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core import parallel
from stages.images import cell_masks
from stages.images.optical_density import add_channels, chroma, optical_density
from stages.images.segmentation import Integers, Mask, Pixels, fill_hull

Floats = NDArray[np.float64]

OD_UNIT = 1024  # levels of one optical density here
MIN_OD = 0.02  # of a region's mean: below it there is nothing to take a ratio with
SMOOTHING = 0.01  # of the side: sharper and blurrier microscopes become alike
EDGE = 0.0125  # of the side: so near to a region's edge no density is taken
TEXTURE_STEPS = (0.02, 0.045)  # of the side: between the two pixels of a pair
TEXTURE_LEVELS = 16
TEXTURE_RANGE = 2.0  # of the region's mean density: the top of the highest level
GRANULE_RADII = (0.01, 0.02, 0.035)  # of the side: discs that granules and clumps must not hold
N_RINGS = 5
MIN_REGION = 16  # px; in a smaller region nothing is measured
OTHER_OD = 0.25  # summed over the channels: what is darker beside the cell is a red cell
OTHER_GAP = 0.02  # of the side: so far from the cell the others are looked at
MIN_OTHERS = 0.008  # of the crop: fewer pixels of others are no reference
LOBE_DEPTH = 0.6  # of the deepest point's depth: shallower peaks are no lobes
FEW = 128  # pictures; starting processes for fewer takes longer than measuring them
DIAGONAL = math.sqrt(0.5)

SHAPE = (
    "cell_area", "cell_solidity", "cell_eccentricity", "cell_form_factor",
    "nucleus_area", "nucleus_share", "nucleus_solidity", "nucleus_eccentricity",
    "nucleus_form_factor", "nucleus_hull_share", "nucleus_offset", "nucleus_parts",
    "nucleus_lobes", "nucleus_thickness", "nucleus_mean_thickness", "nucleus_hole_share",
    "nucleus_indentation_1", "nucleus_indentation_2",
    "nucleus_hu_1", "nucleus_hu_2",
)  # fmt: skip
DENSITY = (
    "red_share_step", "blue_share_step", "red_share_to_others", "blue_share_to_others",
    "density_ratio_r", "density_ratio_g", "density_ratio_b",
    "nucleus_density_spread", "nucleus_density_skewness",
    "cytoplasm_density_spread", "cytoplasm_density_skewness",
    "cytoplasm_red_share_spread", "cytoplasm_blue_share_spread", "cytoplasm_dark_share",
    *(f"cell_ring_{ring}" for ring in range(1, N_RINGS + 1)),
    *(f"nucleus_ring_{ring}" for ring in range(1, N_RINGS + 1)),
)  # fmt: skip
TEXTURE = tuple(
    f"{region}_{name}_{step}"
    for region in ("nucleus", "cytoplasm")
    for name in ("contrast", "homogeneity", "energy", "correlation")
    for step in range(1, len(TEXTURE_STEPS) + 1)
) + tuple(
    f"{region}_granularity_{radius}"
    for region in ("nucleus", "cytoplasm")
    for radius in range(1, len(GRANULE_RADII) + 1)
)
NAMES = ("has_cell", *SHAPE, *DENSITY, *TEXTURE)


def measure(crop: Pixels) -> dict[str, float]:
    """Measure the cell in the middle of a prepared crop.

    Parameters
    ----------
    crop : numpy.ndarray of uint8, shape (size, size, 3)
        RGB of ``preparation.prepare``: one scale for all pictures of a hospital.

    Returns
    -------
    dict of str to float
        The names of `NAMES`, in that order; always finite. All are 0 where no cell was found, as
        are those of a region of fewer than 16 px.

        ``cell_area``, ``nucleus_area``: share of the crop. ``nucleus_share``: nucleus / cell, the
        complement of the cytologist's cytoplasm share. ``solidity``: area / convex hull.
        ``form_factor``: 4 pi area / perimeter^2, 1 for a disc. ``nucleus_hull_share``: hull of the
        nucleus / cell. ``nucleus_offset``: distance of the centroids / cell radius.
        ``nucleus_parts``: components. ``nucleus_lobes``: thick places. ``nucleus_thickness``,
        ``nucleus_mean_thickness``: deepest point and mean depth / nucleus radius.
        ``nucleus_indentation``: the two deepest gaps to the hull / nucleus radius.
        ``nucleus_hu``: log10 of the first two moment invariants [1]_.

        ``red_share``, ``blue_share``: part of the absorbed light, 0..1; ``step``: nucleus minus
        cytoplasm; ``to_others``: cytoplasm minus the red cells beside it, 0 where there are none.
        ``density_ratio``: mean optical density of cytoplasm / nucleus in one channel.
        ``density_spread``: standard deviation / mean of the summed density.
        ``cytoplasm_dark_share``: pixels of the cytoplasm darker than half of the nucleus' mean.
        ``cell_ring``: mean density from the rim (1) to the middle (5) / mean of the cell;
        ``nucleus_ring``: the nucleus' part of that ring.

        ``contrast``, ``homogeneity``, ``energy``, ``correlation``: of the grey-level co-occurrence
        [2]_ at 2 % and 4.5 % of the side, over four directions. ``granularity``: density that an
        opening with a disc of 1 %, 2 % and 3.5 % of the side takes away [3]_ / mean density.

    Notes
    -----
    Lengths are shares of the crop or of the cell. Densities and hues are taken against a mean of
    the same cell or of the red cells beside it: neither the strength of a stain nor the camera's
    levels go in directly. Hues as such were left out: between two training hospitals, and after
    made changes of stain, they helped nothing, while the red cells as a reference did. All
    textures are taken after one blur, because microscopes differ in sharpness more than cells do.
    Densities and textures leave out the regions' edges, where the two sides mix. Textures look at
    one region alone: pairs of pixels that leave it do not count.

    References
    ----------
    .. [1] M.-K. Hu, "Visual pattern recognition by moment invariants", IRE Transactions on
       Information Theory 8 (1962).
    .. [2] R. M. Haralick, K. Shanmugam, I. Dinstein, "Textural features for image
       classification", IEEE Transactions on Systems, Man, and Cybernetics 3 (1973).
    .. [3] G. Matheron, "Random Sets and Integral Geometry" (1975).
    """
    found = cell_masks.segment(crop)
    measures = dict.fromkeys(NAMES, 0.0)
    if not found.has_cell:
        return measures
    side = crop.shape[0]
    density = np.maximum(optical_density(crop, found.white, OD_UNIT), 0)
    hue = chroma(density, OD_UNIT)
    window = _window(found.cell, side)
    cell, nucleus = found.cell[window], found.nucleus[window]
    regions = {"nucleus": _core(nucleus, side), "cytoplasm": _core(cell & ~nucleus, side)}
    near = density[window]
    soft = add_channels(cv2.GaussianBlur(near.astype(np.float32), (0, 0), SMOOTHING * side))
    measures["has_cell"] = 1.0
    measures |= _measure_cell(cell, side)
    if nucleus.sum() >= MIN_REGION:
        measures |= _measure_nucleus(nucleus, cell, side)
    measures |= _measure_density(near, hue[window], regions)
    measures |= _measure_against_others(density, hue, found)
    measures |= _measure_rings(soft, cell, nucleus)
    for name, region in regions.items():
        measures |= _measure_texture(name, soft, region, side)
    return measures


def measure_all(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Measure several crops on all cores.

    Parameters
    ----------
    crops : numpy.ndarray of uint8, shape (n_images, size, size, 3)

    Returns
    -------
    numpy.ndarray of float32, shape (n_images, n_measures)
        Columns in the order of `NAMES`; the same for any number of workers.
    """
    rows = list(parallel.map_ordered(_list_measures, crops, 1 if len(crops) < FEW else None))
    return np.array(rows, dtype=np.float32).reshape(len(crops), len(NAMES))


def _list_measures(crop: Pixels) -> list[float]:
    measures = measure(crop)
    return [measures[name] for name in NAMES]


def _window(cell: Mask, side: int) -> tuple[slice, slice]:
    """Return the cell's box with a margin that no smoothing or opening reaches beyond."""
    x, y, width, height = cv2.boundingRect(cell.astype(np.uint8))
    margin = math.ceil(0.05 * side)
    return (
        slice(max(0, y - margin), y + height + margin),
        slice(max(0, x - margin), x + width + margin),
    )


def _measure_cell(cell: Mask, side: int) -> dict[str, float]:
    area = int(cell.sum())
    return {
        "cell_area": area / side**2,
        "cell_solidity": area / int(fill_hull(cell).sum()),
        "cell_eccentricity": _eccentricity(cell),
        "cell_form_factor": _form_factor(cell),
    }


def _measure_nucleus(nucleus: Mask, cell: Mask, side: int) -> dict[str, float]:
    area, cell_area = int(nucleus.sum()), int(cell.sum())
    radius = math.sqrt(area / math.pi)
    hull = fill_hull(nucleus)
    levels = nucleus.astype(np.uint8)
    depth = _depth(levels)
    filled = cv2.drawContours(np.zeros_like(levels), _outer(levels), -1, (1.0,), cv2.FILLED)
    gaps = _indentations(levels, hull)
    invariants = cv2.HuMoments(cv2.moments(levels, binaryImage=True)).ravel()
    measures = {
        "nucleus_area": area / side**2,
        "nucleus_share": area / cell_area,
        "nucleus_solidity": area / int(hull.sum()),
        "nucleus_eccentricity": _eccentricity(nucleus),
        "nucleus_form_factor": _form_factor(nucleus),
        "nucleus_hull_share": int(hull.sum()) / cell_area,
        "nucleus_offset": math.dist(_centroid(nucleus), _centroid(cell))
        / math.sqrt(cell_area / math.pi),
        "nucleus_parts": float(len(_outer(levels))),
        "nucleus_lobes": float(_count_lobes(depth, radius)),
        "nucleus_thickness": float(depth.max()) / radius,
        "nucleus_mean_thickness": float(depth[nucleus].mean()) / radius,
        "nucleus_hole_share": 1 - area / int(filled.sum()),
        "nucleus_indentation_1": gaps[0] / radius,
        "nucleus_indentation_2": gaps[1] / radius,
    }
    for place in (1, 2):
        measures[f"nucleus_hu_{place}"] = math.log10(abs(float(invariants[place - 1])) + 1e-8)
    return measures


def _measure_density(
    density: Integers, hue: Integers, regions: dict[str, Mask]
) -> dict[str, float]:
    """Compare how nucleus and cytoplasm absorb the three colours."""
    measures: dict[str, float] = {}
    means: dict[str, Floats] = {}
    hues: dict[str, Floats] = {}
    total = add_channels(density)
    for name, region in regions.items():
        if region.sum() < MIN_REGION:
            continue
        means[name] = density[region].mean(axis=0) / OD_UNIT
        own = hue[region] / 256
        hues[name] = own.mean(axis=0)
        spread, skewness = _spread(total[region] / OD_UNIT)
        measures[f"{name}_density_spread"] = spread
        measures[f"{name}_density_skewness"] = skewness
        if name == "cytoplasm":
            around = own.std(axis=0)
            measures["cytoplasm_red_share_spread"] = float(around[0])
            measures["cytoplasm_blue_share_spread"] = float(around[1])
    if len(means) == 2:
        step = hues["nucleus"] - hues["cytoplasm"]
        measures["red_share_step"], measures["blue_share_step"] = map(float, step)
        for channel, name in enumerate("rgb"):
            ratio = means["cytoplasm"][channel] / max(means["nucleus"][channel], MIN_OD)
            measures[f"density_ratio_{name}"] = float(ratio)
        dark = total[regions["cytoplasm"]] > 0.5 * total[regions["nucleus"]].mean()
        measures["cytoplasm_dark_share"] = float(dark.mean())
    return measures


def _measure_against_others(
    density: Integers, hue: Integers, found: cell_masks.CellMask
) -> dict[str, float]:
    """Compare the cytoplasm's hue with that of the red cells around: eosin as a reference."""
    side = len(density)
    cytoplasm = found.cell & ~found.nucleus
    reach = np.ones((2 * round(OTHER_GAP * side) + 1,) * 2, np.uint8)
    near = cv2.dilate(found.cell.astype(np.uint8), reach) > 0
    others = (add_channels(density) > OTHER_OD * OD_UNIT) & ~near
    if others.sum() < MIN_OTHERS * side**2 or cytoplasm.sum() < MIN_REGION:
        return {}
    step = (hue[cytoplasm].mean(axis=0) - hue[others].mean(axis=0)) / 256
    return {"red_share_to_others": float(step[0]), "blue_share_to_others": float(step[1])}


def _measure_rings(total: NDArray[np.float32], cell: Mask, nucleus: Mask) -> dict[str, float]:
    """Average density and nucleus over five rings of the same width, from the rim inwards."""
    depth = _depth(cell.astype(np.uint8))
    relative = depth[cell] / depth.max()
    ring = np.minimum((relative * N_RINGS).astype(np.int64), N_RINGS - 1)
    counts = np.maximum(np.bincount(ring, minlength=N_RINGS), 1)
    dark = np.bincount(ring, total[cell], minlength=N_RINGS) / counts
    mean = max(float(total[cell].mean()), MIN_OD * OD_UNIT)
    inside = np.bincount(ring, nucleus[cell], minlength=N_RINGS) / counts
    measures = {f"cell_ring_{place + 1}": float(dark[place]) / mean for place in range(N_RINGS)}
    for place in range(N_RINGS):
        measures[f"nucleus_ring_{place + 1}"] = float(inside[place])
    return measures


def _measure_texture(
    name: str, total: NDArray[np.float32], region: Mask, side: int
) -> dict[str, float]:
    """Describe how a region's density varies from pixel to pixel, against its own mean."""
    if region.sum() < MIN_REGION:
        return {}
    relative = total / max(float(total[region].mean()), MIN_OD * OD_UNIT)
    levels = np.clip(relative * (TEXTURE_LEVELS / TEXTURE_RANGE), 0, TEXTURE_LEVELS - 1).astype(
        np.int64
    )
    measures: dict[str, float] = {}
    for step, share in enumerate(TEXTURE_STEPS, start=1):
        pairs = count_pairs(levels, region, max(1, round(share * side)))
        for measured, value in describe_pairs(pairs).items():
            measures[f"{name}_{measured}_{step}"] = value
    # Outside of the region lies its own mean, so that its edge is no clump.
    alone = np.where(region, relative, 1).astype(np.float32)
    for place, share in enumerate(GRANULE_RADII, start=1):
        disc = cv2.getStructuringElement(
            cv2.MORPH_ELLIPSE, (2 * max(1, round(share * side)) + 1,) * 2
        )
        taken = alone - cv2.morphologyEx(alone, cv2.MORPH_OPEN, disc)
        measures[f"{name}_granularity_{place}"] = float(taken[region].mean())
    return measures


def count_pairs(levels: NDArray[np.int64], region: Mask, step: int) -> Floats:
    """Count which levels stand `step` px apart, in four directions, both ways.

    Parameters
    ----------
    levels : numpy.ndarray of int64, shape (height, width)
        0 .. 15.
    region : numpy.ndarray of bool, shape (height, width)
        Both pixels of a pair lie within.
    step : int
        px; a diagonal step has about the same length.

    Returns
    -------
    numpy.ndarray of float64, shape (16, 16)
        Symmetric; sums to 1, or is all 0 where no pair fits into the region.
    """
    slant = max(1, round(step * DIAGONAL))
    counts = np.zeros(TEXTURE_LEVELS**2)
    height, width = levels.shape
    for down, right in ((0, step), (step, 0), (slant, slant), (slant, -slant)):
        here = (slice(0, height - down), slice(max(0, -right), width - max(0, right)))
        there = (slice(down, height), slice(max(0, right), width - max(0, -right)))
        both = region[here] & region[there]
        codes = TEXTURE_LEVELS * levels[here][both] + levels[there][both]
        counts += np.bincount(codes, minlength=TEXTURE_LEVELS**2)
    table = counts.reshape(TEXTURE_LEVELS, TEXTURE_LEVELS)
    table = table + table.T
    shares: Floats = table / max(float(table.sum()), 1.0)
    return shares


def describe_pairs(pairs: Floats) -> dict[str, float]:
    """Return contrast, homogeneity, energy and correlation of co-occurrence shares.

    Parameters
    ----------
    pairs : numpy.ndarray of float64, shape (n_levels, n_levels)
        Of `count_pairs`.

    Returns
    -------
    dict of str to float
        As scikit-image's ``graycoprops``; the correlation of a region of one level is 1.
    """
    levels = np.arange(len(pairs))
    apart = (levels[:, None] - levels[None, :]) ** 2
    of_level = pairs.sum(axis=1)
    mean = float((of_level * levels).sum())
    variance = float((of_level * (levels - mean) ** 2).sum())
    together = float((pairs * np.outer(levels - mean, levels - mean)).sum())
    return {
        "contrast": float((pairs * apart).sum()),
        "homogeneity": float((pairs / (1 + apart)).sum()),
        "energy": math.sqrt(float((pairs**2).sum())),
        "correlation": together / variance if variance > 1e-12 else 1.0,
    }


def _core(region: Mask, side: int) -> Mask:
    """Leave out the edge, whose pixels are a mixture of both sides, unless that is all there is."""
    reach = np.ones((2 * round(EDGE * side) + 1,) * 2, np.uint8)
    core: Mask = cv2.erode(region.astype(np.uint8), reach) > 0
    return core if core.sum() >= MIN_REGION else region


def _depth(levels: Pixels) -> NDArray[np.float32]:
    """Return the distance to the outside, px; what lies beyond the crop is outside."""
    distance = cv2.distanceTransform(np.pad(levels, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    return distance.astype(np.float32, copy=False)


def _spread(values: Floats) -> tuple[float, float]:
    """Return standard deviation / mean, and skewness; 0 where all values are equal."""
    mean, deviation = float(values.mean()), float(values.std())
    if deviation < 1e-9:
        return 0.0, 0.0
    skewness = float(((values - mean) ** 3).mean()) / deviation**3
    return deviation / max(mean, MIN_OD), skewness


def _centroid(mask: Mask) -> tuple[float, float]:
    y, x = np.nonzero(mask)
    return float(x.mean()), float(y.mean())


def _eccentricity(mask: Mask) -> float:
    """Return the eccentricity of the ellipse with the same second moments: 0 disc, 1 line."""
    around = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    across, along = np.linalg.eigvalsh(
        [[around["mu20"], around["mu11"]], [around["mu11"], around["mu02"]]]
    )
    return math.sqrt(max(0.0, 1 - float(across) / max(float(along), 1e-9)))


def _form_factor(mask: Mask) -> float:
    """Return 4 pi area / perimeter^2 of the outlines, 1 for a disc, at most 1."""
    outlines = _outer(mask.astype(np.uint8))
    area = sum(cv2.contourArea(outline) for outline in outlines)
    length = sum(cv2.arcLength(outline, True) for outline in outlines)
    return min(1.0, 4 * math.pi * area / max(length, 1.0) ** 2)


def _outer(levels: Pixels) -> list[Integers]:
    """Return the outlines of all parts, shape (n_points, 1, 2) each, without those of holes."""
    found = cv2.findContours(levels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    return [np.asarray(outline, np.int32) for outline in found]


def _indentations(levels: Pixels, hull: Pixels) -> tuple[float, float]:
    """Return how deep the two deepest gaps between nucleus and hull are, px from the hull's edge.

    Gaps are taken from all parts together: the bay between two lobes counts as one.
    """
    depth = _depth(hull)
    n, parts = cv2.connectedComponents(hull & (1 - levels), connectivity=4)
    gap = parts > 0
    deepest = np.zeros(n)
    np.maximum.at(deepest, np.asarray(parts[gap], np.int64), depth[gap])
    gaps = sorted((float(value) for value in deepest[1:]), reverse=True)
    return (*gaps, 0.0, 0.0)[0], (*gaps, 0.0, 0.0)[1]


def _count_lobes(depth: NDArray[np.float32], radius: float) -> int:
    """Count places where the nucleus is thicker than around, by less than a third of its radius."""
    side = 2 * max(1, round(0.35 * radius)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    peaks = (depth >= cv2.dilate(depth, disc)) & (depth > LOBE_DEPTH * depth.max())
    return int(cv2.connectedComponents(peaks.astype(np.uint8), connectivity=8)[0]) - 1
