from __future__ import annotations

import pytest

from store import InvalidSignature, Signature, TensorSpec
from store.signature import parse_signatures

X = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
Y = {"name": "y", "datatype": "INT64", "shape": [-1]}


def test_an_empty_mapping_is_the_default() -> None:
    assert Signature.parse({}) == Signature(batchable=False, batch_dim=(0, 0), inputs=None, outputs=None)


def test_one_batch_dim_holds_for_inputs_and_outputs() -> None:
    assert Signature.parse({"batchable": True, "batch_dim": 1}).batch_dim == (1, 1)


@pytest.mark.parametrize("pair", [(1, 0), [1, 0]])
def test_a_pair_gives_input_and_output_axis(pair: object) -> None:
    assert Signature.parse({"batchable": True, "batch_dim": pair}).batch_dim == (1, 0)


def test_specs_are_read_in_order() -> None:
    signature = Signature.parse(
        {"batchable": True, "inputs": [X, TensorSpec("z", "BYTES", (-1,))], "outputs": (Y,)}
    )
    assert signature.inputs == (TensorSpec("x", "FP32", (-1, 4)), TensorSpec("z", "BYTES", (-1,)))
    assert signature.outputs == (TensorSpec("y", "INT64", (-1,)),)


@pytest.mark.parametrize(
    "form",
    [
        {"batchable": False},
        {"batchable": True, "batch_dim": 0},
        {"batchable": True, "batch_dim": [1, 0]},
        {"batchable": False, "batch_dim": 2},
        {"batchable": True, "batch_dim": 0, "inputs": [X], "outputs": [Y]},
        {"batchable": False, "inputs": [], "outputs": []},
    ],
)
def test_the_written_form_round_trips(form: dict[str, object]) -> None:
    signature = Signature.parse(form)
    assert signature.to_dict() == form
    assert Signature.parse(signature.to_dict()) == signature
    assert Signature.parse(signature) is signature


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(InvalidSignature, match="did you mean 'batchable'") as caught:
        Signature.parse({"batchabel": True})
    assert caught.value.field == "batchabel"
    with pytest.raises(InvalidSignature, match="known keys are name, datatype, shape"):
        TensorSpec.parse({**X, "zzz": 1})


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"batchable": "yes"}, "batchable"),
        ({"batchable": 1}, "batchable"),
        ({"batch_dim": -1}, "batch_dim"),
        ({"batch_dim": (0, 1, 2)}, "batch_dim"),
        ({"batch_dim": True}, "batch_dim"),
        ({"batch_dim": "0"}, "batch_dim"),
        ({"inputs": "x"}, "inputs"),
        ({"inputs": [X, X]}, "inputs"),
        ({"inputs": [{"name": "x", "datatype": "FP32"}]}, "shape"),
        ({"inputs": [{**X, "datatype": "float32"}]}, "datatype"),
        ({"inputs": [{**X, "datatype": 1}]}, "datatype"),
        ({"inputs": [{**X, "name": ""}]}, "name"),
        ({"inputs": [{**X, "name": 3}]}, "name"),
        ({"inputs": [{**X, "shape": 4}]}, "shape"),
        ({"inputs": [{**X, "shape": [-2]}]}, "shape"),
        ({"inputs": [{**X, "shape": [1.5]}]}, "shape"),
        ({"batchable": True, "inputs": [{**X, "shape": [2, 4]}]}, "inputs"),
        ({"batchable": True, "batch_dim": 2, "inputs": [X]}, "inputs"),
        ({"batchable": True, "batch_dim": (0, 1), "inputs": [X], "outputs": [Y]}, "outputs"),
    ],
)
def test_contradictions_are_refused_with_the_field(form: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidSignature) as caught:
        Signature.parse(form)
    assert caught.value.field == field


def test_methods_that_are_not_batchable_may_fix_every_axis() -> None:
    assert Signature.parse({"inputs": [{**X, "shape": [2, 4]}]}).inputs is not None


@pytest.mark.parametrize("value", [None, 3, ["batchable"]])
def test_what_is_no_mapping_is_refused(value: object) -> None:
    with pytest.raises(InvalidSignature):
        Signature.parse(value)
    with pytest.raises(InvalidSignature):
        parse_signatures(value)


def test_errors_in_one_of_several_methods_name_the_method() -> None:
    with pytest.raises(InvalidSignature, match="'predict'") as caught:
        parse_signatures({"encode": {}, "predict": {"batch_dim": -1}})
    assert caught.value.field == "predict.batch_dim"
    with pytest.raises(InvalidSignature) as caught:
        parse_signatures({"predict": None})
    assert caught.value.field == "predict"


@pytest.mark.parametrize("method", ["", "no spaces", "a.b", 3])
def test_method_names_must_be_callable_names(method: object) -> None:
    with pytest.raises(InvalidSignature):
        parse_signatures({method: {}})
