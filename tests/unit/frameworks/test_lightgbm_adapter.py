from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import lightgbm as lightgbm_library
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris

from frameworks import InvalidModel, LoadOptions, lightgbm
from frameworks.errors import WrongModule
from store import ModelStore, TensorSpec

X, Y = load_iris(return_X_y=True)
D, T = load_diabetes(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
BOTH = {"predict": {"batchable": True}, "predict_proba": {"batchable": True}}
QUIET = {"n_estimators": 9, "verbose": -1, "n_jobs": 1}

FRESH = """
import json, sys
import numpy
from frameworks import LoadOptions, lightgbm
from store import ModelStore
methods = lightgbm.open_methods(ModelStore(sys.argv[1]).get(sys.argv[2]), LoadOptions())
features = numpy.load(sys.argv[3])
answers = {name: method({"features": features})["output_0"] for name, method in methods.items()}
print(json.dumps({
    name: [a.astype(str).tolist() if a.dtype.kind == "O" else a.tolist()] for name, a in answers.items()
}))
"""


def classifier(labels: Any) -> Any:
    return lightgbm_library.LGBMClassifier(**QUIET).fit(X, labels)


def expected(estimator: Any, method: str, features: Any) -> Any:
    """What the booster's own scikit-learn interface answers, which warns that arrays have no names."""
    values = getattr(estimator, method)(features, validate_features=False)
    return np.array([str(v).encode() for v in values], dtype=object) if values.dtype.kind in "UO" else values


def run(model: Any, method: str, features: Any, **options: Any) -> Any:
    answer = lightgbm.open_methods(model, LoadOptions(**options))[method]({"features": features})
    assert isinstance(answer, dict)
    return answer["output_0"]


@pytest.mark.parametrize(
    "labels",
    [Y, NAMES, NAMES.astype(object), Y > 0, Y + 5.0, (Y > 1).astype(np.int8)],
    ids=["integers", "text", "objects", "truth", "floats", "two"],
)
def test_a_classifier_answers_its_own_labels(models: ModelStore, labels: Any) -> None:
    estimator = classifier(labels)
    model = lightgbm.save_model("iris", estimator, signatures=BOTH, sample=X[:5], store=models)
    for rows in (1, 2, 7, 150):
        for method in BOTH:
            answer = run(model, method, X[:rows])
            reference = expected(estimator, method, X[:rows])
            assert answer.dtype == reference.dtype
            np.testing.assert_array_equal(answer, reference)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_features_keep_their_datatype(models: ModelStore, dtype: Any) -> None:
    estimator = classifier(Y)
    features = X.astype(dtype)
    model = lightgbm.save_model("iris", estimator, signatures=BOTH, store=models)
    np.testing.assert_array_equal(
        run(model, "predict_proba", features, threads=2), estimator.booster_.predict(features)
    )


def test_a_fresh_process_answers_the_same_and_is_quiet(models: ModelStore, tmp_path: Any) -> None:
    estimator = classifier(NAMES)
    lightgbm.save_model("iris", estimator, signatures=BOTH, store=models)
    np.save(tmp_path / "x.npy", X)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", FRESH, str(models.root), "iris", str(tmp_path / "x.npy")],
        capture_output=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, b"")
    answers = json.loads(result.stdout)
    assert answers["predict"] == [estimator.predict(X).tolist()]
    assert answers["predict_proba"] == [estimator.predict_proba(X).tolist()]


@pytest.mark.parametrize("labels", [Y, NAMES, Y > 0], ids=["integers", "text", "truth"])
def test_load_model_returns_an_estimator_that_predicts_alike(models: ModelStore, labels: Any) -> None:
    estimator = classifier(labels)
    restored = lightgbm.load_model(lightgbm.save_model("iris", estimator, store=models))
    assert type(restored) is lightgbm_library.LGBMClassifier
    np.testing.assert_array_equal(restored.classes_, estimator.classes_)
    np.testing.assert_array_equal(restored.predict(X), estimator.predict(X))
    np.testing.assert_array_equal(restored.predict_proba(X), estimator.predict_proba(X))


def test_regressors_and_boosters_answer_as_they_do(models: ModelStore) -> None:
    estimator = lightgbm_library.LGBMRegressor(**QUIET).fit(D, T)
    for trained in (estimator, estimator.booster_):
        model = lightgbm.save_model("regressor", trained, store=models)
        np.testing.assert_array_equal(run(model, "predict", D), estimator.booster_.predict(D))
        restored = lightgbm.load_model(model)
        assert type(restored) is type(trained)
        np.testing.assert_array_equal(restored.predict(D), estimator.booster_.predict(D))
        assert model.info.signatures["predict"].inputs == (TensorSpec("features", "FP32", (-1, 10)),)
        assert not model.info.pickled


def test_missing_values_stay_missing(models: ModelStore) -> None:
    features = X.copy()
    features[::3, 2] = np.nan
    estimator = lightgbm_library.LGBMClassifier(**QUIET).fit(features, Y)
    model = lightgbm.save_model("iris", estimator, signatures=BOTH, store=models)
    np.testing.assert_array_equal(run(model, "predict_proba", features), estimator.booster_.predict(features))


def test_what_cannot_be_saved_is_refused(models: ModelStore) -> None:
    with pytest.raises(InvalidModel, match=r"neither a lightgbm\.Booster nor"):
        lightgbm.save_model("m", len, store=models)
    with pytest.raises(InvalidModel, match="not trained"):
        lightgbm.save_model("m", lightgbm_library.LGBMRegressor(), store=models)
    own = lightgbm_library.LGBMRegressor(objective=lambda y, p: (p - y, np.ones_like(y)), **QUIET).fit(D, T)
    with pytest.raises(InvalidModel, match="objective of its own"):
        lightgbm.save_model("m", own, store=models)
    with pytest.raises(InvalidModel, match="no method 'embed'; it has predict, predict_proba"):
        lightgbm.save_model("m", classifier(Y), signatures={"embed": {}}, store=models)
    with pytest.raises(InvalidModel, match=r"no method 'predict_proba'; it has predict$"):
        lightgbm.save_model("m", classifier(Y).booster_, signatures=BOTH, store=models)


def test_gpus_and_unknown_settings_are_refused(models: ModelStore) -> None:
    model = lightgbm.save_model("iris", classifier(Y), store=models)
    with pytest.raises(InvalidModel, match="predicts on the CPU") as caught:
        lightgbm.open_methods(model, LoadOptions(device="cuda:0"))
    assert caught.value.field == "device"
    with pytest.raises(InvalidModel, match="no load option 'tree'"):
        lightgbm.open_methods(model, LoadOptions(settings={"tree": 1}))


def test_models_of_other_adapters_are_refused(models: ModelStore) -> None:
    from frameworks import python

    python.save_model("function", len, store=models)
    with pytest.raises(WrongModule):
        lightgbm.get("function", store=models)
