"""The two-layer network: the formula, how it starts, and its files."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vigreux.errors import CheckpointError
from vigreux.models.two_layer import TwoLayer


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@given(
    n=st.integers(1, 6),
    width=st.integers(1, 5),
    classes=st.integers(1, 4),
    N=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_forward_is_the_plain_formula(n, width, classes, N, seed):
    network = TwoLayer(n, width, classes, seed=seed, dtype=torch.float64)
    X = torch.randn(N, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    W, b, A, c = (p.tolist() for p in network.parameters_in_order())
    before = [[sum(w * x for w, x in zip(W[j], row)) + b[j] for j in range(width)] for row in X.tolist()]
    hidden = [[max(z, 0.0) for z in row] for row in before]
    logits = [[sum(a * h for a, h in zip(A[k], row)) + c[k] for k in range(classes)] for row in hidden]
    close = {"rtol": 0, "atol": 1e-12}
    shaped = (
        torch.tensor(rows, dtype=torch.float64).reshape(N, size)
        for rows, size in ((before, width), (hidden, width), (logits, classes))
    )
    for found, expected in zip(
        (network.hidden_states(X, before_relu=True), network.hidden_states(X), network(X)), shaped
    ):
        torch.testing.assert_close(found, expected, **close)
    assert (network.n, network.width, network.classes, network.dtype) == (n, width, classes, torch.float64)


def test_a_network_by_hand():
    network = TwoLayer(2, 2, 1)
    for parameter, value in zip(
        network.parameters_in_order(),
        ([[1.0, 1.0], [1.0, -1.0]], [0.0, 1.0], [[2.0, -3.0]], [0.5]),
        strict=True,
    ):
        parameter.copy_(torch.tensor(value))
    X = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]])
    assert network.hidden_states(X, before_relu=True).tolist() == [[2, 1], [0, 3], [0, -1]]
    assert network.hidden_states(X).tolist() == [[2, 1], [0, 3], [0, 0]]
    assert network(X).tolist() == [[1.5], [-8.5], [0.5]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_starts_uniformly_within_the_ranges_of_pytorch(dtype):
    """W, b ~ U(±1/√n), A, c ~ U(±1/√m): within the bound, near it, and of the variance bound² / 3."""
    n, m, K = 100, 5000, 20
    for parameter, fan_in in zip(
        TwoLayer(n, m, K, dtype=dtype).parameters_in_order(), (n, n, m, m), strict=True
    ):
        bound = 1 / math.sqrt(fan_in)
        assert parameter.dtype == dtype
        assert parameter.abs().max() <= bound * (1 + 1e-6)
        if parameter.numel() > 1000:
            assert parameter.abs().max() > 0.99 * bound
            assert parameter.mean().abs() < 5 * bound / math.sqrt(3 * parameter.numel())
            assert parameter.var().item() == pytest.approx(bound**2 / 3, rel=0.05)


def test_it_starts_as_a_pytorch_network_of_that_seed():
    torch.manual_seed(5)
    hidden, output = torch.nn.Linear(7, 4), torch.nn.Linear(4, 2)
    for found, expected in zip(
        TwoLayer(7, 4, 2, seed=5).parameters_in_order(),
        (hidden.weight, hidden.bias, output.weight, output.bias),
        strict=True,
    ):
        assert torch.equal(found, expected)


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = TwoLayer(9, 6, 2, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    same, other = TwoLayer(9, 6, 2, seed=3), TwoLayer(9, 6, 2, seed=4)
    for a, b, c in zip(*(network.parameters_in_order() for network in (one, same, other)), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_no_gradient_is_kept():
    assert not TwoLayer(3, 2, 2)(torch.ones(1, 3)).requires_grad


# --- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [1, 2, 8])
def test_what_is_saved_is_what_is_loaded(tmp_path, dtype, classes):
    network = TwoLayer(5, 3, classes, seed=7, dtype=dtype)
    network.save(tmp_path / "a" / "b")
    loaded = TwoLayer.load(str(tmp_path / "a" / "b"))
    assert (loaded.n, loaded.width, loaded.classes, loaded.dtype) == (5, 3, classes, dtype)
    for found, expected in zip(loaded.parameters_in_order(), network.parameters_in_order(), strict=True):
        assert torch.equal(found, expected)
        assert not found.requires_grad
    described = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert described == {"model_type": "two-layer", "n": 5, "width": 3, "classes": classes}


def test_saving_again_replaces_and_weights_load_into_a_network_of_that_shape(tmp_path):
    TwoLayer(5, 3, 2, seed=1).save(tmp_path)
    TwoLayer(5, 3, 2, seed=2).save(tmp_path)
    network = TwoLayer(5, 3, 2, seed=3)
    network.load_weights(tmp_path)
    for found, expected in zip(
        network.parameters_in_order(), TwoLayer(5, 3, 2, seed=2).parameters_in_order(), strict=True
    ):
        assert torch.equal(found, expected)


def test_no_such_directory(tmp_path):
    with pytest.raises(CheckpointError) as error:
        TwoLayer.load(tmp_path / "none")
    assert (
        one_line(error)
        == f"{tmp_path}/none: no config.json; accepted: a directory that vigreux teach or distill wrote"
    )


def test_a_network_of_another_type(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError) as error:
        TwoLayer.load(tmp_path)
    assert (
        one_line(error) == f"{tmp_path}: model type 'bert'; accepted: 'two-layer', a network of a parity task"
    )


def test_a_torn_description(tmp_path):
    TwoLayer(5, 3, 2).save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "two-')
    with pytest.raises(CheckpointError) as error:
        TwoLayer.load(tmp_path)
    assert one_line(error).startswith(f"{tmp_path}/config.json: is damaged (")


@pytest.mark.parametrize("left", [None, 0, 7, 20, -1])
def test_weights_that_are_missing_or_truncated(tmp_path, left):
    network = TwoLayer(5, 3, 2)
    network.save(tmp_path)
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    path.unlink()
    if left is not None:
        path.write_bytes(data[:left])
    for load in (lambda: TwoLayer.load(tmp_path), lambda: network.load_weights(tmp_path)):
        with pytest.raises(CheckpointError) as error:
            load()
        assert one_line(error).startswith(f"{path}: missing or damaged (")
    path.write_bytes(data)
    assert TwoLayer.load(tmp_path).width == 3


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError) as error:
        TwoLayer(5, 3, 2).save(tmp_path / "file" / "a")
    assert one_line(error).startswith(f"{tmp_path}/file/a: cannot be written (")
