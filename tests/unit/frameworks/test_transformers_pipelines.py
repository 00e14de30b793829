from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import transformers as hugging

from frameworks import InvalidModel, LoadOptions, SampleFailed, UnsupportedInput
from frameworks import transformers as adapter
from store import ModelStore, TensorSpec
from tests.support import hugging as tiny
from tests.support.hugging import pipeline

TEXTS = [b"the cat sat", b"a dog ran in the park on the mat", b"dog"]
BATCHABLE = {"__call__": {"batchable": True}}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.tokenizer()


@pytest.fixture(scope="module")
def classifier() -> Any:
    return tiny.build(hugging.BertForSequenceClassification, tiny.bert_config())


@pytest.fixture(scope="module")
def gpt() -> Any:
    return tiny.build(hugging.GPT2LMHeadModel, tiny.gpt_config())


def texts(items: list[bytes]) -> Any:
    return np.array(items, dtype=object)


def call(model: Any, inputs: dict[str, Any], **settings: Any) -> Any:
    opened = adapter.open_methods(model, LoadOptions(settings=settings))["__call__"]
    return opened({name: array.copy() for name, array in inputs.items()})


def test_a_text_pipeline_answers_each_text_as_alone(
    models: ModelStore, classifier: Any, tokenizer: Any
) -> None:
    pipe = pipeline("sentiment-analysis", classifier, tokenizer)
    model = adapter.save_model("texts", pipe, sample={"text": texts(TEXTS)}, store=models)
    signature = model.info.signatures["__call__"]
    assert signature.batchable
    assert signature.inputs == (TensorSpec("text", "BYTES", (-1,)),)
    assert [spec.name for spec in signature.outputs or ()] == ["label", "score"]
    checks: Any = model.info.checks
    assert checks["batch_invariance"]["__call__"]["invariant"]
    alone = [pipe(text.decode())[0] for text in TEXTS]
    result = call(model, {"text": texts(TEXTS)})
    assert result["label"].tolist() == [each["label"].encode() for each in alone]
    np.testing.assert_allclose(result["score"], [each["score"] for each in alone], atol=1e-6)
    assert isinstance(adapter.load_model(model), hugging.TextClassificationPipeline)


@pytest.mark.parametrize(
    ("task", "kind", "load"),
    [
        ("ner", hugging.BertForTokenClassification, {}),
        ("token-classification", hugging.BertForTokenClassification, {"aggregation_strategy": "simple"}),
        ("fill-mask", hugging.BertForMaskedLM, {"top_k": 2}),
        ("text-classification", hugging.BertForSequenceClassification, {"top_k": 2}),
    ],
)
def test_other_text_pipelines_answer_in_json(
    models: ModelStore, tokenizer: Any, task: str, kind: Any, load: Any
) -> None:
    rows = [b"the [MASK] sat", b"a dog ran in the [MASK] park"]
    pipe = pipeline(task, tiny.build(kind, tiny.bert_config()), tokenizer, **load)
    model = adapter.save_model(
        "texts", pipe, options={"load": load}, sample={"text": texts(rows)}, store=models
    )
    result = call(model, {"text": texts(rows)})["json"]
    for answer, row in zip(result, rows, strict=True):
        expected = pipe(row.decode())
        if task == "text-classification":  # a pipeline's short form for one text
            (expected,) = expected
        assert json.loads(answer) == json.loads(json.dumps(expected, default=float))


def test_features_are_one_vector_per_text(models: ModelStore, tokenizer: Any) -> None:
    base = tiny.build(hugging.BertModel, tiny.bert_config())
    pipe = pipeline("feature-extraction", base, tokenizer)
    model = adapter.save_model("features", pipe, sample=texts(TEXTS), store=models)
    result = call(model, {"text": texts(TEXTS)})["features"]
    states = [np.array(pipe(text.decode())[0]) for text in TEXTS]
    np.testing.assert_allclose(result, [state.mean(axis=0) for state in states], atol=1e-6)
    first = call(model, {"text": texts(TEXTS)}, pooling="first", rows_at_once=2)
    np.testing.assert_allclose(first["features"], [state[0] for state in states], atol=1e-6)


def test_a_generating_pipeline_returns_text(models: ModelStore, gpt: Any, tokenizer: Any) -> None:
    load = {"max_new_tokens": 4, "do_sample": False}
    pipe = pipeline("text-generation", gpt, tokenizer, **load)
    model = adapter.save_model("words", pipe, options={"load": load}, sample=texts(TEXTS), store=models)
    for settings in ({}, {"rows_at_once": 3}):
        result = call(model, {"text": texts(TEXTS)}, **settings)["generated_text"]
        assert result.tolist() == [pipe(text.decode())[0]["generated_text"].encode() for text in TEXTS]


def test_long_texts_are_cut_and_bad_ones_are_named(
    models: ModelStore, classifier: Any, tokenizer: Any
) -> None:
    model = adapter.save_model("texts", pipeline("text-classification", classifier, tokenizer), store=models)
    long = [b"the cat sat on the mat " * 20, b"the cat sat on the mat " * 21]
    result = call(model, {"text": texts(long)})  # more tokens than the model has positions
    assert result["score"][0] == result["score"][1]
    short = call(model, {"text": texts([b"the cat", b"the dog"])}, max_length=1)
    assert short["score"][0] == short["score"][1]
    with pytest.raises(UnsupportedInput, match="element 1: not UTF-8"):
        call(model, {"text": texts([b"the cat", b"\xff"])})
    with pytest.raises(UnsupportedInput, match="takes 'text' alone"):
        call(model, {"texts": texts(TEXTS)})
    assert call(model, {"text": texts([])})["label"].shape == (0,)


def test_images_are_classified_by_their_pipeline(models: ModelStore) -> None:
    pytest.importorskip("PIL.Image")
    vit = tiny.build(hugging.ViTForImageClassification, tiny.vit_config())
    processor = hugging.ViTImageProcessor(size={"height": 16, "width": 16})
    pipe = hugging.pipeline("image-classification", model=vit, image_processor=processor, device="cpu")
    images = np.random.default_rng(0).integers(0, 255, (3, 20, 24, 3), dtype=np.uint8)
    model = adapter.save_model("images", pipe, sample=images, store=models)
    assert model.info.signatures["__call__"].inputs == (TensorSpec("image", "UINT8", (-1, -1, -1, 3)),)
    from PIL import Image

    expected = [pipe(Image.fromarray(image), top_k=1)[0] for image in images]
    result = call(model, {"image": images})
    assert result["label"].tolist() == [each["label"].encode() for each in expected]
    np.testing.assert_allclose(result["score"], [each["score"] for each in expected], atol=1e-6)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ({"dtyp": "float16"}, "did you mean 'dtype'"),
        ({"dtype": "float8"}, "'dtype' must be one of auto"),
        ({"trust_remote_code": True}, "no load option 'trust_remote_code'"),
        ({"max_length": 0}, "'max_length' must be at least 1"),
        ({"rows_at_once": 0}, "'rows_at_once' must be at least 1"),
        ({"top_k": "two"}, "'top_k' must be int"),
        ({"function_to_apply": "sine"}, "no text-classification pipeline can be made"),
    ],
)
def test_a_wrong_load_setting_is_refused_by_name(
    models: ModelStore, classifier: Any, tokenizer: Any, load: Any, message: str
) -> None:
    pipe = pipeline("text-classification", classifier, tokenizer)
    with pytest.raises(InvalidModel, match=message):
        adapter.save_model("texts", pipe, options={"load": load}, sample=texts(TEXTS), store=models)


def test_keywords_that_would_be_lost_are_asked_for(
    models: ModelStore, classifier: Any, tokenizer: Any
) -> None:
    pipe = pipeline("text-classification", classifier, tokenizer, top_k=2)
    with pytest.raises(InvalidModel, match="its folder does not keep"):
        adapter.save_model("texts", pipe, store=models)


def test_pipelines_that_cannot_be_served_are_refused(
    models: ModelStore, classifier: Any, tokenizer: Any
) -> None:
    with pytest.raises(InvalidModel, match="zero-shot-classification' are not served; there are feature"):
        adapter.save_model("zero", pipeline("zero-shot-classification", classifier, tokenizer), store=models)
    pipe = pipeline("text-classification", classifier, tokenizer)
    with pytest.raises(InvalidModel, match="exactly one method"):
        adapter.save_model("texts", pipe, signatures={"predict": {}}, store=models)
    renamed = {"__call__": {"inputs": [{"name": "words", "datatype": "BYTES", "shape": [-1]}]}}
    with pytest.raises(InvalidModel, match="inputs of this pipeline are text"):
        adapter.save_model("texts", pipe, signatures=renamed, store=models)
    with pytest.raises(SampleFailed, match="fits the input specs of no method"):
        adapter.save_model(
            "texts", pipe, sample=(texts(TEXTS), texts(TEXTS)), signatures=BATCHABLE, store=models
        )
