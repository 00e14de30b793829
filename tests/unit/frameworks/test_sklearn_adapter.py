from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from frameworks import InvalidModel, LoadOptions, python, sklearn
from frameworks.errors import WrongModule
from store import ModelStore, TensorSpec

X, Y = load_iris(return_X_y=True)
BOTH = {"predict": {"batchable": True}, "predict_proba": {"batchable": True}}


@pytest.fixture(scope="module")
def classifier() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(X, Y)


def test_each_method_answers_as_the_estimator_does(models: ModelStore, classifier: Any) -> None:
    model = sklearn.save_model("iris", classifier, signatures=BOTH, store=models)
    methods = sklearn.open_methods(model, LoadOptions())
    np.testing.assert_array_equal(methods["predict"]({"x": X})["output_0"], classifier.predict(X))
    np.testing.assert_array_equal(methods["predict_proba"]({"x": X})["output_0"], classifier.predict_proba(X))


def test_predict_is_the_default_and_not_batchable(models: ModelStore, classifier: Any) -> None:
    model = sklearn.save_model("iris", classifier, store=models)
    assert model.info.to_dict()["signatures"] == {"predict": {"batchable": False}}
    assert list(model.info.context.framework_versions) == ["scikit-learn"]


def test_load_model_returns_the_estimator(models: ModelStore, classifier: Any) -> None:
    sklearn.save_model("iris", classifier, store=models)
    np.testing.assert_array_equal(
        sklearn.load_model("iris:latest", store=models).predict(X), classifier.predict(X)
    )


def test_a_sample_gives_specs_and_proves_independence(models: ModelStore, classifier: Any) -> None:
    model = sklearn.save_model("iris", classifier, signatures=BOTH, sample=X[::30], store=models)
    signature = model.info.signatures["predict_proba"]
    assert signature.inputs == (TensorSpec("X", "FP64", (-1, 4)),)
    assert signature.outputs == (TensorSpec("output_0", "FP64", (-1, 3)),)
    checks: Any = model.info.checks
    assert checks["batch_invariance"]["predict_proba"]["invariant"]
    named = sklearn.open_methods(model, LoadOptions())["predict"]({"X": X})
    np.testing.assert_array_equal(named["output_0"], classifier.predict(X))


def test_code_inside_an_estimator_is_stored_too(models: ModelStore) -> None:
    estimator = FunctionTransformer(lambda x: x + 1).fit(X)
    model = sklearn.save_model("plus", estimator, signatures={"transform": {}}, store=models)
    np.testing.assert_array_equal(
        sklearn.open_methods(model, LoadOptions())["transform"]({"X": X})["output_0"], X + 1
    )


def test_sparse_results_are_answered_dense(models: ModelStore) -> None:
    texts = ["red apple", "green apple", "red car"]
    vectorizer = TfidfVectorizer().fit(texts)
    model = sklearn.save_model("words", vectorizer, signatures={"transform": {}}, store=models)
    given = np.array([text.encode() for text in texts], dtype=object)
    result = sklearn.open_methods(model, LoadOptions())["transform"]({"raw_documents": given})["output_0"]
    np.testing.assert_array_equal(result, vectorizer.transform(texts).toarray())


def test_text_labels_are_answered_as_bytes(models: ModelStore) -> None:
    names = np.array(["setosa", "versicolor", "virginica"])[Y]
    model = sklearn.save_model("names", LogisticRegression(max_iter=500).fit(X, names), store=models)
    assert sklearn.open_methods(model, LoadOptions())["predict"]({"X": X[:1]})["output_0"].tolist() == [
        b"setosa"
    ]


def test_only_estimators_with_the_methods_are_taken(models: ModelStore, classifier: Any) -> None:
    with pytest.raises(InvalidModel, match="no scikit-learn estimator"):
        sklearn.save_model("function", len, store=models)
    with pytest.raises(InvalidModel, match="no method 'embed'"):
        sklearn.save_model("iris", classifier, signatures={"embed": {}}, store=models)


def test_models_of_other_adapters_are_refused(models: ModelStore) -> None:
    python.save_model("function", len, store=models)
    with pytest.raises(WrongModule):
        sklearn.get("function", store=models)


def test_integers_stay_integers(models: ModelStore, classifier: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = sklearn.save_model("iris", classifier, store=models)
        result = sklearn.open_methods(model, LoadOptions())["predict"]({"X": X.astype(np.int32)})["output_0"]
    assert result.dtype == classifier.predict(X).dtype
