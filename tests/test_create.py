"""Making tensors: of data, filled, counted out, at random; legacy constructors, memory, formats, changes of shape in place."""

from __future__ import annotations

import array
import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf

# --- of data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype", "values"),
    [
        (1, "int64", 1),
        (True, "bool", True),
        (1.5, "float32", 1.5),
        (1j, "complex64", 1j),
        ([], "float32", []),
        ([[], []], "float32", [[], []]),
        ([1, 2.0, True], "float32", [1.0, 2.0, 1.0]),
        ([True, 2], "int64", [1, 2]),
        (np.float64(2), "float64", 2.0),
        ([np.float64(2), 1.0], "float64", [2.0, 1.0]),
        ([np.float32(1), 2.5], "float32", [1.0, 2.5]),
        ([np.int8(1), np.uint8(2)], "int16", [1, 2]),
        ([np.array([1.0, 2.0])], "float64", [[1.0, 2.0]]),
        (range(3), "int64", [0, 1, 2]),
        (array.array("i", [1, 2]), "int64", [1, 2]),
        (array.array("d", [1, 2]), "float32", [1.0, 2.0]),
        (bytearray(b"ab"), "int64", [97, 98]),
        (((1, 2), [3, 4]), "int64", [[1, 2], [3, 4]]),
    ],
)
def test_dtypes_of_data(data, dtype, values):
    t = gf.tensor(data)
    assert t.dtype == dtype
    assert t.tolist() == values


def test_tensors_among_data():
    assert gf.tensor([gf.tensor(1.0, dtype=gf.float64), 1.0]).dtype == gf.float64
    assert gf.tensor([True, gf.tensor(2)]).tolist() == [1, 2]
    assert gf.tensor([gf.tensor([1.0]), 2]).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("a", TypeError), (b"ab", TypeError), (["a"], ValueError), (None, RuntimeError), ([None], RuntimeError), ({}, RuntimeError),
        (object(), RuntimeError), ([[1, 2], [3]], ValueError), (2**63, ValueError), ([-(2**64)], ValueError),
        (np.array(["a"]), TypeError), (np.array([1, None]), TypeError), (np.array([1], ">i4"), ValueError),
    ],
)  # fmt: skip
def test_data_that_are_no_numbers(data, kind):
    with pytest.raises(kind, match="tensor: wanted"):
        gf.tensor(data)


def test_values_that_a_dtype_lacks():
    assert gf.tensor(-1, dtype=gf.uint8).item() == 255
    with pytest.raises(RuntimeError, match="fit into uint8"):
        gf.tensor(300, dtype=gf.uint8)
    with pytest.raises(TypeError, match="real numbers"):
        gf.tensor([1j], dtype=gf.float32)


def test_default_dtype_of_data():
    gf.set_default_dtype(gf.float64)
    try:
        assert gf.tensor([1.0]).dtype == gf.float64 and gf.tensor([1j]).dtype == gf.complex128
        assert gf.linspace(0, 1, 2).dtype == gf.float64
    finally:
        gf.set_default_tensor_type("torch.FloatTensor")
    assert gf.get_default_dtype() == gf.float32


def test_buffers():
    memory = bytearray(range(8))
    t = gf.frombuffer(memory, dtype=gf.int16, offset=2, count=2)
    assert t.tolist() == [0x0302, 0x0504]
    t[0] = 0
    assert memory[2:4] == b"\0\0"
    assert gf.asarray(bytearray(b"ab"), dtype=gf.uint8).tolist() == [97, 98]
    for options in (dict(offset=9), dict(offset=-1), dict(count=0), dict(count=9), dict(offset=1)):
        with pytest.raises(ValueError, match="frombuffer: wanted"):
            gf.frombuffer(memory, dtype=gf.int16, **options)


def test_sharing_memory():
    a = np.zeros(2)
    for make in (gf.from_numpy, gf.as_tensor, gf.asarray, lambda a: gf.asarray(a, copy=False)):
        make(a)[0] += 1
    assert a[0] == 4
    gf.tensor(a)[0] = 9
    gf.asarray(a, copy=True)[0] = 9
    assert a[0] == 4
    with pytest.raises(ValueError, match="copy=False"):
        gf.asarray([1], copy=False)


def test_numpy_meets_tensors():
    t = gf.tensor([1.0, 2.0], dtype=gf.float64)
    assert isinstance(np.array([1.0, 2.0]) * t, gf.Tensor) and (np.array([1.0, 2.0]) * t).tolist() == [1.0, 4.0]
    assert (np.float64(2) - t).tolist() == [1.0, 0.0]
    assert isinstance(np.sin(t), gf.Tensor)
    assert_close(np.sin(t).numpy(), np.sin([1.0, 2.0]))
    assert np.asarray(t).tolist() == [1.0, 2.0] and np.stack([t, t]).shape == (2, 2)
    x = t.clone().requires_grad_()
    (np.array([3.0, 4.0]) * x).sum().backward()
    assert x.grad.tolist() == [3.0, 4.0]
    with pytest.raises(RuntimeError, match="requires a gradient"):
        np.sin(x)


# --- by the name of a class -----------------------------------------------------------------------------------


def test_legacy_constructors():
    assert gf.Tensor(2, 3).shape == gf.FloatTensor(2, 3).shape == gf.Tensor(gf.Size([2, 3])).shape == (2, 3)
    assert gf.Tensor((2, 3)).tolist() == [2.0, 3.0] and gf.Tensor().shape == (0,)
    assert gf.LongTensor([1.5, 2]).tolist() == [1, 2] and gf.LongTensor([1]).dtype == gf.int64
    x = gf.zeros(2)
    gf.Tensor(x)[0] = 1
    assert x[0] == 1
    assert isinstance(x, gf.FloatTensor) and not isinstance(x, gf.DoubleTensor)
    assert x.type() == "gradflow.FloatTensor" and x.type("torch.LongTensor").dtype == gf.int64
    assert x.type(gf.HalfTensor).dtype == gf.float16
    assert x.new([1, 2]).dtype == gf.float32 and x.new(3, 1).shape == (3, 1)
    with pytest.raises(TypeError, match="wanted a sequence"):
        gf.Tensor(2.5)
    with pytest.raises(TypeError, match="LongTensor: wanted a tensor of int64"):
        gf.LongTensor(x)


def test_tensors_like_one():
    x = gf.ones(2, 3, dtype=gf.float64)
    assert x.new_zeros((2,)).dtype == x.new_tensor([1]).dtype == gf.float64
    assert x.new_full((2,), 3).tolist() == [3.0, 3.0] and x.new_ones(2, dtype=gf.int64).dtype == gf.int64
    assert x.new_empty_strided((2, 3), (1, 2)).stride() == (1, 2)


# --- filled and counted out -----------------------------------------------------------------------------------


def test_counting():
    assert gf.arange(5).tolist() == [0, 1, 2, 3, 4] and gf.arange(end=2).tolist() == [0, 1]
    assert gf.arange(1, 0, -0.25).tolist() == [1.0, 0.75, 0.5, 0.25]
    assert gf.range(0, 2).tolist() == [0.0, 1.0, 2.0]
    assert gf.linspace(0, 1j, 3).tolist() == [0j, 0.5j, 1j]
    assert gf.tril_indices(3, 2, -1).tolist() == [[1, 2, 2], [0, 0, 1]]
    assert gf.triu_indices(2, 3, 1).tolist() == [[0, 0, 1], [1, 2, 2]]
    assert gf.scalar_tensor(3).dtype == gf.float32
    assert gf.full((2,), gf.tensor(2.5)).tolist() == [2.5, 2.5]
    assert gf.zeros(2, out=gf.ones(3)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: gf.zeros(), TypeError), (lambda: gf.zeros(2.0), TypeError), (lambda: gf.zeros(-1), RuntimeError),
        (lambda: gf.zeros((2,), (3,)), TypeError), (lambda: gf.ones_like(3), TypeError), (lambda: gf.eye(2.0), TypeError),
        (lambda: gf.arange(0, 3, 0), RuntimeError), (lambda: gf.arange(3, 0), RuntimeError),
        (lambda: gf.arange(3, dtype=gf.bool), NotImplementedError), (lambda: gf.linspace(0, 1), TypeError),
        (lambda: gf.full((2,), 1j, dtype=gf.float32), RuntimeError), (lambda: gf.range(3, 0), RuntimeError),
        (lambda: gf.randint(5, 3), TypeError), (lambda: gf.randint(2, 1, (2,)), RuntimeError),
        (lambda: gf.rand(2, dtype=gf.int64), NotImplementedError), (lambda: gf.randperm(2.0), TypeError),
        (lambda: gf.normal(0.0, -1.0, (2,)), RuntimeError), (lambda: gf.poisson(gf.tensor([-1.0])), RuntimeError),
        (lambda: gf.bernoulli(gf.tensor([2.0])), RuntimeError), (lambda: gf.tril_indices(-1, 2), RuntimeError),
        (lambda: gf.empty_strided((2,), (-1,)), RuntimeError), (lambda: gf.empty_permuted((2, 3), (0, 0)), RuntimeError),
    ],
)  # fmt: skip
def test_refusals(call, kind):
    with pytest.raises(kind, match=r"^\w+: wanted"):
        call()


# --- at random --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "mean", "spread"),
    [
        (lambda x: x.uniform_(-1, 3), 1.0, 4 / math.sqrt(12)),
        (lambda x: x.normal_(2, 0.5), 2.0, 0.5),
        (lambda x: x.exponential_(2), 0.5, 0.5),
        (lambda x: x.log_normal_(0, 0.25), math.exp(0.03125), None),
        (lambda x: x.geometric_(0.25), 4.0, math.sqrt(0.75) / 0.25),
        (lambda x: x.bernoulli_(0.3), 0.3, math.sqrt(0.21)),
        (lambda x: x.random_(10), 4.5, math.sqrt(99 / 12)),
        (lambda x: gf.poisson(gf.full_like(x, 6.0)), 6.0, math.sqrt(6)),
        (lambda x: gf.binomial(gf.full_like(x, 8.0), gf.full_like(x, 0.25)), 2.0, math.sqrt(1.5)),
        (lambda x: gf.randint_like(x, 2, 5), 3.0, math.sqrt(2 / 3)),
        (lambda x: x.cauchy_(1, 2).atan(), None, None),
    ],
)
def test_distributions(draw, mean, spread):
    x = draw(gf.empty(20000, dtype=gf.float64))
    if mean is not None:
        assert abs(x.mean().item() - mean) < 0.04 * max(mean, 1)
    if spread is not None:
        assert abs(x.std().item() - spread) < 0.05 * max(spread, 1)
    gf.manual_seed(3)
    a = draw(gf.empty(5))
    gf.manual_seed(3)
    assert draw(gf.empty(5)).tolist() == a.tolist()


def test_a_cauchy_number_is_below_its_median_half_the_time():
    assert abs((gf.empty(20000).cauchy_(1, 2) < 1).float().mean().item() - 0.5) < 0.02


def test_complex_normals_have_variance_one():
    z = gf.randn(20000, dtype=gf.complex64)
    assert abs((z.abs() ** 2).mean().item() - 1) < 0.03


def test_a_draw_forgets_what_it_writes_over():
    x = gf.ones(3, requires_grad=True)
    (x * 2).normal_().sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(RuntimeError, match="leaf"):
        x.uniform_()


# --- memory and shapes in place ---------------------------------------------------------------------------------


def test_storage():
    x = gf.arange(6.0)
    part = x[2:4]
    assert part.storage_offset() == 2 and part.untyped_storage().nbytes() == 24 and part.storage().size() == 6
    assert part.detach().storage_offset() == 2 and part._base is x and x._base is None
    assert part.storage().tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert part.untyped_storage().data_ptr() == x.data_ptr()
    assert part.is_set_to(x[2:4]) and not part.is_set_to(x[2:3])
    assert gf.zeros(1).set_(x.storage(), 1, (2, 2), (2, 1)).tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_memory_formats():
    x = gf.arange(120.0).reshape(2, 3, 4, 5)
    y = x.contiguous(memory_format=gf.channels_last)
    assert y.stride() == (60, 1, 15, 3) and y.is_contiguous(memory_format=gf.channels_last) and not y.is_contiguous()
    assert (y == x).all() and y.contiguous().stride() == x.stride()
    assert x.to(memory_format=gf.channels_last).stride() == x.clone(memory_format=gf.channels_last).stride() == y.stride()
    assert x.to(gf.float64, memory_format=gf.preserve_format).dtype == gf.float64
    assert repr(gf.channels_last) == "gradflow.channels_last" and x.layout is gf.strided
    with pytest.raises(RuntimeError, match="4 dimensions"):
        gf.ones(2, 3).contiguous(memory_format=gf.channels_last)
    z = x.clone().requires_grad_()
    (z.contiguous(memory_format=gf.channels_last) * x).sum().backward()
    assert (z.grad == x).all()


def test_views_in_place():
    x = gf.arange(6.0, requires_grad=True)
    y = (x * 2).unsqueeze_(0)
    assert y.shape == (1, 6)
    y.as_strided_((2, 2), (3, 1), 1).mul_(3)
    (y * y).sum().backward()
    expected = [0.0, 72.0, 144.0, 0.0, 288.0, 360.0]  # 2 (3 * 2)^2 x_i where it was seen, else 0
    assert x.grad.tolist() == expected
    with pytest.raises(RuntimeError, match="leaf"):
        x.unsqueeze_(0)
    t = gf.arange(6).reshape(2, 3)
    assert t.t_().shape == (3, 2) and t.transpose_(0, 1).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert gf.ones(1, 2, 1).squeeze_().shape == (2,)


def test_a_write_through_a_view_by_strides():
    x = gf.arange(6.0, requires_grad=True)
    y = (x * 2).reshape(2, 3).t()
    y.as_strided((2,), (4,)).mul_(0)
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 2.0, 2.0, 2.0, 0.0, 2.0]


def test_resizing():
    x = gf.arange(6)
    assert x.resize_(2, 2).tolist() == [[0, 1], [2, 3]] and x.resize_(6).tolist() == [0, 1, 2, 3, 4, 5]
    assert x.resize_(8)[:6].tolist() == [0, 1, 2, 3, 4, 5]
    assert gf.ones(2).resize_as_(gf.ones(3, 1)).shape == (3, 1)
    with pytest.raises(RuntimeError, match="requires no gradient"):
        gf.ones(2, requires_grad=True).resize_(3)


def test_diagonals_filled():
    assert gf.zeros(3, 3).fill_diagonal_(5).tolist() == [[5, 0, 0], [0, 5, 0], [0, 0, 5]]
    tall = gf.zeros(5, 2).fill_diagonal_(1, wrap=True).tolist()
    assert tall == [[1, 0], [0, 1], [0, 0], [1, 0], [0, 1]]
    with pytest.raises(RuntimeError, match="fill_diagonal_: wanted"):
        gf.zeros(3).fill_diagonal_(1)


def test_functions_of_elements():
    assert gf.arange(3.0).apply_(lambda v: v * v).tolist() == [0.0, 1.0, 4.0]
    assert gf.arange(3.0).map_(gf.ones(1), lambda a, b: a + b).tolist() == [1.0, 2.0, 3.0]


def test_default_device():
    assert gf.get_default_device() == "cpu"
    with gf.device("cpu"):
        assert gf.ones(1).device == "cpu"
    gf.set_default_device(None)


@pytest.mark.cuda
def test_the_card_as_default_device(card):
    with gf.device("cuda"):
        made = [
            gf.ones(2), gf.tensor([1, 2]), gf.rand(2), gf.arange(3), gf.randperm(3), gf.empty_strided((2,), (1,)),
            gf.Tensor([1.0]), gf.poisson(gf.ones(2)), gf.tril_indices(2, 2), gf.tensor(np.ones(2)), gf.as_tensor([1.0]),
        ]  # fmt: skip
        assert all(t.is_cuda for t in made)
    x = gf.ones(2, 3, device="cuda")
    assert x[1:].storage_offset() == 3 and x.untyped_storage().nbytes() == 24
    assert gf.ones(1).device == "cpu"
    assert (np.float32(2) * x).is_cuda and (card.ones((2, 3), "f") + x).is_cuda
    for draw in ("normal_", "uniform_", "cauchy_", "log_normal_", "exponential_", "random_", "bernoulli_"):
        assert getattr(gf.empty(4, device="cuda"), draw)().is_cuda


# --- out= -------------------------------------------------------------------------------------------------------


def test_results_are_written_into_out():
    x, y = gf.arange(6.0).reshape(2, 3), gf.empty(0)
    for call, expected in (
        (lambda out: gf.add(x, 1, out=out), x + 1),
        (lambda out: gf.sum(x, 0, out=out), x.sum(0)),
        (lambda out: gf.cat([x, x], out=out), gf.cat([x, x])),
        (lambda out: gf.take(x, gf.tensor([1, 5]), out=out), gf.tensor([1.0, 5.0])),
        (lambda out: gf.quantile(x, 0.5, out=out), gf.tensor(2.5)),
        (lambda out: gf.ones(2, out=out), gf.ones(2)),
    ):
        assert call(y) is y
        assert y.shape == expected.shape and (y == expected).all()
    values, places = gf.empty(0), gf.empty(0, dtype=gf.int64)
    found = gf.sort(x, descending=True, out=(values, places))
    assert found.values is values and places.tolist() == [[2, 1, 0], [2, 1, 0]]
    with pytest.raises(RuntimeError, match="requires? no gradient"):
        gf.exp(x.clone().requires_grad_(), out=y)
    with pytest.raises(RuntimeError, match="holds float32"):
        gf.exp(x, out=places)
    with pytest.raises(TypeError, match="wanted out="):
        gf.sort(x, out=values)
