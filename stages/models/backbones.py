"""Networks that turn a prepared picture into a vector: built, loaded, cut at a layer.

Every one takes pixels RGB 0..255 and prepares them itself.
"""

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from stages.core import backend, store
from stages.core.errors import ModelError, did_you_mean
from stages.models import efficientnet_lite0, pretrained, vit

Mode = Literal["caffe", "tf", "torch", "inside"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB 0..1
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)  # of BGR 0..255
PUBLISHED_SIZE = 224
MIN_SIZE = 32


@dataclass(frozen=True)
class Application:
    """A network of keras.applications.

    Attributes
    ----------
    builder : str
        Its name in keras.applications.
    mode : {"caffe", "tf", "torch", "inside"}
        What its weights want: BGR minus the mean, -1..1, ImageNet's mean and deviation, or pixels
        that the network prepares itself.
    min_size : int
        Smallest side, px.
    file : str
        What Keras calls the published weights.
    """

    builder: str
    mode: Mode
    min_size: int
    file: str


_KERNELS = "weights_tf_dim_ordering_tf_kernels"
APPLICATIONS = {
    "vgg16": Application("VGG16", "caffe", 32, f"vgg16_{_KERNELS}_notop.h5"),
    "vgg19": Application("VGG19", "caffe", 32, f"vgg19_{_KERNELS}_notop.h5"),
    "resnet50": Application("ResNet50", "caffe", 32, f"resnet50_{_KERNELS}_notop.h5"),
    "resnet101": Application("ResNet101", "caffe", 32, f"resnet101_{_KERNELS}_notop.h5"),
    "resnet152": Application("ResNet152", "caffe", 32, f"resnet152_{_KERNELS}_notop.h5"),
    "densenet121": Application("DenseNet121", "torch", 32, f"densenet121_{_KERNELS}_notop.h5"),
    "inceptionv3": Application("InceptionV3", "tf", 75, f"inception_v3_{_KERNELS}_notop.h5"),
    "xception": Application("Xception", "tf", 71, f"xception_{_KERNELS}_notop.h5"),
    "mobilenetv2": Application(
        "MobileNetV2", "tf", 32, f"mobilenet_v2_{_KERNELS}_1.0_224_no_top.h5"
    ),
    "nasnetmobile": Application("NASNetMobile", "tf", 32, "nasnet_mobile_no_top.h5"),
    "nasnetlarge": Application("NASNetLarge", "tf", 32, "nasnet_large_no_top.h5"),
    "convnexttiny": Application("ConvNeXtTiny", "inside", 32, "convnext_tiny_notop.h5"),
}
for _n in range(8):
    APPLICATIONS[f"efficientnetb{_n}"] = Application(
        f"EfficientNetB{_n}", "inside", 32, f"efficientnetb{_n}_notop.h5"
    )
NAMES = ("efficientnet_lite0", *sorted(APPLICATIONS), *sorted(vit.PATCHES))


def require_known(name: str, what: str) -> None:
    """Stop where there is no such backbone; `what` names it to a person."""
    if name not in NAMES:
        raise ModelError(
            f"params.yaml, {what}: {name!r} is unknown.{did_you_mean(name, NAMES)} "
            f"Known: {', '.join(NAMES)}."
        )


def build(
    name: str, size: int, weights: Literal["imagenet", "none"], weights_dir: str | None
) -> Any:
    """Build a backbone.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    size : int
        Side of the square input, px.
    weights : {"imagenet", "none"}
        Published ImageNet weights, or drawn ones.
    weights_dir : str or None
        Folder with the weights file (see `pretrained.find`), from the project's top folder on;
        None lets keras.applications download it. EfficientNet-Lite0 brings its weights itself.

    Returns
    -------
    keras.Model
        Takes pictures of shape (n_images, size, size, 3), RGB, 0..255, uint8 or float; gives
        float32 of shape (n_images, n_channels). Layers have the published names; the graph is the
        same with and without weights.

    Raises
    ------
    ModelError
        The size does not fit, or the weights are missing, damaged, or of another network.

    Notes
    -----
    What the weights want of the pixels is done by layers in front: the two projects lost most of
    a network's worth where a ``preprocessing_function`` was handed to a method that ignores it.

    `pretrained.finish` must follow where weights are put in by ``set_weights`` instead of
    ``load_weights``: EfficientNet's normalisation works with copies of its weights.
    """
    network = _build(name, size)
    if weights == "imagenet":
        _load(network, name, weights_dir)
    return network


def identify(name: str, weights_dir: str | None) -> dict[str, str]:
    """Return name and sha256 of the weights file that `build` takes.

    Raises
    ------
    ModelError
        The file is not there; where Keras downloads it, `build` must come first.
    """
    if name == "efficientnet_lite0":
        return {
            "file": efficientnet_lite0.WEIGHTS.name,
            "sha256": efficientnet_lite0.WEIGHTS_SHA256,
        }
    if name in APPLICATIONS and weights_dir is None:
        path = _cached(name)
    else:
        path = _find_file(name, weights_dir)
    return {"file": path.name, "sha256": pretrained.digest(path)}


def load_extractor(
    name: str, size: int, layers: Sequence[str], weights_dir: str | None, pretrained: bool = True
) -> Any:
    """Build a backbone with its ImageNet weights, as a feature extractor.

    Parameters
    ----------
    name, size, weights_dir
        As in `build`.
    pretrained : bool
        Without, the weights are drawn: enough to fill in those of a saved model.
    layers : sequence of str
        Which activations to average: a layer, a block (``"block10"``: the output of the last
        layer called ``block10_...``) or ``"top"`` (the backbone's own vector). EfficientNet-Lite0
        knows ``"block1"`` to ``"block16"`` (``"block10"`` has 112 channels at 1/16 of the side)
        and ``"head"`` (the last 1 x 1 convolution after ReLU6, 1280 channels).

    Returns
    -------
    keras.Model
        Takes pictures as `build` says; gives float32 of shape (n_images, n_features), the
        averages of `layers` over the picture (of a transformer, over the tokens) side by side,
        in the order of `layers`. Not trainable.

    Raises
    ------
    ModelError
        A layer is unknown, or what `build` raises.
    """
    if not layers or len(set(layers)) < len(layers):
        raise ModelError(
            f"{name}: layers is {list(layers)}; name one or more layers, each once, "
            "in features.layers of params.yaml."
        )
    network = _build(name, size)
    ends = [_find_end(network, layer) for layer in layers]
    if pretrained:
        _load(network, name, weights_dir)
    keras = backend.load_keras()
    averages = [_average(keras.layers, end) for end in ends]
    joined = averages[0] if len(averages) == 1 else keras.layers.Concatenate()(averages)
    extractor = keras.Model(network.input, joined, name=name)
    extractor.trainable = False
    return extractor


def _build(name: str, size: int) -> Any:
    """Build the flat graph of a backbone, with drawn weights."""
    require_known(name, "the network")
    application = APPLICATIONS.get(name)
    smallest = application.min_size if application else MIN_SIZE
    if size < smallest:
        raise ModelError(
            f"{name}: size is {size} px; it takes {smallest} or more. Raise its size in "
            "params.yaml."
        )
    if name == "efficientnet_lite0":
        return efficientnet_lite0.build(size)
    if application is None:
        return vit.build(name, size)
    keras = backend.load_keras()
    pixels = keras.Input((size, size, 3), name="pixels")
    network = getattr(keras.applications, application.builder)(
        include_top=False,
        weights=None,
        input_tensor=_prepare(keras, pixels, application.mode),
        input_shape=(size, size, 3),
        pooling="avg",
    )
    _number_anew(network)
    # Of some families the input is a list of one.
    return keras.Model(pixels, network.output, name=name)


def _prepare(keras: Any, pixels: Any, mode: Mode) -> Any:
    """Append the layers that do what preprocess_input of the family does."""
    # In float32 whatever the network computes in: half floats would round the pixels.
    rescale = partial(keras.layers.Rescaling, dtype="float32", name="rescale")
    if mode == "caffe":
        return rescale(1.0, [-mean for mean in CAFFE_MEAN_BGR])(keras.ops.flip(pixels, axis=-1))
    if mode == "tf":
        return rescale(1 / 127.5, -1.0)(pixels)
    if mode == "torch":
        scales = [1 / (255 * deviation) for deviation in IMAGENET_DEVIATION]
        pairs = zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)
        return rescale(scales, [-mean / deviation for mean, deviation in pairs])(pixels)
    return pixels


def _number_anew(network: Any) -> None:
    """Give layers that have no published name their number within the network.

    Keras counts them over all networks of the process: conv2d_5 would be another layer, or none,
    depending on what was built before.
    """
    counted: dict[str, list[tuple[int, Any]]] = {}
    for layer in network.layers:
        kind = pretrained.kind_of(layer)
        if match := re.fullmatch(rf"{kind}(?:_(\d+))?", layer.name):
            counted.setdefault(kind, []).append((int(match[1] or 0), layer))
    for kind, layers in counted.items():
        for place, (_, layer) in enumerate(sorted(layers, key=lambda pair: pair[0])):
            layer.name = f"{kind}_{place}" if place else kind


def _load(network: Any, name: str, weights_dir: str | None) -> None:
    """Put the ImageNet weights into a network that `_build` built."""
    if name == "efficientnet_lite0":
        efficientnet_lite0.load_weights(network)
        return
    if name in APPLICATIONS and weights_dir is None:
        _download(network, name)
    elif name in APPLICATIONS:
        pretrained.load(network, _find_file(name, weights_dir))
    else:
        translate = partial(vit.translate, size=network.input_shape[1], patch=vit.PATCHES[name])
        pretrained.load(network, _find_file(name, weights_dir), translate)
    if name.startswith("efficientnet"):
        _square_deviation(network)


def _find_file(name: str, weights_dir: str | None) -> Path:
    if weights_dir is None:
        raise ModelError(
            f"{name}: no publisher of its weights is known to us with a checksum. Put Google's "
            f"file as {name}.npz into a folder, and name that as weights_dir in params.yaml."
        )
    return pretrained.find(name, store.resolve(weights_dir))


def _download(network: Any, name: str) -> None:
    """Let Keras fetch, verify and load the published weights; take them over."""
    keras = backend.load_keras()
    application = APPLICATIONS[name]
    try:
        published = getattr(keras.applications, application.builder)(
            include_top=False,
            weights="imagenet",
            # MobileNetV2 has other weights for other sizes; everyone else ignores it.
            input_shape=(PUBLISHED_SIZE, PUBLISHED_SIZE, 3),
            pooling="avg",
        )
    except Exception as error:  # Keras raises bare Exception where a download fails
        text = " ".join(str(error).split())
        raise ModelError(
            f"{name}: the published weights cannot be had ({text}). Put {application.file} into a "
            "folder, and name that as weights_dir in params.yaml."
        ) from None
    network.set_weights(published.get_weights())
    pretrained.finish(network)


def _cached(name: str) -> Path:
    """Return where Keras has put the published weights."""
    file = Path("models") / APPLICATIONS[name].file
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    # The second is where Keras goes if it may not write to the first.
    for folder in (home, Path(tempfile.gettempdir()) / ".keras"):
        if (folder / file).is_file():
            return folder / file
    raise ModelError(
        f"{name}: the published weights are not in Keras' cache ({home / file}). Fetch them by "
        "training once, or name a folder that holds them as weights_dir in params.yaml."
    )


def _square_deviation(network: Any) -> None:
    """Make ImageNet's deviations in EfficientNet's normalisation the variances that it wants.

    The files hold deviations there. Keras divides by their roots once more, in a layer that it
    adds with weights="imagenet" only. Squared in place they do the same, and the graph of a saved
    model does not depend on where its weights came from.
    """
    normalisation = network.get_layer("normalization")
    normalisation.adapt_variance.assign(normalisation.adapt_variance * IMAGENET_DEVIATION)
    normalisation.finalize_state()


def _find_end(network: Any, layer: str) -> Any:
    """Return the output of a layer, of a block's last layer, or of the whole network."""
    if layer == "top":
        return network.output
    names = [one.name for one in network.layers]
    if layer in names:
        return network.get_layer(layer).output
    if inside := [name for name in names if name.startswith(f"{layer}_")]:
        return network.get_layer(inside[-1]).output
    known = efficientnet_lite0.LAYERS if network.name == "efficientnet_lite0" else ("top", *names)
    hint = did_you_mean(layer, known, 3, 0.4)
    raise ModelError(
        f"{network.name} has no layer {layer!r}.{hint} Correct features.layers in params.yaml."
    )


def _average(layers: Any, x: Any) -> Any:
    """Average over the picture, or over the tokens; a vector stays as it is."""
    if len(x.shape) == 4:
        return layers.GlobalAveragePooling2D()(x)
    return layers.GlobalAveragePooling1D()(x) if len(x.shape) == 3 else x
