"""Vision transformers: counts, known-answer attention, Google's names, positions that stretch."""

import numpy as np
import pytest
from scipy import special

from stages.core import backend
from stages.core.errors import ModelError
from stages.models import backbones, pretrained, vit

SIZE = 64  # 4 x 4 patches of 16, 2 x 2 of 32
WHOLE, SHALLOW = vit.N_BLOCKS, 3


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """Three blocks, which are like the twelve; who counts them asks for `whole`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vit, "N_BLOCKS", SHALLOW)
        yield


@pytest.fixture
def whole(monkeypatch):
    """All twelve blocks, whose weights are 0: nobody looks at them."""
    initialisers = backend.load_keras().initializers
    fill = initialisers.Zeros().__call__
    monkeypatch.setattr(
        initialisers.VarianceScaling, "__call__", lambda _, shape, dtype: fill(shape, dtype)
    )
    monkeypatch.setattr(vit, "N_BLOCKS", WHOLE)


@pytest.fixture(scope="module")
def network():
    """A ViT-B/32 of four patches."""
    return backbones.build("vit_b32", SIZE, "none", None)


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [("vit_b16", 224, 85_798_656), ("vit_b16", 352, 86_019_840), ("vit_b32", 352, 87_510_528)],
)
def test_weights_are_as_many_as_leukopy_printed(whole, name, size, count):
    """Patches, class token, positions, 12 blocks and the last normalisation; no top."""
    built = vit.build(name, size)
    assert built.count_params() == count
    assert built.output_shape == (None, 768)
    assert {ours for _, ours in vit._names()} == {variable.path for variable in built.weights}


def test_what_leukopy_unfroze_is_block7_to_norm(whole):
    """Blocks 7 to 11 and the norm, which with its head were 35 642 635 weights."""
    network = vit.build("vit_b32", SIZE)
    names = [layer.name for layer in network.layers]
    late = network.layers[names.index("block7_norm1") :]
    assert sum(layer.count_params() for layer in late) == 5 * 7_087_872 + 1_536
    # Its head: two normalisations (scale and shift of 768 and 256) and two dense layers.
    assert 5 * 7_087_872 + 1_536 + 2 * 768 + 2 * 256 + 196_864 + 2_827 == 35_642_635


def test_blocks_meet_in_one_tensor(network):
    """A network cut between two blocks is two networks that are one behind the other."""
    import keras

    picture = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.float32)
    cut = network.get_layer("block1_add2").output
    assert cut.shape == (None, 5, 768)
    trunk = keras.Model(network.input, cut)
    rest = keras.Model(cut, network.output)
    whole = np.asarray(network(picture))
    np.testing.assert_allclose(np.asarray(rest(trunk(picture))), whole, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def google():
    """A file of ViT-B/32 for 2 x 2 patches: Google's names, a top, and every part matters."""
    return make_google(32, 2)


def make_google(patch, grid):
    """Draw the arrays of such a file."""
    rng = np.random.default_rng(0)

    def draw(*shape, scale=0.05):
        return rng.normal(0, scale, shape).astype(np.float32)

    arrays = {
        "cls": draw(1, 1, 768),
        "embedding/kernel": draw(patch, patch, 3, 768, scale=0.02),
        "embedding/bias": draw(768),
        "Transformer/posembed_input/pos_embedding": draw(1, grid * grid + 1, 768, scale=0.5),
        "Transformer/encoder_norm/scale": 1 + draw(768),
        "Transformer/encoder_norm/bias": draw(768),
        "head/kernel": draw(768, 10),
        "head/bias": draw(10),
        "pre_logits/kernel": draw(768, 768),
        "pre_logits/bias": draw(768),
    }
    for number in range(SHALLOW):
        block = f"Transformer/encoderblock_{number}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            arrays[f"{block}/{norm}/scale"] = 1 + draw(768)
            arrays[f"{block}/{norm}/bias"] = draw(768)
        for part in ("query", "key", "value"):
            arrays[f"{attention}/{part}/kernel"] = draw(768, 12, 64)
            arrays[f"{attention}/{part}/bias"] = draw(12, 64)
        arrays[f"{attention}/out/kernel"] = draw(12, 64, 768)
        arrays[f"{attention}/out/bias"] = draw(768)
        arrays[f"{block}/MlpBlock_3/Dense_0/kernel"] = draw(768, 3072)
        arrays[f"{block}/MlpBlock_3/Dense_0/bias"] = draw(3072)
        arrays[f"{block}/MlpBlock_3/Dense_1/kernel"] = draw(3072, 768)
        arrays[f"{block}/MlpBlock_3/Dense_1/bias"] = draw(768)
    return arrays


def normalise(x, arrays, name):
    """Layer normalisation by its definition."""
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return scaled * arrays[f"{name}/scale"] + arrays[f"{name}/bias"]


def encode(picture, arrays, patch):
    """The paper's equations 1 to 4 in NumPy, float64, by Google's names."""
    side = len(picture) // patch
    x = picture / 127.5 - 1
    x = x.reshape(side, patch, side, patch, 3).transpose(0, 2, 1, 3, 4).reshape(side * side, -1)
    x = x @ arrays["embedding/kernel"].reshape(-1, 768) + arrays["embedding/bias"]
    x = np.concatenate([arrays["cls"][0], x])
    x = x + arrays["Transformer/posembed_input/pos_embedding"][0]
    for number in range(SHALLOW):
        block = f"Transformer/encoderblock_{number}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        y = normalise(x, arrays, f"{block}/LayerNorm_0")
        q, k, v = (
            np.einsum("td,dhe->hte", y, arrays[f"{attention}/{part}/kernel"])
            + arrays[f"{attention}/{part}/bias"][:, None]
            for part in ("query", "key", "value")
        )
        heads = special.softmax(q @ k.transpose(0, 2, 1) / 8, axis=-1) @ v
        x = x + np.einsum("hte,hed->td", heads, arrays[f"{attention}/out/kernel"])
        x = x + arrays[f"{attention}/out/bias"]
        y = normalise(x, arrays, f"{block}/LayerNorm_2")
        first, second = (f"{block}/MlpBlock_3/Dense_{place}" for place in (0, 1))
        y = y @ arrays[f"{first}/kernel"] + arrays[f"{first}/bias"]
        y = y / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        x = x + y @ arrays[f"{second}/kernel"] + arrays[f"{second}/bias"]
    return normalise(x, arrays, "Transformer/encoder_norm")[0]


def test_published_arrays_give_what_the_paper_says(google, tmp_path):
    """From pixels to class token, through all blocks, against the equations in NumPy."""
    np.savez(tmp_path / "ViT-B_32.npz", **google)
    arrays = {name: array.astype(np.float64) for name, array in google.items()}
    network = backbones.load_extractor("vit_b32", SIZE, ["top"], str(tmp_path))
    picture = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3)).astype(np.float32)
    found = np.asarray(network(picture[None], training=False))[0]
    expected = encode(picture.astype(np.float64), arrays, 32)
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    # Each of these would be another network: the oracle tells them apart.
    for name in (
        "Transformer/encoderblock_2/MultiHeadDotProductAttention_1/query/kernel",
        "Transformer/encoderblock_1/MlpBlock_3/Dense_0/bias",
        "cls",
    ):
        other = encode(picture.astype(np.float64), arrays | {name: arrays[name] * 0.5}, 32)
        assert np.abs(found - other).max() > 4e-3 * np.abs(expected).max()


def test_our_own_names_load_as_well(network, tmp_path):
    """What is saved by layer and variable comes back bit for bit."""
    drawn = {one.path: np.asarray(one).copy() for one in network.weights}
    np.savez(tmp_path / "vit_b32.npz", **drawn)
    for one in network.weights:
        one.assign(np.asarray(one) + 1)
    backbones._load(network, "vit_b32", str(tmp_path))
    assert all(np.array_equal(np.asarray(one), drawn[one.path]) for one in network.weights)


def test_positions_of_the_same_grid_stay():
    """Nothing is resampled where nothing must be."""
    positions = np.random.default_rng(2).normal(size=(1, 10, 4)).astype(np.float32)
    np.testing.assert_array_equal(vit.stretch(positions, 3), positions)


def test_positions_are_stretched_linearly_between_the_corners():
    """On a plane the values of any grid are known; rows and columns are not exchanged."""
    rows, columns = np.meshgrid([0.0, 1.0, 2.0], [0.0, 10.0, 20.0], indexing="ij")
    grid = np.stack([rows, columns], -1).reshape(1, 9, 2).astype(np.float32)
    positions = np.concatenate([np.full((1, 1, 2), 7, np.float32), grid], 1)
    wide = vit.stretch(positions, 5)
    assert wide.shape == (1, 26, 2)
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide[0, 0], [7, 7])
    y, x = np.meshgrid(np.linspace(0, 2, 5), np.linspace(0, 20, 5), indexing="ij")
    np.testing.assert_allclose(wide[0, 1:], np.stack([y, x], -1).reshape(25, 2), atol=1e-5)


def test_published_positions_of_224_px_fit_352_px(tmp_path):
    """The file's 14 x 14 become 22 x 22, as Leukopy had them."""
    arrays = {"Transformer/posembed_input/pos_embedding": np.ones((1, 197, 768), np.float32)}
    given = vit.translate(arrays, 352, 16)
    assert given["tokens/positions"].shape == (1, 485, 768)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cls": None}, "tokens has positions, not cls"),
        (
            {"Transformer/encoderblock_1/LayerNorm_0/scale": None},
            "block1_norm1 has beta, not gamma",
        ),
        ({"Transformer/encoderblock_3/LayerNorm_0/scale": np.ones(768)}, "the network has no"),
        ({"embedding/kernel": np.ones((16, 16, 3, 768))}, r"patches/kernel has shape \(16, 16"),
        ({"Transformer/posembed_input/pos_embedding": np.ones((1, 8, 768))}, "7 position embed"),
        ({"Transformer/posembed_input/pos_embedding": np.ones((5, 768))}, r"shape \(5, 768\)"),
    ],
)
def test_other_arrays_are_refused_and_change_nothing(
    network, google, tmp_path, monkeypatch, change, message
):
    """One line says which array; the network keeps what it had."""
    arrays = {name: array for name, array in (google | change).items() if array is not None}
    (tmp_path / "vit_b32.npz").touch()
    monkeypatch.setattr(pretrained, "_read_npz", lambda _: arrays)
    before = np.asarray(network.get_layer("tokens").cls).copy()
    with pytest.raises(ModelError, match=rf"vit_b32\.npz: not weights of vit_b32.*{message}"):
        backbones._load(network, "vit_b32", str(tmp_path))
    np.testing.assert_array_equal(np.asarray(network.get_layer("tokens").cls), before)


def test_a_file_of_another_format_is_refused(network, tmp_path):
    """A transformer's weights come as .npz; anything else is one line."""
    (tmp_path / "vit_b32.h5").write_bytes(b"no such thing")
    with pytest.raises(ModelError, match=r"vit_b32\.h5: not weights of vit_b32"):
        backbones._load(network, "vit_b32", str(tmp_path))


def test_a_picture_that_patches_do_not_fill_is_refused():
    """The nearest sizes that fit are named."""
    with pytest.raises(ModelError, match=r"vit_b16: size is 100 px.*multiples of 16.*96 or 112"):
        vit.build("vit_b16", 100)


def test_names_of_both_sides_are_each_there_once(network, google):
    """All of Google's file but its top, and all variables of the network."""
    theirs, ours = zip(*vit._names(), strict=True)
    assert len(set(theirs)) == len(set(ours)) == len(theirs)
    assert set(theirs) == {name for name in google if not name.startswith(vit.THEIR_TOP)}
    assert set(ours) == {variable.path for variable in network.weights}
