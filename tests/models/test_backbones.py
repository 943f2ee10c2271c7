"""Backbones: what reaches the first weights, published counts, layers to cut at, clear errors."""

import functools
import hashlib
import importlib
import json
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from stages.core import backend
from stages.core.errors import ModelError
from stages.models import backbones
from tests.made.weights_files import scramble, write_legacy, write_npz
from tests.projects import SHARED

REFERENCE = json.loads(Path(__file__).with_name("lite0_reference.json").read_text())
PUBLISHED = SHARED.parent / "weights"
SIZE = 96
KERAS, _ = backend.load_tensorflow()

# Without their top; of the papers and of keras.applications.
COUNTS = {
    "vgg16": 14_714_688,
    "vgg19": 20_024_384,
    "efficientnetb0": 4_049_571,
    "resnet50": 23_587_712,
    "densenet121": 7_037_504,
    "inceptionv3": 21_802_784,
    "xception": 20_861_480,
    "mobilenetv2": 2_257_984,
    "nasnetmobile": 4_269_716,
    "convnexttiny": 27_820_128,
    "efficientnet_lite0": 4_694_024 - 1_281_000,
    "vit_b32": 87_510_528 - (122 - 10) * 768,  # of 352 px
}
WIDTHS = {
    "vgg": 512, "efficientnetb0": 1280, "resnet": 2048, "densenet": 1024,
    "inception": 2048, "xception": 2048, "mobilenet": 1280, "nasnetmobile": 1056,
    "convnext": 768, "efficientnet_lite0": 1280, "vit": 768,
}  # fmt: skip

# One of each family: its module in keras.applications, its builder there.
FAMILIES = {
    "vgg19": ("vgg19", "VGG19"),
    "inceptionv3": ("inception_v3", "InceptionV3"),
    "xception": ("xception", "Xception"),
    "mobilenetv2": ("mobilenet_v2", "MobileNetV2"),
    "efficientnetb0": ("efficientnet", "EfficientNetB0"),
    "convnexttiny": ("convnext", "ConvNeXtTiny"),
    "resnet50": ("resnet", "ResNet50"),
    "densenet121": ("densenet", "DenseNet121"),
    "nasnetmobile": ("nasnet", "NASNetMobile"),
}
FAMILY_OF = {
    "vgg16": "vgg19", "resnet101": "resnet50", "resnet152": "resnet50",
    "nasnetlarge": "nasnetmobile", **{f"efficientnetb{n}": "efficientnetb0" for n in range(1, 8)},
}  # fmt: skip

# What (255, 128, 0) becomes, by hand, and so beside any code of Keras.
ORANGE = (255, 128, 0)
BY_HAND = {
    "caffe": (0 - 103.939, 128 - 116.779, 255 - 123.68),
    "tf": (1.0, 128 / 127.5 - 1, -1.0),
    "torch": ((1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (0 - 0.406) / 0.225),
    "lite": (1.0, 1 / 128, -127 / 128),
    "unit": (1.0, 128 / 255, 0.0),
}
WANTS = {
    "vgg": "caffe", "resnet": "caffe", "inception": "tf", "xception": "tf", "mobilenet": "tf",
    "nasnet": "tf", "vit": "tf", "densenet": "torch", "convnext": "torch",
    "efficientnet_lite0": "lite", "efficientnetb": "unit",
}  # fmt: skip


def pick(table, name):
    """The entry whose key is the longest start of the name."""
    return table[max((key for key in table if name.startswith(key)), key=len, default=None)]


def draw_picture(size=224):
    """The picture of the reference file, by its formula: three channels that differ."""
    y, x, c = np.meshgrid(np.arange(size), np.arange(size), np.arange(3), indexing="ij")
    return (((c + 2) * x * x + (5 - c) * y * y + 7 * x * y) // 97 % 256).astype(np.uint8)


def draw_weights(_, shape, dtype):
    """Of zero mean, in a tenth of Keras' time, and such that pictures still differ at the end.

    Of a depthwise kernel each channel sees its own plane alone: Keras draws it so small that
    behind the blocks of MobileNetV2 any two pictures gave the same features.
    """
    sees = shape[:-2] if shape[-1] == 1 else shape[:-1]
    drawn = np.random.default_rng(shape).random(shape, np.float32)
    drawn -= 0.5
    drawn *= np.float32(np.sqrt(24 / np.prod(sees)))
    return drawn


@pytest.fixture(scope="module", autouse=True)
def quick_draws():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KERAS.initializers.VarianceScaling, "__call__", draw_weights)
        yield


@functools.cache
def network_of(name):
    """A backbone without published weights, built once for all tests."""
    return backbones.build(name, SIZE, "none", None)


@pytest.fixture(scope="module", params=COUNTS)
def any_backbone(request):
    """One name of each family and its network; a transformer, which is large, is not kept."""
    build = network_of.__wrapped__ if request.param.startswith("vit") else network_of
    return request.param, build(request.param)


@functools.cache
def keras_network_of(name):
    """The family's own network of keras.applications, as it is with weights of ImageNet."""
    _, builder = FAMILIES[name]
    with pytest.MonkeyPatch.context() as patch:
        asked = []
        patch.setattr(
            "keras.src.utils.file_utils.get_file", lambda file, *_, **__: asked.append(file)
        )
        patch.setattr(KERAS.Model, "load_weights", lambda *_: None)
        network = getattr(KERAS.applications, builder)(
            include_top=False, weights="imagenet", pooling="avg", input_shape=(SIZE, SIZE, 3)
        )
    return network, asked


def prepare_like_keras(name, picture):
    """What the family's preprocess_input makes of a picture."""
    module = importlib.import_module(f"keras.applications.{FAMILIES[name][0]}")
    return module.preprocess_input(picture.astype(np.float32))[None]


def first_weights(network):
    """The tensor that reaches the first layer with weights."""
    return next(layer for layer in network.layers if layer.weights).input


def entry(network, pixels):
    """The values that reach the first layer with weights."""
    front = KERAS.Model(network.input, first_weights(network))
    return np.asarray(front(pixels[None].astype(np.float32), training=False))[0]


def check_entry(network, name):
    """Hold what reaches the first weights against the family's own preparation."""
    size = network.input_shape[1]
    flat = entry(network, np.full((size, size, 3), ORANGE, np.uint8))
    np.testing.assert_allclose(flat[size // 4, size // 4], BY_HAND[pick(WANTS, name)], atol=1e-4)
    family = FAMILY_OF.get(name, name)
    if family in FAMILIES and size == SIZE:
        picture = draw_picture(SIZE)
        theirs, _ = keras_network_of(family)
        front = KERAS.Model(theirs.inputs[0], first_weights(theirs))
        expected = np.asarray(front(prepare_like_keras(family, picture), training=False))[0]
        np.testing.assert_allclose(entry(network, picture), expected, atol=1e-4)


def test_all_names_are_held_against_a_published_count():
    """A name that is added must come with its number, or be another size of one that has."""
    assert {*COUNTS, *FAMILY_OF, "vit_b16"} == set(backbones.NAMES)  # vit_b16: in test_vit


def test_weights_are_as_many_as_published(any_backbone):
    """The network is the published one, and our layers in front have no weights."""
    name, network = any_backbone
    assert network.name == name
    assert network.count_params() == COUNTS[name]
    assert network.input_shape == (None, SIZE, SIZE, 3)
    assert len(network.output_shape) == 2
    assert network.output_shape[1] == pick(WIDTHS, name)


def test_the_first_weights_see_what_they_were_trained_on(any_backbone):
    """Range and order of the channels are the family's own, from pixels RGB 0..255."""
    name, network = any_backbone
    check_entry(network, name)


@pytest.mark.parametrize("name", sorted(set(FAMILY_OF) - set(COUNTS)))
def test_another_of_a_family_differs_by_keras_own_builder_alone(name):
    """Its name is that of the builder; weights, names of layers and counts are Keras' own.

    Counts of those that a shipped recipe names are in tests/tools/test_replays.py.
    """
    own, known = (backbones.APPLICATIONS[one] for one in (name, FAMILY_OF[name]))
    assert own.builder.lower() == name
    builder = getattr(KERAS.applications, own.builder)
    # One module for a family: the same preprocess_input, and blocks that are named alike.
    assert builder.__module__ == getattr(KERAS.applications, known.builder).__module__
    assert (own.mode, own.min_size) == (known.mode, known.min_size)
    file = own.file.replace("_", "")
    assert file.startswith(name)
    assert file.removeprefix(name) == known.file.replace("_", "").removeprefix(FAMILY_OF[name])


@pytest.mark.parametrize("name", ["xception"])
def test_a_preparation_left_out_is_noticed(name, monkeypatch):
    """The check above fails on raw pixels."""
    monkeypatch.setattr(backbones, "_prepare", lambda keras, pixels, mode: pixels)
    with pytest.raises(AssertionError):
        check_entry(backbones.build(name, SIZE, "none", None), name)


@pytest.mark.parametrize("name", ["vgg19"])
def test_a_forgotten_order_of_channels_is_noticed(name, monkeypatch):
    """The check above fails on RGB minus the mean of BGR."""
    monkeypatch.setattr(KERAS.ops, "flip", lambda pixels, axis: pixels)
    with pytest.raises(AssertionError):
        check_entry(backbones.build(name, SIZE, "none", None), name)


def test_a_second_scaling_is_noticed(monkeypatch):
    """The check above fails where EfficientNet, which scales itself, gets -1..1."""
    prepare = backbones._prepare
    monkeypatch.setattr(
        backbones, "_prepare", lambda keras, pixels, _: prepare(keras, pixels, "tf")
    )
    with pytest.raises(AssertionError):
        check_entry(backbones.build("efficientnetb0", SIZE, "none", None), "efficientnetb0")


def publish(name, folder):
    """Write what Keras' publishers would offer, and return what Keras makes of it."""
    network = network_of(name)
    scramble(network)
    if name.startswith("efficientnet"):
        network.get_layer("normalization").set_weights(
            [np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225]), np.int64(0)]
        )
    path = folder / backbones.APPLICATIONS[name].file
    # In the published file of Inception the numbered layers start from 1.
    write_legacy(path, network, shift=1 if name == "inceptionv3" else 0)
    return path


@pytest.mark.parametrize("name", FAMILIES)
def test_a_published_file_gives_what_keras_makes_of_it(name, tmp_path):
    """From pixels to features: our network equals Keras' own with its own preprocess_input."""
    path = publish(name, tmp_path)
    theirs, asked = keras_network_of(name)
    # Of MobileNetV2 Keras has other weights for this size; we take those of 224 px for all.
    assert asked == [path.name.replace("_224_", f"_{SIZE}_")]
    theirs.load_weights(path)
    ours = network_of(name)
    scramble(ours, seed=2)
    backbones._load(ours, name, str(tmp_path))
    picture = draw_picture(SIZE)
    expected = np.asarray(theirs(prepare_like_keras(name, picture), training=False))
    brighter = prepare_like_keras(name, np.clip(picture, 0, 243) + np.uint8(12))
    difference = np.abs(expected - np.asarray(theirs(brighter, training=False))).max()
    assert difference > 0.01 * np.abs(expected).max(), "the features do not see the picture"
    found = np.asarray(ours(picture[None].astype(np.float32), training=False))
    assert expected.std() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_what_keras_downloads_is_taken_over(tmp_path, monkeypatch):
    """Without a folder Keras fetches and loads the file; the result is the same as with one."""
    path = publish("efficientnetb0", tmp_path)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(path))
    network, picture = network_of("efficientnetb0"), draw_picture(SIZE)[None]
    vectors = []
    for folder in (str(tmp_path), None):
        scramble(network, seed=2)
        backbones._load(network, "efficientnetb0", folder)
        vectors.append(np.asarray(network(picture)))
    np.testing.assert_array_equal(*vectors)
    assert np.ptp(vectors[0]) > 0
    # The normalisation of the file; that it survives saving is in test_trained.
    stem = KERAS.Model(network.input, network.get_layer("stem_conv_pad").output)
    seen = np.asarray(stem(np.full((1, SIZE, SIZE, 3), ORANGE, np.float32)))[0, 40, 40]
    np.testing.assert_allclose(seen, BY_HAND["torch"], rtol=1e-5)


def test_lite0_features_are_those_of_the_reference_network():
    """Both averages agree with PyTorch's on a picture made by a formula."""
    network = backbones.load_extractor("efficientnet_lite0", 224, ["block10", "head"], None)
    check_entry(network, "efficientnet_lite0")
    picture = draw_picture()
    assert hashlib.sha256(picture.tobytes()).hexdigest() == REFERENCE["picture_sha256"]
    features = network.predict_on_batch(picture[None])[0]
    expected = np.array(REFERENCE["block10"] + REFERENCE["head"])
    assert len(REFERENCE["block10"]) == 112
    assert features.dtype == np.float32
    assert np.abs(features - expected).max() < 1e-3
    assert np.abs(expected).max() > 5
    assert network.count_params() == COUNTS["efficientnet_lite0"]
    assert network.trainable_weights == []


def test_an_early_layer_comes_without_the_rest_and_takes_both_kinds_of_pixels():
    """A small network of its own; uint8 and float32 of the same 0..255 give the same."""
    extractor = backbones.load_extractor("efficientnet_lite0", 32, ["block3"], None)
    assert extractor.output_shape == (None, 24)
    assert extractor.count_params() < 20_000
    picture = draw_picture()[None, :32, :32]
    whole = extractor.predict_on_batch(picture)
    np.testing.assert_array_equal(extractor.predict_on_batch(picture.astype(np.float32)), whole)
    assert np.ptp(whole) > 1


def test_blocks_layers_and_the_top_stand_side_by_side(tmp_path):
    """A block is the output of its last layer; each average is that of the activation itself."""
    network = network_of("mobilenetv2")
    write_npz(tmp_path / "mobilenetv2_notop.npz", network)
    layers = ["block_1", "out_relu", "top"]
    extractor = backbones.load_extractor("mobilenetv2", SIZE, layers, str(tmp_path))
    check_entry(extractor, "mobilenetv2")
    picture = draw_picture(SIZE)[None]
    found = np.asarray(extractor(picture, training=False))[0]
    names = ["block_1_project_BN", "out_relu"]
    ends = KERAS.Model(network.input, [network.get_layer(name).output for name in names])
    block, last = (np.asarray(x)[0].mean((0, 1)) for x in ends(picture, training=False))
    np.testing.assert_allclose(found, [*block, *last, *last], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("vgg19", ["block5_conv1", "block5_conv4", "block5_pool"]),
        ("efficientnetb0", ["block7a_expand_conv", "top_conv", "normalization"]),
        ("resnet50", ["conv5_block3_out"]),
        ("xception", ["block14_sepconv2", "conv2d", "conv2d_3"]),
        ("inceptionv3", ["conv2d", "conv2d_93", "mixed10", "batch_normalization_93"]),
        ("efficientnet_lite0", ["block1_filter_conv", "block16_project_norm", "head_conv"]),
    ],
)
def test_layers_have_published_names_in_a_flat_graph(name, layers):
    """Names do not depend on what was built before; blocks of layers are Keras' own alone."""
    network = network_of(name)
    names = [layer.name for layer in network.layers]
    assert set(layers) <= set(names)
    assert len(set(names)) == len(names)
    assert not any(hasattr(layer, "layers") for layer in network.layers)


def test_numbered_layers_have_the_same_names_every_time():
    """Keras would go on counting over all networks of the process."""
    names = [layer.name for layer in network_of("xception").layers]
    again = backbones.build("xception", SIZE, "none", None)
    assert [layer.name for layer in again.layers] == names
    assert "conv2d_3" in names


PHOTOS = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs the weights of ../shared")


def take_photos(size):
    """Two photographs that scikit-image brings along, and their mirror images."""
    import cv2
    from skimage import data

    pair = [
        cv2.resize(one, (size, size), interpolation=cv2.INTER_AREA)
        for one in (data.chelsea(), data.coffee())
    ]
    return np.stack([*pair, *(one[:, ::-1] for one in pair), *(one[..., ::-1] for one in pair)])


@PHOTOS
@pytest.mark.parametrize("name", ["vgg19", "mobilenetv2"])
def test_real_weights_tell_photographs_apart_and_see_colour(name):
    """A mirrored photograph stays itself, another one is another, swapped colours change it."""
    extractor = backbones.load_extractor(name, 224, ["top"], str(PUBLISHED))
    check_entry(extractor, name)
    features = np.asarray(extractor(take_photos(224), training=False))
    assert np.isfinite(features).all()
    assert 0.3 < (features > 0).mean() < 0.95
    alike = np.corrcoef(features)
    for own, other in ((0, 1), (1, 0)):
        assert alike[own, own + 2] > 0.88
        assert abs(alike[own, other]) < 0.2
        assert alike[own, own + 4] < alike[own, own + 2] - 0.05


@PHOTOS
def test_the_first_filters_of_vgg19_answer_as_a_plain_convolution():
    """BGR minus the mean, correlated with the file's own kernels: no code of Keras in between."""
    from scipy import signal

    with np.load(PUBLISHED / "vgg19_notop.npz") as file:
        kernel = file["block1_conv1/kernel"].astype(np.float64)
        bias = file["block1_conv1/bias"].astype(np.float64)
    photo = take_photos(48)[1]
    bgr = photo[..., ::-1].astype(np.float64) - [103.939, 116.779, 123.68]
    planes = [signal.correlate(bgr, kernel[..., n], "same")[..., 1] for n in range(4)]
    expected = [np.maximum(plane + bias[n], 0).mean() for n, plane in enumerate(planes)]
    extractor = backbones.load_extractor("vgg19", 48, ["block1_conv1"], str(PUBLISHED))
    found = np.asarray(extractor(photo[None], training=False))[0]
    np.testing.assert_allclose(found[:4], expected, rtol=1e-4)


@PHOTOS
def test_a_weights_file_is_identified():
    """The name and the checksum that SOURCES.md prints."""
    assert backbones.identify("vgg19", str(PUBLISHED)) == {
        "file": "vgg19_notop.npz",
        "sha256": "2ec36ff8d42e1a986fb65099a84f481eaa724d255396151b72dbf9a48e53e40d",
    }


def test_lite0_is_identified_without_a_folder():
    """Its weights come with a package, and are held to this checksum when read."""
    assert backbones.identify("efficientnet_lite0", None) == {
        "file": "efficientnet-lite0-57934424.pth",
        "sha256": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    }


def test_what_keras_downloaded_is_identified(tmp_path, monkeypatch):
    """Keras keeps the file below KERAS_HOME; without it the way out is named."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(backbones.tempfile, "gettempdir", lambda: str(tmp_path / "elsewhere"))
    with pytest.raises(ModelError, match=r"xception: .*not in Keras' cache.*weights_dir"):
        backbones.identify("xception", None)
    path = tmp_path / "models" / "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    sha256 = hashlib.sha256(b"abc").hexdigest()
    assert backbones.identify("xception", None) == {"file": path.name, "sha256": sha256}


def test_no_network_is_one_line_with_the_way_out(tmp_path, monkeypatch):
    """Keras raises a bare Exception; nobody sees its traceback."""

    def fail(*_):
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", fail)
    with pytest.raises(ModelError, match=r"vgg16: .*cannot be had.*name resolution.*weights_dir"):
        backbones.build("vgg16", 32, "imagenet", None)


def test_a_transformer_without_a_folder_names_the_way_out():
    """No publisher's checksum of its weights is known, so nothing is fetched."""
    with pytest.raises(ModelError, match=r"vit_b32: no publisher.*vit_b32.npz.*weights_dir"):
        backbones.build("vit_b32", 32, "imagenet", None)


def test_an_unknown_layer_is_named_with_the_nearest():
    """A typing error in params.yaml costs one look."""
    with pytest.raises(ModelError, match=r"no layer 'blok10'.*Did you mean 'block10'.*features"):
        backbones.load_extractor("efficientnet_lite0", 112, ["blok10", "head"], None)
    with pytest.raises(ModelError, match=r"vgg16 has no layer 'block5_con3'.*'block5_conv3'"):
        backbones.load_extractor("vgg16", 112, ["block5_con3"], None)


@pytest.mark.parametrize("layers", [[], ["head", "head"]])
def test_no_layer_or_a_layer_twice_is_refused(layers):
    """The columns of a feature vector are each there once."""
    with pytest.raises(ModelError, match=r"layers is .*name one or more.*features.layers"):
        backbones.load_extractor("efficientnet_lite0", 112, layers, None)


@pytest.mark.parametrize(
    ("name", "size", "smallest"),
    [
        ("efficientnet_lite0", 31, 32),
        ("xception", 70, 71),
        ("inceptionv3", 74, 75),
        ("vgg16", 16, 32),
    ],
)
def test_a_size_below_the_last_stride_is_refused(name, size, smallest):
    """Below it the last layer sees less than one pixel."""
    with pytest.raises(ModelError, match=f"size is {size} px; it takes {smallest} or more"):
        backbones.build(name, size, "none", None)
