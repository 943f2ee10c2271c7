"""The augmentation of the project's first experiments, by its numbers."""

from stages.inputs.augmentation import Augmentation

STRONG = Augmentation(
    rotation=180, flips=True, shift=0.05, zoom=0.35, stain=1, colour=0.5, grey=0.1, blur=0.65,
    noise=0.4, jpeg=0.2, hide=0.4,
)  # fmt: skip
