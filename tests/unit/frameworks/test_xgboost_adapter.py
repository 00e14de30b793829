from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import xgboost as xgboost_library
from sklearn.datasets import load_diabetes, load_iris

from frameworks import InvalidModel, LoadOptions, gpu, xgboost
from frameworks.errors import WrongModule
from store import ModelStore, TensorSpec

X, Y = load_iris(return_X_y=True)
D, T = load_diabetes(return_X_y=True)
BOTH = {"predict": {"batchable": True}, "predict_proba": {"batchable": True}}

FRESH = """
import json, sys
import numpy
from frameworks import LoadOptions, xgboost
from store import ModelStore
model = ModelStore(sys.argv[1]).get(sys.argv[2])
methods = xgboost.open_methods(model, LoadOptions())
features = numpy.load(sys.argv[3])
answers = {name: method({"features": features})["output_0"] for name, method in methods.items()}
print(json.dumps({name: [str(a.dtype), a.tolist()] for name, a in answers.items()}))
"""


@pytest.fixture(scope="module")
def classifier() -> Any:
    return xgboost_library.XGBClassifier(n_estimators=9, random_state=0).fit(X, Y)


@pytest.fixture(scope="module")
def booster() -> Any:
    return xgboost_library.train(
        {"objective": "multi:softprob", "num_class": 3}, xgboost_library.DMatrix(X, Y), 9
    )


def run(model: Any, method: str, features: Any, **options: Any) -> Any:
    answer = xgboost.open_methods(model, LoadOptions(**options))[method]({"features": features})
    assert isinstance(answer, dict)
    return answer["output_0"]


def test_a_classifier_answers_labels_and_probabilities(models: ModelStore, classifier: Any) -> None:
    model = xgboost.save_model("iris", classifier, signatures=BOTH, sample=X[:5], store=models)
    for rows in (1, 2, 7):
        for features in (X[:rows], X[:rows].astype(np.float32), X[:rows].astype(np.int32)):
            np.testing.assert_array_equal(run(model, "predict", features), classifier.predict(features))
            np.testing.assert_array_equal(
                run(model, "predict_proba", features, threads=2), classifier.predict_proba(features)
            )
    signature = model.info.signatures["predict"]
    assert signature.inputs == (TensorSpec("features", "FP64", (-1, 4)),)
    assert signature.outputs == (TensorSpec("output_0", "INT64", (-1,)),)
    assert not model.info.pickled


FEW: Any = {"n_estimators": 5, "random_state": 0}
TWO, SEVERAL = Y > 0, np.stack((Y > 0, Y > 1, X[:, 0] > 5), axis=1).astype(int)
GROUPS = np.arange(len(Y)) // 10
KINDS: dict[str, Any] = {
    "binary": lambda: xgboost_library.XGBClassifier(**FEW).fit(X, TWO),
    "raw": lambda: xgboost_library.XGBClassifier(objective="binary:logitraw", **FEW).fit(X, TWO),
    "softmax": lambda: xgboost_library.XGBClassifier(objective="multi:softmax", **FEW).fit(X, Y),
    "labels": lambda: xgboost_library.XGBClassifier(**FEW).fit(X, SEVERAL),
    "dart": lambda: xgboost_library.XGBClassifier(booster="dart", **FEW).fit(X, Y),
    "linear": lambda: xgboost_library.XGBClassifier(booster="gblinear", **FEW).fit(X, Y),
    "missing": lambda: xgboost_library.XGBClassifier(missing=0.2, **FEW).fit(X, Y),
    "forest": lambda: xgboost_library.XGBRFClassifier(**FEW).fit(X, Y),
    "several": lambda: xgboost_library.XGBRegressor(**FEW).fit(X, SEVERAL),
    "ranker": lambda: xgboost_library.XGBRanker(**FEW).fit(X, Y, qid=GROUPS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_the_estimators_own_bit_for_bit(models: ModelStore, kind: str) -> None:
    estimator = KINDS[kind]()
    methods = [name for name in BOTH if hasattr(estimator, name)]
    model = xgboost.save_model(
        "m", estimator, signatures={name: BOTH[name] for name in methods}, sample=X[:4], store=models
    )
    for rows in (1, 2, len(X)):
        for method in methods:
            answer, expected = run(model, method, X[:rows].copy()), getattr(estimator, method)(X[:rows])
            assert (answer.dtype, answer.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(answer, expected)


def test_another_number_of_features_is_refused(models: ModelStore, classifier: Any) -> None:
    model = xgboost.save_model("iris", classifier, signatures=BOTH, store=models)
    for method in BOTH:
        with pytest.raises(ValueError, match="Feature shape mismatch, expected: 4, got 3"):
            run(model, method, X[:2, :3].copy())


def test_a_fresh_process_answers_the_same(models: ModelStore, classifier: Any, tmp_path: Any) -> None:
    xgboost.save_model("iris", classifier, signatures=BOTH, store=models)
    np.save(tmp_path / "x.npy", X)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", FRESH, str(models.root), "iris", str(tmp_path / "x.npy")],
        capture_output=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr.decode()
    answers = json.loads(result.stdout)
    assert answers["predict"] == ["int64", classifier.predict(X).tolist()]
    assert answers["predict_proba"] == ["float32", classifier.predict_proba(X).tolist()]


def test_the_estimator_comes_back_with_what_its_file_leaves_out(models: ModelStore) -> None:
    holes = np.where(X < 1, -1, X)
    estimator = xgboost_library.XGBClassifier(n_estimators=9, missing=-1.0).fit(holes, Y)
    restored = xgboost.load_model(xgboost.save_model("holes", estimator, store=models))
    assert type(restored) is xgboost_library.XGBClassifier
    assert restored.missing == -1.0
    assert restored.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(restored.predict_proba(holes), estimator.predict_proba(holes))


def test_training_that_stopped_early_keeps_its_best_iteration(models: ModelStore) -> None:
    estimator = xgboost_library.XGBClassifier(
        n_estimators=40, early_stopping_rounds=3, eval_metric="mlogloss", random_state=0
    ).fit(X[::2], Y[::2], eval_set=[(X[1::2], Y[1::2])], verbose=False)
    assert estimator.best_iteration < 39
    model = xgboost.save_model("early", estimator, signatures=BOTH, store=models)
    np.testing.assert_array_equal(run(model, "predict_proba", X), estimator.predict_proba(X))


@pytest.mark.parametrize("kind", ["XGBRegressor", "XGBRFRegressor"])
def test_a_regressor_answers_as_it_does(models: ModelStore, kind: str) -> None:
    estimator = getattr(xgboost_library, kind)(n_estimators=9).fit(D, T)
    model = xgboost.save_model("regressor", estimator, store=models)
    np.testing.assert_array_equal(run(model, "predict", D), estimator.predict(D))
    assert type(xgboost.load_model(model)).__name__ == kind


def test_missing_values_stay_missing(models: ModelStore, classifier: Any) -> None:
    features = X.copy()
    features[::3, 2] = np.nan
    model = xgboost.save_model("iris", classifier, signatures=BOTH, store=models)
    np.testing.assert_array_equal(run(model, "predict_proba", features), classifier.predict_proba(features))


@pytest.mark.parametrize("kind", ["gbtree", "dart", "gblinear"])
def test_a_booster_answers_as_it_does(models: ModelStore, kind: str) -> None:
    data = xgboost_library.DMatrix(D, T)
    trained = xgboost_library.train({"booster": kind, "seed": 0}, data, 5)
    model = xgboost.save_model("booster", trained, store=models)
    # in place, the trees of dart are summed in another order
    tolerance = {"rtol": 1e-6} if kind == "dart" else {"rtol": 0}
    reference = trained.predict(xgboost_library.DMatrix(D))
    np.testing.assert_allclose(run(model, "predict", D), reference, **tolerance)
    assert isinstance(xgboost.load_model(model), xgboost_library.Booster)


def test_the_default_signature_says_how_many_features(models: ModelStore, booster: Any) -> None:
    model = xgboost.save_model("booster", booster, store=models)
    assert list(model.info.signatures) == ["predict"]
    assert model.info.signatures["predict"].inputs == (TensorSpec("features", "FP32", (-1, 4)),)
    assert list(model.info.context.framework_versions) == ["xgboost"]


def test_what_cannot_be_saved_is_refused(models: ModelStore, booster: Any) -> None:
    with pytest.raises(InvalidModel, match=r"neither an xgboost\.Booster nor"):
        xgboost.save_model("m", len, store=models)
    with pytest.raises(InvalidModel, match="not trained"):
        xgboost.save_model("m", xgboost_library.XGBRegressor(), store=models)
    with pytest.raises(InvalidModel, match="has one method, 'predict'"):
        xgboost.save_model("m", booster, signatures=BOTH, store=models)
    with pytest.raises(InvalidModel, match="no method 'embed'"):
        xgboost.save_model(
            "m",
            xgboost_library.XGBRegressor(n_estimators=1).fit(X, Y),
            signatures={"embed": {}},
            store=models,
        )


def test_unknown_devices_and_settings_are_refused(models: ModelStore, booster: Any) -> None:
    model = xgboost.save_model("booster", booster, store=models)
    for device in ("nonsense", "cpu:1", "cuda:x"):
        with pytest.raises(InvalidModel, match="knows no device"):
            xgboost.load_model(model, device=device)
    with pytest.raises(InvalidModel, match="no load option 'tree'"):
        xgboost.open_methods(model, LoadOptions(settings={"tree": 1}))


@pytest.mark.skipif(gpu.find_gpu() is not None, reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused_and_not_replaced(models: ModelStore, booster: Any) -> None:
    model = xgboost.save_model("booster", booster, store=models)
    with pytest.raises(InvalidModel, match="no NVIDIA GPU") as caught:
        xgboost.open_methods(model, LoadOptions(device="cuda:0"))
    assert caught.value.field == "device"


def test_models_of_other_adapters_are_refused(models: ModelStore) -> None:
    from frameworks import python

    python.save_model("function", len, store=models)
    with pytest.raises(WrongModule):
        xgboost.get("function", store=models)
