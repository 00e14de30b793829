from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC

from frameworks import LoadOptions
from frameworks.convert.steps import trees
from frameworks.convert.work import NotConvertible, Settings
from frameworks.ort.session import OUTPUTS_KEY, open_session
from tests.support.tree_conversion import BOTH, FEW, NAMES, QUIET, Bench, D, T, X, Y


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(**FEW),
        LogisticRegression(max_iter=500),
        GradientBoostingClassifier(n_estimators=5),
        HistGradientBoostingClassifier(max_iter=5),
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(), PCA(3), LogisticRegression()),
        make_pipeline(StandardScaler(), RandomForestClassifier(**FEW)),
    ],
    ids=["forest", "linear", "boosting", "histogram", "scaled", "components", "scaled forest"],
)
def test_a_classifier_answers_both_methods_from_one_graph(bench: Bench, estimator: Any, dtype: Any) -> None:
    features = X.astype(dtype)
    found = bench.convert("sklearn", estimator.fit(features, NAMES), features, BOTH)
    assert found.made.methods == BOTH
    assert not found.made.facts["left_out"]
    for method in BOTH:
        found.same(features, method)
    assert found.model.info.signatures["predict"].outputs is not None
    assert found.model.info.signatures["predict"].outputs[0].datatype == "BYTES"


def test_the_graph_says_names_axes_and_methods(bench: Bench) -> None:
    found = bench.convert("sklearn", RandomForestClassifier(**FEW).fit(X, Y), X, BOTH, opset=15)
    session = open_session(found.target, LoadOptions())
    assert [(node.name, node.type, node.shape) for node in session.get_inputs()] == [
        ("X", "tensor(double)", ["batch", 4])
    ]
    assert [(node.name, node.type, node.shape) for node in session.get_outputs()] == [
        ("predict_output_0", "tensor(int64)", ["batch"]),
        ("predict_proba_output_0", "tensor(double)", ["batch", 3]),
    ]
    assert session.get_modelmeta().custom_metadata_map == {
        f"{OUTPUTS_KEY}predict": '["predict_output_0"]',
        f"{OUTPUTS_KEY}predict_proba": '["predict_proba_output_0"]',
    }
    assert found.made.facts["opset"] == 15
    assert [path.name for path in found.target.parent.iterdir() if path.is_file()] == ["model.onnx"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize(
    "scaler",
    [StandardScaler(), StandardScaler(with_mean=False), MinMaxScaler(), MaxAbsScaler(), RobustScaler()],
)
def test_scaled_values_of_a_grid_take_the_same_branch(bench: Bench, scaler: Any, dtype: Any) -> None:
    features = np.random.default_rng(0).integers(0, 30, (400, 3)).astype(dtype)
    if dtype is not np.int64:
        features /= 10
    trained = make_pipeline(scaler, xgboost.XGBClassifier(**FEW)).fit(features, features.sum(axis=1) > 4)
    found = bench.convert("sklearn", trained, features, BOTH)
    for method in BOTH:
        found.same(features, method)


def test_a_row_on_a_threshold_takes_the_same_branch(bench: Bench) -> None:
    forest = RandomForestClassifier(**FEW).fit(X[:, :2], Y)
    edges = np.unique(np.concatenate([tree.tree_.threshold for tree in forest.estimators_]))
    grid = np.array(np.meshgrid(edges, edges)).reshape(2, -1).T
    found = bench.convert("sklearn", forest, grid, BOTH)
    for method in BOTH:
        found.same(grid, method)


@pytest.mark.parametrize("labels", [Y > 0, Y + 5.0, (Y > 1).astype(np.int8)], ids=["truth", "floats", "two"])
def test_labels_keep_their_datatype(bench: Bench, labels: Any) -> None:
    methods = (*BOTH, "decision_function", "predict_log_proba")
    found = bench.convert("sklearn", LogisticRegression(max_iter=500).fit(X, labels), X, methods)
    assert found.made.methods == methods
    for method in methods:
        found.same(X, method)


@pytest.mark.parametrize(
    ("estimator", "target", "methods"),
    [
        (RandomForestRegressor(**FEW), T, ("predict",)),
        (RandomForestRegressor(**FEW), np.stack((T, -T), axis=1), ("predict",)),
        (LinearRegression(), T, ("predict",)),
        (HistGradientBoostingRegressor(max_iter=9, loss="gamma"), T, ("predict",)),
        (KMeans(3, random_state=0), None, ("predict", "transform")),
        (IsolationForest(n_estimators=5, random_state=0), None, ("predict", "decision_function")),
        (make_pipeline(StandardScaler(), PCA(3)), None, ("transform",)),
        (LinearSVC(), T > 140, ("predict", "decision_function")),
    ],
    ids=["forest", "two targets", "linear", "histogram", "clusters", "outliers", "transformer", "svm"],
)
def test_other_estimators_answer_alike(bench: Bench, estimator: Any, target: Any, methods: Any) -> None:
    found = bench.convert("sklearn", estimator.fit(D, target), D, methods)
    assert found.made.methods == methods
    for method in methods:
        found.same(D, method)


@pytest.mark.parametrize(
    "final", [xgboost.XGBClassifier(**FEW), lightgbm.LGBMClassifier(**QUIET)], ids=["xgboost", "lightgbm"]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_a_pipeline_may_end_in_boosted_trees(bench: Bench, final: Any, dtype: Any) -> None:
    features = X.astype(dtype)
    pipeline = make_pipeline(StandardScaler(), final).fit(features, Y)
    found = bench.convert("sklearn", pipeline, features, BOTH)
    for method in BOTH:
        found.same(features, method)


def test_a_method_without_a_form_in_onnx_is_left_out_and_told(bench: Bench) -> None:
    forest = RandomForestClassifier(**FEW).fit(X, Y)
    found = bench.convert("sklearn", forest, X, ("predict", "apply"))
    assert found.made.methods == ("predict",)
    left_out: Any = found.made.facts["left_out"]
    assert "'apply' of a RandomForestClassifier" in left_out["apply"]
    assert [node.name for node in open_session(found.target, LoadOptions()).get_outputs()] == ["output_0"]
    found.same(X, "predict")


def test_a_method_whose_conversion_is_wrong_is_left_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = bench.work("sklearn", LogisticRegression(max_iter=500).fit(X, Y), X, BOTH)
    monkeypatch.setattr(LogisticRegression, "predict_proba", lambda self, X: self.decision_function(X))
    made = trees.sklearn_onnx(work)
    assert made.methods == ("predict",)
    left_out: Any = made.facts["left_out"]
    assert left_out["predict_proba"] == (
        "method 'predict_proba': the converter's graph answers something else than the model"
    )


def test_histogram_trees_answer_scores_and_missing_values_alike(bench: Bench) -> None:
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    for labels in (Y > 0, NAMES):
        estimator = HistGradientBoostingClassifier(max_iter=5).fit(holes, labels)
        found = bench.convert("sklearn", estimator, holes, (*BOTH, "decision_function"))
        for method in found.made.methods:
            found.same(holes, method)
        assert len(found.made.methods) == 3


def test_work_that_cannot_be_done_is_refused(bench: Bench) -> None:
    work = bench.work("sklearn", LinearRegression().fit(D, T), D, ["predict"])
    signature = work.signatures["predict"]
    with pytest.raises(NotConvertible, match="starts from a saved model"):
        trees.sklearn_onnx(replace(work, model=None))
    with pytest.raises(NotConvertible, match="has no specs; save it with a sample"):
        trees.sklearn_onnx(replace(work, signatures={"predict": replace(signature, outputs=None)}))
    with pytest.raises(NotConvertible, match="takes 0 inputs"):
        trees.sklearn_onnx(replace(work, signatures={"predict": replace(signature, inputs=())}))
    with pytest.raises(NotConvertible, match="opset 12 is too old"):
        trees.sklearn_onnx(replace(work, settings=Settings(opset=12)))
