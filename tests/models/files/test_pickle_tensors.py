"""The tensors that a pickle describes: found under their state-dict keys, and checked against their storages."""

from __future__ import annotations

from typing import Any

import pytest

from diffstudio.models.files import pickle_tensors
from diffstudio.models.files.pickle_globals import DTYPES, STORAGES
from diffstudio.models.files.pickle_interpreter import Call, Global, PersistentId, Unreadable
from diffstudio.models.files.pickle_tensors import BYTES, PickledTensor, tensors_in
from diffstudio.models.files.safetensors_header import DTYPE_BITS


def storage(kind: str = "FloatStorage", elements: Any = 4, *view: Any, key: Any = "0") -> PersistentId:
    return PersistentId(("storage", Global("torch", kind), key, "cpu", elements, *view))


def rebuilt(*args: Any, name: str = "_rebuild_tensor_v2") -> Call:
    return Call(Global("torch._utils", name), args)


def tensor(
    kind: str = "FloatStorage", elements: Any = 4, size: Any = (4,), stride: Any = (1,), offset: Any = 0
) -> Call:
    return rebuilt(storage(kind, elements), offset, size, stride)


ONE = PickledTensor("F32", (4,), (1,), 0, "0", 4)


def only(value: Any) -> PickledTensor | None:
    return tensors_in({"x": value}).get("x")


# ---- where they are --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", ["state_dict", "params_ema", "params", "model_state_dict", "model_state", "module"])
def test_wrappers_are_removed(wrapper: str) -> None:
    assert tensors_in({wrapper: {"a": tensor()}, "epoch": 3, "other": tensor()}) == {"a": ONE}
    assert tensors_in({"state_dict": {wrapper: {"a": tensor()}}}) == {"a": ONE}


@pytest.mark.parametrize("pair", [list, tuple])
def test_an_ordered_dict_of_python_2(pair: type) -> None:
    """Python 2 pickles its items as an argument of the call."""
    made = Call(Global("collections", "OrderedDict"), ([pair(("a", tensor())), pair(("b", 3)), ["c"], "de", [4, 5]],))
    assert tensors_in(made) == tensors_in({"state_dict": made}) == {"a": ONE}
    assert tensors_in(Call(Global("collections", "Counter"), ([["a", tensor()]],))) == {}
    assert tensors_in(Call(Global("collections", "OrderedDict"), ())) == {}


def test_wrappers_without_tensors_are_not_removed() -> None:
    assert tensors_in({"params": {"lr": 1}, "a": tensor()}) == {"a": ONE}
    assert tensors_in({"state_dict": 3, "a": tensor()}) == {"a": ONE}
    assert tensors_in({"params": {"lr": 1}, "module": {"a": tensor()}}) == {"a": ONE}
    assert tensors_in({"params": {"a": tensor()}, "params_ema": {"b": tensor()}}) == {"b": ONE}  # the better weights


def test_wrappers_are_removed_up_to_a_depth() -> None:
    table: Any = {"a": tensor()}
    for _ in range(6):
        table = {"module": table}
    assert tensors_in(table) == {"a": ONE}
    assert tensors_in({"module": table}) == {"module.a": ONE}


def test_nested_names_are_joined_up_to_a_depth() -> None:
    assert tensors_in({"a": {"b": {1: tensor(), "c": 3}}, "d": tensor(), "e": {}}) == {"a.b.1": ONE, "d": ONE}
    table: Any = tensor()
    for _ in range(7):
        table = {"a": table}
    assert tensors_in(table) == {"a.a.a.a.a.a.a": ONE}
    assert tensors_in({"a": table}) == {}


def test_a_number_of_values_is_visited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_tensors, "_MOST_VALUES", 3)
    assert tensors_in({"a": 1, "b": {"c": tensor()}}) == {"b.c": ONE}
    with pytest.raises(Unreadable, match="it has too many values"):
        tensors_in({"a": 1, "b": {"c": tensor()}, "d": 1})
    with pytest.raises(Unreadable, match="it has too many values"):  # also those within what may be a wrapper
        tensors_in({"params": {"a": 1, "b": 2}, "c": 3, "d": tensor()})


@pytest.mark.parametrize("root", [None, 3, "text", [tensor()], (tensor(),), Global("a", "b")])
def test_other_values_have_no_tensors(root: Any) -> None:
    assert tensors_in(root) == {} and tensors_in({"x": root}) == {}


def test_a_list_of_pairs_of_tensors_is_named_by_position() -> None:
    """cloneofsimo's first LoRAs: up, down, up, down …"""
    assert tensors_in([tensor(), tensor()]) == {"0": ONE, "1": ONE}
    assert tensors_in([tensor(), tensor(), tensor()]) == {} and tensors_in([tensor(), 3]) == {}


def test_dicts_of_other_classes() -> None:
    ordered = Call(Global("collections", "OrderedDict"), ())
    ordered.items["a"] = tensor()
    assert tensors_in(ordered) == {"a": ONE} == tensors_in({"state_dict": ordered})


def test_modules_are_their_parameters_buffers_and_submodules() -> None:
    inner, outer = Call(Global("torch.nn", "Linear"), ()), Call(Global("torch.nn", "Sequential"), ())
    parameters = Call(Global("collections", "OrderedDict"), ())
    parameters.items["weight"] = tensor()
    inner.state = {"_parameters": parameters, "_buffers": {"mean": tensor(), "none": None}, "training": True}
    outer.state = {"_parameters": {}, "_modules": {"0": inner}}
    outer.items["ignored"] = tensor()
    assert tensors_in(outer) == {"0.weight": ONE, "0.mean": ONE}
    inner.state = {"_parameters": 3}
    assert tensors_in(outer) == {}


# ---- how they are written --------------------------------------------------------------------------------------------


def test_every_way_that_pytorch_writes_a_tensor() -> None:
    args = (storage(), 0, (4,), (1,))
    assert only(rebuilt(*args, name="_rebuild_tensor")) == ONE
    assert only(rebuilt(*args, False, {}, name="_rebuild_tensor_v2")) == ONE
    assert only(rebuilt(*args, False, {}, name="_rebuild_tensor_v3")) == ONE
    assert only(rebuilt(tensor(), True, {}, name="_rebuild_parameter")) == ONE
    assert only(rebuilt(tensor(), True, {}, {}, name="_rebuild_parameter_with_state")) == ONE
    assert only(Call(Global("torch.nn.parameter", "Buffer"), (tensor(),))) == ONE
    subclass = (Global("torch._utils", "_rebuild_tensor_v2"), Global("mine", "Tensor"), (*args, False, {}), {})
    assert only(Call(Global("torch._tensor", "_rebuild_from_type_v2"), subclass)) == ONE
    assert only(rebuilt(storage(), 0, Call(Global("torch", "Size"), ((4,),)), (1,))) == ONE


def test_other_calls_are_no_tensors() -> None:
    args = (storage(), 0, (4,), (1,))
    assert only(rebuilt(*args[:3])) is None
    assert only(rebuilt(*args, name="_rebuild_sparse_tensor")) is None
    assert only(rebuilt(name="_rebuild_parameter")) is None
    assert only(Call(Global("torch.nn.parameter", "Buffer"), ())) is None
    assert only(Call(Global("torch._tensor", "_rebuild_from_type_v2"), (Global("a", "b"), 0))) is None
    assert only(Call(Global("torch._tensor", "other"), (Global("a", "b"), 0, 0))) is None
    assert only(Call(Global("mine", "_rebuild_tensor_v2"), args)) is None
    assert only(Call("torch._utils", args)) is None
    assert only(Call(Global("torch._utils", "_rebuild_tensor_v2"), list(args))) is None


def test_parameters_within_parameters_up_to_a_depth() -> None:
    value = tensor()
    for _ in range(4):
        value = rebuilt(value, True, {}, name="_rebuild_parameter")
    assert only(value) == ONE
    assert only(rebuilt(value, True, {}, name="_rebuild_parameter")) is None
    from_type = (Global("torch._utils", "_rebuild_parameter"), 0, (value,))
    assert only(Call(Global("torch._tensor", "_rebuild_from_type_v2"), from_type)) is None


@pytest.mark.parametrize("kind", STORAGES)
def test_typed_storages(kind: str) -> None:
    assert only(tensor(kind)) == ONE._replace(dtype=STORAGES[kind])


@pytest.mark.parametrize("name", DTYPES)
def test_untyped_storages_count_bytes(name: str) -> None:
    dtype = DTYPES[name]
    elements = 4 * BYTES[dtype] + BYTES[dtype] - 1
    value = rebuilt(
        storage("UntypedStorage", elements), 0, (4,), (1,), False, {}, Global("torch", name), name="_rebuild_tensor_v3"
    )
    assert only(value) == ONE._replace(dtype=dtype)
    assert 8 * BYTES[dtype] == DTYPE_BITS[dtype]


def test_types_that_weights_never_have_are_skipped() -> None:
    assert only(tensor("ComplexFloatStorage")) is None
    args = (storage("UntypedStorage", 32), 0, (4,), (1,), False, {})
    assert only(rebuilt(*args, Global("torch", "complex64"), name="_rebuild_tensor_v3")) is None
    assert only(rebuilt(*args, "float32", name="_rebuild_tensor_v3")) is None
    assert only(rebuilt(*args, Global("torch", "float32"))) is None  # only the third version has a dtype


def test_a_view_of_a_storage_adds_its_offset() -> None:
    view = ("1", 3, 4)
    assert only(rebuilt(storage("FloatStorage", 9, view), 2, (4,), (1,))) == ONE._replace(offset=5, storage_elements=9)
    for other in (None, ("1", 3), ("1", "3", 4), ["1", 3, 4]):
        assert only(rebuilt(storage("FloatStorage", 9, other), 2, (4,), (1,))) == ONE._replace(
            offset=2, storage_elements=9
        )


# ---- what does not add up --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stored",
    [
        None,
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", 4),
        PersistentId("storage"),
        PersistentId(("storage", Global("torch", "FloatStorage"), "0", "cpu")),
        PersistentId(("module", Global("torch", "FloatStorage"), "0", "cpu", 4)),
        PersistentId(("storage", "FloatStorage", "0", "cpu", 4)),
    ],
)
def test_a_tensor_without_a_storage(stored: Any) -> None:
    with pytest.raises(Unreadable, match="a tensor in it has no storage"):
        only(rebuilt(stored, 0, (4,), (1,)))


@pytest.mark.parametrize(
    "change",
    [
        {"offset": -1},
        {"offset": 1.0},
        {"offset": True},
        {"offset": 1 << 62},
        {"elements": -4},
        {"elements": "4"},
        {"elements": 1 << 62},
        {"size": [4]},
        {"size": 4},
        {"size": ("4",)},
        {"size": (-4,)},
        {"size": (True,)},
        {"size": (1, 4)},
        {"size": (1 << 62,)},
        {"stride": [1]},
        {"stride": (-1,)},
        {"stride": (1, 1)},
        {"size": (1,) * 17, "stride": (1,) * 17},
        {"size": Call(Global("torch", "Size"), ((4,), (4,)))},
        {"size": Call(Global("torch", "Size"), [(4,)])},
    ],
)
def test_a_tensor_of_invalid_numbers(change: dict[str, Any]) -> None:
    with pytest.raises(Unreadable, match="a tensor in it is invalid"):
        only(tensor(**change))


def test_a_storage_whose_key_is_no_text() -> None:
    with pytest.raises(Unreadable, match="a tensor in it is invalid"):
        only(rebuilt(storage(key=0), 0, (4,), (1,)))


def test_up_to_sixteen_dimensions() -> None:
    found = only(tensor(size=(1,) * 16, stride=(1,) * 16))
    assert found is not None and found.shape == (1,) * 16


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((5,), (1,), 0), ((4,), (1,), 1), ((2, 2), (3, 1), 0), ((2, 3), (1, 1), 0), ((2, 4), (0, 1), 0), ((), (), 4)],
)
def test_a_tensor_larger_than_its_storage(size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> None:
    with pytest.raises(Unreadable, match="a tensor in it is larger than its storage"):
        only(tensor(size=size, stride=stride, offset=offset))


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((2, 2), (2, 1), 0), ((2,), (2,), 1), ((), (), 3), ((0, 5), (5, 1), 9), ((2, 2), (1, 1), 1), ((4,), (0,), 3)],
)
def test_a_tensor_within_its_storage(size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> None:
    found = only(tensor(size=size, stride=stride, offset=offset))
    assert found == PickledTensor("F32", size, stride, offset, "0", 4)


@pytest.mark.parametrize(
    ("shape", "stride", "contiguous"),
    [
        ((2, 3, 4), (12, 4, 1), True),
        ((2, 3), (1, 2), False),
        ((2, 3), (3, 2), False),
        ((2, 1, 3), (3, 99, 1), True),
        ((1, 3), (0, 1), True),
        ((), (), True),
        ((4,), (0,), False),
    ],
)
def test_contiguous(shape: tuple[int, ...], stride: tuple[int, ...], contiguous: bool) -> None:
    found = PickledTensor("F16", shape, stride, 0, "0", 99)
    assert found.contiguous is contiguous and found.itemsize == 2


def test_elements() -> None:
    assert PickledTensor("F16", (2, 3), (3, 1), 0, "0", 6).elements == 6
    assert PickledTensor("F16", (), (), 0, "0", 1).elements == 1
