from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from frameworks.convert.steps.onnx_graph import keep_outputs, name_batch_axes, rename
from frameworks.convert.work import NotConvertible
from store import Signature, TensorSpec

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def value(name: str, shape: Any = ("n", 3), kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(nodes: Any, inputs: Any, outputs: Any, constants: Any = (), values: Any = ()) -> Any:
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants, value_info=values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def constant(name: str, number: float) -> Any:
    return helper.make_tensor(name, TensorProto.FLOAT, [], [number])


def answers(model: Any, **inputs: Any) -> dict[str, Any]:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def chain() -> Any:
    """``sum = (x + 1) * 2`` by way of an inner value that is called ``logits``."""
    return model_of(
        [
            helper.make_node("Add", ["x", "one"], ["logits"]),
            helper.make_node("Mul", ["logits", "two"], ["sum"]),
        ],
        [value("x")],
        [value("sum")],
        [constant("one", 1), constant("two", 2)],
        [value("logits")],
    )


def test_an_output_gets_a_name_that_an_inner_value_has() -> None:
    model = chain()
    rename(model, {"x": "input"}, {"sum": "logits"})
    np.testing.assert_array_equal(answers(model, input=X)["logits"], (X + 1) * 2)
    assert [v.name for v in model.graph.value_info] == ["logits_1"]


def test_an_input_gets_a_name_that_a_constant_has() -> None:
    model = chain()
    rename(model, {"x": "one"}, {})
    np.testing.assert_array_equal(answers(model, one=X)["sum"], (X + 1) * 2)


def test_names_can_be_exchanged() -> None:
    model = model_of(
        [helper.make_node("Sub", ["a", "b"], ["d"]), helper.make_node("Add", ["a", "b"], ["s"])],
        [value("a"), value("b")],
        [value("d"), value("s")],
    )
    rename(model, {"a": "b", "b": "a"}, {"d": "s", "s": "d"})
    result = answers(model, b=X, a=X * 2)
    np.testing.assert_array_equal(result["s"], -X)
    np.testing.assert_array_equal(result["d"], X * 3)


def conditional() -> Any:
    """``y = x + 1 if flag else x``, where the branches read the outer ``x`` and name their values ``y``."""
    then = helper.make_graph([helper.make_node("Add", ["x", "one"], ["y"])], "then", [], [value("y")])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "else", [], [value("z")])
    return model_of(
        [helper.make_node("If", ["flag"], ["out"], then_branch=then, else_branch=other)],
        [value("x"), value("flag", (), TensorProto.BOOL)],
        [value("out")],
        [constant("one", 1)],
    )


def test_inner_graphs_follow() -> None:
    model = conditional()
    rename(model, {"x": "z", "flag": "one"}, {"out": "y"})
    np.testing.assert_array_equal(answers(model, z=X, one=np.array(True))["y"], X + 1)
    np.testing.assert_array_equal(answers(model, z=X, one=np.array(False))["y"], X)


def test_an_output_that_is_an_input_gets_its_own_name() -> None:
    model = model_of([], [value("x")], [value("x")])
    rename(model, {"x": "given"}, {"x": "same"})
    np.testing.assert_array_equal(answers(model, given=X)["same"], X)
    model = model_of([], [value("x")], [value("x")])
    rename(model, {"x": "given"}, {})
    np.testing.assert_array_equal(answers(model, given=X)["x"], X)


def test_an_output_that_is_a_constant_gets_its_own_name() -> None:
    model = chain()
    model.graph.output.append(value("two", ()))
    rename(model, {}, {"two": "scale"})
    assert answers(model, x=X)["scale"] == 2


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(NotConvertible, match="no input 'y'; it has x"):
        rename(chain(), {"y": "z"}, {})
    with pytest.raises(NotConvertible, match="no output 'y'; it has sum"):
        rename(chain(), {}, {"y": "z"})
    with pytest.raises(NotConvertible, match="no output 'y'; it has sum"):
        keep_outputs(chain(), ["y"])


def test_an_input_and_an_output_cannot_share_a_name() -> None:
    with pytest.raises(NotConvertible, match="two tensors named 'x'"):
        rename(chain(), {}, {"sum": "x"})


def test_dropped_outputs_take_along_what_only_they_need() -> None:
    model = chain()
    model.graph.output.append(value("logits"))
    keep_outputs(model, ["logits"])
    np.testing.assert_array_equal(answers(model, x=X)["logits"], X + 1)
    assert [node.op_type for node in model.graph.node] == ["Add"]
    assert [tensor.name for tensor in model.graph.initializer] == ["one"]


def test_outputs_come_in_the_wanted_order() -> None:
    model = chain()
    model.graph.output.append(value("logits"))
    keep_outputs(model, ["logits", "sum"])
    assert list(answers(model, x=X)) == ["logits", "sum"]


def test_what_an_inner_graph_reads_is_kept() -> None:
    model = conditional()
    model.graph.node.insert(0, helper.make_node("Neg", ["x"], ["unused"]))
    model.graph.output.append(value("unused"))
    keep_outputs(model, ["out"])
    np.testing.assert_array_equal(answers(model, x=X, flag=np.array(True))["out"], X + 1)
    assert [node.op_type for node in model.graph.node] == ["If"]


def dims(values: Any) -> list[Any]:
    return [[dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim] for one in values]


def signature(inputs: Any, outputs: Any, **arguments: Any) -> dict[str, Signature]:
    specs = [tuple(TensorSpec(name, "FP32", shape) for name, shape in side) for side in (inputs, outputs)]
    return {"__call__": Signature(inputs=specs[0], outputs=specs[1], **arguments)}


def test_the_batch_axis_is_called_batch_everywhere() -> None:
    model = chain()
    name_batch_axes(model, signature([("x", (-1, 3))], [("sum", (-1, 3))], batchable=True))
    graph = model.graph
    assert dims((*graph.input, *graph.output, *graph.value_info)) == [["batch", 3]] * 3


def test_the_batch_axis_may_differ_between_input_and_output() -> None:
    model = model_of(
        [helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])],
        [value("x", ("s", 3))],
        [value("y", (3, 2))],
    )
    name_batch_axes(model, signature([("x", (-1, 3))], [("y", (3, -1))], batchable=True, batch_dim=(0, 1)))
    assert dims((*model.graph.input, *model.graph.output)) == [["batch", 3], [3, "batch"]]
    assert answers(model, x=X)["y"].shape == (3, 2)


def test_other_dynamic_axes_become_symbolic_and_fixed_ones_fixed() -> None:
    model = model_of(
        [helper.make_node("Neg", ["x"], ["y"])], [value("x", ("a", "b"))], [value("y", (2, None))]
    )
    name_batch_axes(model, signature([("x", (-1, 3))], [("y", (-1, 3))]))
    assert dims((*model.graph.input, *model.graph.output)) == [["a", 3], ["y_0", 3]]


def test_a_shape_that_the_graph_does_not_know_comes_from_the_spec() -> None:
    model = model_of([helper.make_node("Neg", ["x"], ["y"])], [value("x")], [value("y", None)])
    name_batch_axes(model, signature([("x", (-1, 3))], [("y", (-1, 3))], batchable=True))
    assert dims(model.graph.output) == [["batch", 3]]


def test_another_number_of_axes_is_refused() -> None:
    with pytest.raises(NotConvertible, match="'sum' has 2 axes in the graph and 1 in the signature"):
        name_batch_axes(chain(), signature([("x", (-1, 3))], [("sum", (-1,))], batchable=True))
