"""Weights files: found by name, every format, and one clear line for each that does not fit."""

import functools
import pickle
import zipfile

import h5py
import keras
import numpy as np
import pytest

from stages.core.errors import ModelError
from stages.models import pretrained
from tests.made.weights_files import scramble, write_legacy, write_npz


def make_network(seed=0, top=False, deeper=False):
    """A small network with every kind of layer that published ones have."""
    layers = keras.layers
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((8, 8, 3), name="pixels")
    x = layers.Rescaling(1 / 255, name="rescale")(pixels)
    x = layers.Normalization(name="normalization")(x)
    x = layers.Conv2D(4, 3, name="conv2d")(x)
    x = layers.BatchNormalization(name="batch_normalization")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Conv2D(4, 1, name="conv2d_1")(x)
    x = layers.SeparableConv2D(4, 3, name="separable")(x)
    block = [layers.Conv2D(5, 1, name="inner_conv"), layers.LayerNormalization(name="inner_norm")]
    x = keras.Sequential(block, name="stem")(x)
    x = layers.Dropout(0.5, name="drop")(x)
    if deeper:
        x = layers.Conv2D(5, 1, name="conv_of_a_deeper_network")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    x = layers.LayerNormalization(name="last_norm")(x)
    if top:
        x = layers.Dense(7, name="predictions")(x)
    network = keras.Model(pixels, x, name="xception")
    scramble(network, seed)
    pretrained.finish(network)
    return network


# For what must leave a network as it was: built once for all tests.
unchanged = functools.cache(make_network)


def values(network):
    """All weights, copied."""
    return [np.asarray(one).copy() for one in network.weights]


def write_keras3(path, network):
    """Write weights alone, as Keras 3 does."""
    network.save_weights(path)


def write_model(path, network):
    """Write a whole model, as Keras 3 does."""
    network.save(path)


def write_half(path, network):
    """Write .npz with half floats, as the files in ../shared have them."""
    arrays = {}
    for one in network.weights:
        layer, name = one.path.split("/")[-2:]
        name = "depthwise_kernel" if layer == "depthwise" and name == "kernel" else name
        array = np.asarray(one)
        arrays[f"{layer}/{name}"] = array.astype(np.float16) if array.ndim else array
    np.savez_compressed(path, **arrays)


FORMATS = {
    "xception_notop.npz": write_npz,
    "xception_half.npz": write_half,
    "xception_weights_tf_dim_ordering_tf_kernels_notop.h5": write_legacy,
    "xception_numbered.h5": lambda path, network: write_legacy(path, network, shift=1),
    "xception_whole.h5": lambda path, network: write_legacy(path, network, root="model_weights"),
    "xception.weights.h5": write_keras3,
    "xception.keras": write_model,
}


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize("file", FORMATS)
def test_every_format_brings_every_weight(file, top, tmp_path):
    """Each variable is the file's; a top is left out."""
    source = unchanged(seed=1, top=top)
    FORMATS[file](tmp_path / file, source)
    network = make_network(seed=2)
    before = values(network)
    pretrained.load(network, pretrained.find("xception", tmp_path))
    tolerance = 1e-3 if "half" in file else 0
    for old, new, wanted in zip(before, values(network), values(source), strict=False):
        np.testing.assert_allclose(new, wanted, atol=tolerance)
        assert not old.ndim or not np.array_equal(old, new)
    # The normalisation works with copies of its weights, which must be new as well.
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 8, 8, 3)).astype(np.float32)
    ends = [keras.Model(n.input, n.get_layer("last_norm").output) for n in (source, network)]
    theirs, ours = (np.asarray(end(pixels)) for end in ends)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 if not tolerance else 0.1)
    assert np.asarray(network.get_layer("last_norm").gamma).dtype == np.float32


@pytest.mark.parametrize("file", FORMATS)
def test_a_deeper_network_is_another_architecture(file, tmp_path):
    """A file that holds more than a top is refused, and nothing is changed."""
    FORMATS[file](tmp_path / file, unchanged(deeper=True))
    network = unchanged()
    before = values(network)
    # By name the stranger is named; by place it shifts a shape or is left over.
    with pytest.raises(ModelError, match=r"xception\S* not weights of xception.*weights_dir"):
        pretrained.load(network, tmp_path / file)
    assert all(map(np.array_equal, before, values(network)))


@pytest.mark.parametrize("file", FORMATS)
def test_a_shallower_network_leaves_something_unset(file, tmp_path):
    """A file that lacks a layer is refused, and nothing is changed."""
    FORMATS[file](tmp_path / file, unchanged())
    network = unchanged(deeper=True)
    before = values(network)
    with pytest.raises(ModelError, match=r"xception\S* not weights of xception.*weights_dir"):
        pretrained.load(network, tmp_path / file)
    assert all(map(np.array_equal, before, values(network)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv2d__bias": None}, "conv2d has kernel, not kernel, bias"),
        ({"conv2d__scale": np.ones(3)}, "conv2d has kernel, bias, scale, not kernel, bias"),
        ({"conv2d__bias": np.ones(9)}, r"conv2d/bias has shape \(9,\), not \(4,\)"),
        ({"conv2d__bias": np.full(4, np.nan)}, "conv2d/bias holds something that is no finite"),
        ({"conv2d__bias": np.array(list("abcd"))}, "conv2d/bias holds something that is no fin"),
        ({"more__kernel": np.ones((1, 1, 2, 2))}, "the network has no more"),
        ({"last_norm__gamma": None, "last_norm__beta": None}, "1 of its layers .* last_norm"),
    ],
)
def test_what_does_not_fit_is_named(changes, message, tmp_path):
    """Layer and variable, what it has and what it should have."""
    write_npz(tmp_path / "xception.npz", unchanged(), **changes)
    with pytest.raises(ModelError, match=message):
        pretrained.load(unchanged(), tmp_path / "xception.npz")


@pytest.mark.parametrize("file", FORMATS)
@pytest.mark.parametrize("damage", ["empty", "half", "noise"])
def test_a_damaged_file_is_one_line(file, damage, tmp_path):
    """An interrupted download ends with the file's name and the way out."""
    path = tmp_path / file
    FORMATS[file](path, unchanged())
    content = path.read_bytes()
    noise = bytes(np.random.default_rng(0).integers(0, 256, 500, dtype=np.uint8))
    path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "noise": noise}[damage])
    with pytest.raises(ModelError, match=rf"weights {file}.*Fetch the file anew") as caught:
        pretrained.load(unchanged(), path)
    assert "\n" not in str(caught.value)


class Trap:
    """Would be run where a pickle is read."""

    def __reduce__(self):
        return (print, ("a pickle was run",))


def test_a_pickle_is_never_run(tmp_path, capsys):
    """Neither as an array of objects in an .npz, nor in place of one."""
    write_npz(tmp_path / "xception.npz", unchanged(), conv2d__bias=np.array([Trap()] * 4))
    with pytest.raises(ModelError, match=r"xception.npz.*allow_pickle"):
        pretrained.load(unchanged(), tmp_path / "xception.npz")
    (tmp_path / "xception.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError, match=r"xception.npz: not weights"):
        pretrained.load(unchanged(), tmp_path / "xception.npz")
    assert capsys.readouterr().out == ""


def test_the_description_in_a_keras_file_is_not_looked_at(tmp_path):
    """Only the arrays are taken: a config that would load code is without effect."""
    source = unchanged(seed=1)
    source.save(tmp_path / "whole.keras")
    with zipfile.ZipFile(tmp_path / "whole.keras") as archive:
        arrays = archive.read("model.weights.h5")
    with zipfile.ZipFile(tmp_path / "xception.keras", "w") as archive:
        archive.writestr("config.json", '{"class_name": "Lambda", "module": "os"}')
        archive.writestr("model.weights.h5", arrays)
    network = make_network(seed=2)
    pretrained.load(network, tmp_path / "xception.keras")
    assert all(map(np.array_equal, values(network), values(source)))


@pytest.mark.parametrize("kind", ["external", "link"])
def test_numbers_of_another_file_are_not_read(kind, tmp_path):
    """An .h5 may name other files of the machine; that is refused."""
    network = make_network()
    path = tmp_path / "xception.h5"
    write_legacy(path, network)
    secret = tmp_path / "secret"
    with h5py.File(path, "a") as file:
        del file["conv2d/conv2d/bias:0"]
        if kind == "external":
            secret.write_bytes(bytes(16))
            stored = [(str(secret), 0, 16)]
            file.create_dataset("conv2d/conv2d/bias:0", (4,), "f4", external=stored)
        else:
            with h5py.File(secret, "w") as other:
                other["bias"] = np.ones(4, np.float32)
            file["conv2d/conv2d/bias:0"] = h5py.ExternalLink(str(secret), "bias")
    with pytest.raises(ModelError, match=r"is not an array of this file"):
        pretrained.load(network, path)


def test_an_h5_without_weights_says_so(tmp_path):
    """Any other HDF5 file."""
    with h5py.File(tmp_path / "xception.h5", "w") as file:
        file["table"] = np.ones(3)
    with pytest.raises(ModelError, match="neither layer_names nor layers"):
        pretrained.load(unchanged(), tmp_path / "xception.h5")


def test_long_lists_of_layers_are_put_together(tmp_path):
    """Keras divides a list of names that is too long for one attribute."""
    source = unchanged(seed=1)
    write_legacy(tmp_path / "xception.h5", source)
    with h5py.File(tmp_path / "xception.h5", "a") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:5], names[5:]
    network = make_network(seed=2)
    pretrained.load(network, tmp_path / "xception.h5")
    assert all(map(np.array_equal, values(network), values(source)))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("vgg19", "vgg19_notop.npz"),
        ("vgg19", "VGG19_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        ("mobilenetv2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"),
        ("inceptionv3", "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"),
        ("nasnetmobile", "NASNet-mobile-no-top.h5"),
        ("convnexttiny", "convnext_tiny_notop.h5"),
        ("efficientnetb0", "efficientnetb0_notop.h5"),
        ("resnet50", "resnet50.weights.h5"),
        ("vit_b16", "ViT-B_16.npz"),
        ("vit_b32", "vit_b32.NPZ"),
    ],
)
def test_publishers_names_are_found(name, file, tmp_path):
    """As Keras, Google and the makers of ../shared/weights call them; others do not disturb."""
    others = [
        "resnet50v2_notop.h5",
        "vgg190.npz",
        "my_vgg19.npz",
        f"{name}.txt",
        "efficientnetb00.h5",
    ]
    for other in [file, *others]:
        (tmp_path / other).touch()
    assert pretrained.find(name, tmp_path) == tmp_path / file


def test_no_file_several_files_and_no_folder_are_told_apart(tmp_path):
    """Each has its own way out."""
    with pytest.raises(ModelError, match=r"no file vgg16\*.npz.*no weights file.*Put the publ"):
        pretrained.find("vgg16", tmp_path)
    (tmp_path / "vgg19.npz").touch()
    with pytest.raises(ModelError, match=r"no file vgg16\*.npz.*it holds vgg19.npz"):
        pretrained.find("vgg16", tmp_path)
    (tmp_path / "vgg16_notop.h5").touch()
    (tmp_path / "VGG16.keras").touch()
    with pytest.raises(ModelError, match=r"VGG16.keras, vgg16_notop.h5 all fit vgg16.*Leave one"):
        pretrained.find("vgg16", tmp_path)
    with pytest.raises(ModelError, match=r"elsewhere: No such file.*Correct weights_dir"):
        pretrained.find("vgg16", tmp_path / "elsewhere")


def test_a_checksum_is_that_of_the_file(tmp_path):
    """The known sha256 of three bytes."""
    (tmp_path / "file").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert pretrained.digest(tmp_path / "file") == known
