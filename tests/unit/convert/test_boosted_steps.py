from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.semi_supervised import LabelPropagation

from frameworks.convert.work import NotConvertible
from tests.support.tree_conversion import BOTH, FEW, NAMES, QUIET, STEPS, Bench, D, T, X, Y


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("labels", [Y, Y > 0, (Y * 0.5).astype(int)], ids=["three", "two", "uneven"])
@pytest.mark.parametrize("module", ["xgboost", "lightgbm"])
def test_boosted_classifiers_answer_alike(bench: Bench, module: str, labels: Any, dtype: Any) -> None:
    features = X.astype(dtype)
    estimator: Any = xgboost.XGBClassifier(**FEW) if module == "xgboost" else lightgbm.LGBMClassifier(**QUIET)
    found = bench.convert(module, estimator.fit(features, labels), features, BOTH)
    assert found.made.methods == BOTH
    for method in BOTH:
        found.same(features, method)


@pytest.mark.parametrize("module", ["xgboost", "lightgbm"])
def test_missing_values_take_the_same_way(bench: Bench, module: str) -> None:
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    for trained_on in (X - 3, holes):
        estimator: Any = (
            xgboost.XGBClassifier(**FEW) if module == "xgboost" else lightgbm.LGBMClassifier(**QUIET)
        )
        found = bench.convert(module, estimator.fit(trained_on, Y), holes, BOTH)
        for method in BOTH:
            found.same(holes, method)


@pytest.mark.parametrize(
    "estimator",
    [
        xgboost.XGBClassifier(**FEW, missing=0.2),
        xgboost.XGBClassifier(**FEW, booster="dart", rate_drop=0.5),
        xgboost.XGBClassifier(**FEW, objective="multi:softmax"),
        xgboost.XGBRFClassifier(**FEW),
    ],
    ids=["missing", "dart", "softmax", "forest"],
)
def test_kinds_of_xgboost_classifiers_answer_alike(bench: Bench, estimator: Any) -> None:
    found = bench.convert("xgboost", estimator.fit(X, Y), X, BOTH)
    for method in BOTH:
        found.same(X, method)


def test_training_that_stopped_early_is_converted_up_to_its_best_iteration(bench: Bench) -> None:
    estimator = xgboost.XGBClassifier(
        n_estimators=40, early_stopping_rounds=3, eval_metric="mlogloss", random_state=0
    ).fit(X[::2], Y[::2], eval_set=[(X[1::2], Y[1::2])], verbose=False)
    assert estimator.best_iteration < 39
    found = bench.convert("xgboost", estimator, X, BOTH)
    found.same(X, "predict_proba")


@pytest.mark.parametrize(
    "objective",
    ["reg:squarederror", "reg:absoluteerror", "count:poisson", "reg:gamma", "reg:tweedie", "two targets"],
)
def test_xgboost_regressors_answer_alike(bench: Bench, objective: str) -> None:
    target = np.stack((T, -T), axis=1) if objective == "two targets" else T
    kind = {} if objective == "two targets" else {"objective": objective}
    found = bench.convert("xgboost", xgboost.XGBRegressor(**FEW, **kind).fit(D, target), D, ["predict"])
    found.same(D, "predict")


@pytest.mark.parametrize(
    "objective", ["binary:logistic", "binary:logitraw", "binary:hinge", "multi:softprob", "multi:softmax"]
)
def test_xgboost_boosters_answer_alike(bench: Bench, objective: str) -> None:
    several = objective.startswith("multi")
    settings = {"objective": objective, **({"num_class": 3} if several else {})}
    booster = xgboost.train(settings, xgboost.DMatrix(X, Y if several else Y > 0), 9)
    found = bench.convert("xgboost", booster, X, ["predict"])
    found.same(X, "predict")


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "regression"},
        {"objective": "regression", "reg_sqrt": True},
        {"objective": "poisson"},
        {"objective": "quantile"},
        {"objective": "cross_entropy"},
        {"objective": "cross_entropy_lambda"},
        {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_lightgbm_boosters_answer_alike(bench: Bench, settings: dict[str, Any]) -> None:
    target = T / 400 if "cross" in str(settings) else T
    booster = lightgbm.train({**settings, "verbose": -1, "num_threads": 1}, lightgbm.Dataset(D, target), 9)
    found = bench.convert("lightgbm", booster, D, ["predict"])
    found.same(D, "predict")


@pytest.mark.parametrize(
    "options",
    [{"objective": "multiclassova"}, {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}],
    ids=["one against all", "forest"],
)
def test_kinds_of_lightgbm_classifiers_answer_alike(bench: Bench, options: dict[str, Any]) -> None:
    estimator = lightgbm.LGBMClassifier(**QUIET, **options).fit(X, NAMES)
    found = bench.convert("lightgbm", estimator, X, BOTH)
    for method in BOTH:
        found.same(X, method)


def categories() -> Any:
    kind = np.random.default_rng(0).integers(0, 8, 300).astype(float)
    return lightgbm.LGBMClassifier(**QUIET, min_data_per_group=1, cat_smooth=0).fit(
        kind[:, None], np.isin(kind, [1, 3, 6]), categorical_feature=[0]
    )


def zeros() -> Any:
    return lightgbm.LGBMClassifier(**QUIET, zero_as_missing=True).fit(np.round(X - 3), Y)


def lines() -> Any:
    return lightgbm.LGBMRegressor(**QUIET, linear_tree=True).fit(D, T)


def histogram_categories() -> Any:
    return HistGradientBoostingRegressor(max_iter=2, categorical_features=[0]).fit(np.round(X), Y)


def xgboost_categories() -> Any:
    kind = np.random.default_rng(0).integers(0, 8, (300, 1)).astype(float)
    data = xgboost.DMatrix(kind, np.isin(kind, [1, 3, 6]), feature_types=["c"], enable_categorical=True)
    return xgboost.train({"objective": "binary:logistic", "max_cat_to_onehot": 1}, data, 3)


def vectors() -> Any:
    return xgboost.XGBRegressor(**FEW, multi_strategy="multi_output_tree").fit(D, np.stack((T, -T), axis=1))


def weights() -> Any:
    return xgboost.train({"booster": "gblinear"}, xgboost.DMatrix(D, T), 3)


@pytest.mark.parametrize(
    ("module", "make", "features", "message"),
    [
        ("sklearn", lambda: LabelPropagation().fit(X, Y), X, "a LabelPropagation has no form in ONNX"),
        ("lightgbm", categories, X[:, :1], "splits by category"),
        ("lightgbm", zeros, X, "take zero for missing"),
        ("lightgbm", lines, D, "linear models"),
        ("sklearn", histogram_categories, X, "HistGradientBoostingRegressor that are categories"),
        ("xgboost", xgboost_categories, X[:, :1], "splits by category"),
        ("xgboost", vectors, D, "several values in a leaf"),
        ("xgboost", weights, D, "'gblinear' is no trees"),
    ],
    ids=["estimator", "categories", "zeros", "lines", "histogram", "kinds", "vectors", "linear"],
)
def test_what_has_no_form_in_onnx_is_refused_by_name(
    bench: Bench, module: str, make: Any, features: Any, message: str
) -> None:
    with pytest.raises(NotConvertible, match=message):
        STEPS[module](bench.work(module, make(), features, ["predict"]))
    assert not (bench.folder / "model.onnx").exists()
