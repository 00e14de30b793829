from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hugging

from frameworks import InvalidModel
from frameworks.errors import FrameworkError
from runtime.convert import contrib
from runtime.convert.contrib import huggingface
from runtime.convert.contrib.huggingface_inputs import random, tokenised
from runtime.convert.reading import InvalidArguments
from tests.support import hugging as tiny
from tests.support.hugging import SIZES, WORDS, bert_config, gpt_config, vit_config

TOKENS = {"input_ids", "attention_mask", "token_type_ids"}


def roberta() -> Any:
    return hugging.RobertaConfig(vocab_size=WORDS, max_position_embeddings=14, **SIZES)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands for the general export, and keeps what it was called with and what the model was like then."""
    found: list[dict[str, Any]] = []

    def export(**arguments: Any) -> str:
        config = arguments["model"].config
        found.append({**arguments, "use_cache": getattr(config, "use_cache", None)})
        return "descriptor"

    face = ModuleType("runtime.convert.torch")
    face.export = export  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "runtime.convert.torch", face)
    return found


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.tokenizer()


@pytest.mark.parametrize(
    ("task", "config", "outputs"),
    [
        ("feature-extraction", bert_config(), {"last_hidden_state": True, "pooler_output": False}),
        ("fill-mask", roberta(), {"logits": True}),
        ("question-answering", bert_config(num_labels=2), {"start_logits": True, "end_logits": True}),
        ("text-classification", bert_config(), {"logits": False}),
        ("token-classification", bert_config(), {"logits": True}),
        ("text-generation", gpt_config(), {"logits": True}),
        ("image-classification", vit_config(), {"logits": None}),
    ],
)
def test_each_task_gets_inputs_names_and_axes(
    calls: list[dict[str, Any]], task: str, config: Any, outputs: dict[str, bool | None]
) -> None:
    cache = getattr(config, "use_cache", None)
    assert huggingface.export(config, task, opset=17) == "descriptor"
    (call,) = calls
    assert call["model_name"] == f"{config.model_type}-{task}"
    assert call["opset"] == 17
    assert call["output_names"] == tuple(outputs)
    axes = call["dynamic_axes"]
    for name, is_long in outputs.items():
        assert axes[name] == ({0: "batch", 1: "sequence"} if is_long else {0: "batch"})
    names = call["input_names"]
    assert set(names) == ({"pixel_values"} if task.startswith("image") else TOKENS - unknown_to(config))
    for batch in call["dataloader"]:
        assert tuple(batch) == names
        with torch.inference_mode():
            answer = call["model"](**batch)
        assert len(answer[call["output_names"][0]]) == 2
    assert not call["model"].training
    assert not call["use_cache"]
    assert getattr(call["model"].config, "use_cache", None) == cache


def unknown_to(config: Any) -> set[str]:
    return {"token_type_ids"} if getattr(config, "type_vocab_size", 0) < 2 else set()


def test_random_tokens_are_words_of_two_lengths_and_the_same_each_time() -> None:
    model = hugging.GPT2LMHeadModel(gpt_config())
    batches = random(model, None, None, 3)
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(3, 8), (3, 16)]
    for batch in batches:
        assert 0 <= int(batch["input_ids"].min()) <= int(batch["input_ids"].max()) < WORDS
        assert not {2, 3} & set(batch["input_ids"].ravel().tolist())
        assert batch["attention_mask"].sum(dim=1).tolist() == [
            batch["input_ids"].shape[1],
            batch["input_ids"].shape[1],
            batch["input_ids"].shape[1] * 3 // 4,
        ]
    for one, other in zip(batches, random(model, None, None, 3), strict=True):
        assert torch.equal(one["input_ids"], other["input_ids"])


def test_images_are_as_large_as_configured_or_asked_for(calls: list[dict[str, Any]]) -> None:
    huggingface.export(vit_config(image_size=(16, 24), num_channels=1), "image-classification", batch_size=3)
    assert tuple(calls[0]["dataloader"][0]["pixel_values"].shape) == (3, 1, 16, 24)
    config = hugging.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    with pytest.raises(InvalidArguments, match="does not say how large images are") as caught:
        huggingface.export(config, "image-classification")
    assert caught.value.field == "image_size"
    huggingface.export(config, "image-classification", image_size=32)
    assert tuple(calls[1]["dataloader"][0]["pixel_values"].shape) == (2, 3, 32, 32)


def test_a_dataset_is_tokenised_in_batches(calls: list[dict[str, Any]], tokenizer: Any) -> None:
    rows = [{"words": "the cat"}, {"words": "a dog ran in the park"}, {"words": "the mat " * 40}]
    huggingface.export(
        bert_config(),
        "text-classification",
        dataset=rows,
        tokenizer=tokenizer,
        preprocess=lambda row: row["words"],
        sample_count=3,
    )
    (call,) = calls
    assert call["sample_count"] == 3
    shapes = [tuple(batch["input_ids"].shape) for batch in call["dataloader"]]
    assert [shape[0] for shape in shapes] == [2, 1]
    assert shapes[1][1] == 32  # cut at the model's positions
    assert call["dynamic_axes"]["input_ids"] == {0: "batch", 1: "sequence"}
    assert call["dataloader"][0]["attention_mask"][0].tolist()[-1] == 0


def test_a_dataset_may_have_pairs_or_keywords(tokenizer: Any) -> None:
    model = hugging.BertForSequenceClassification(bert_config())
    pairs = tokenised(model, [("the cat", "a dog"), ("a dog", "the cat")], tokenizer, None, 2)
    named = [{"text": "the cat", "text_pair": "a dog"}, {"text": "a dog", "text_pair": "the cat"}]
    for name, tensor in tokenised(model, named, tokenizer, None, 2)[0].items():
        assert torch.equal(tensor, pairs[0][name])
    assert pairs[0]["input_ids"].shape == (2, 4)


def test_a_dataloader_is_passed_on_as_it_is(calls: list[dict[str, Any]]) -> None:
    model = hugging.BertForTokenClassification(bert_config())
    dataloader = [{"input_ids": np.full((2, length), 7)} for length in (3, 5)]
    huggingface.export(model, dataloader=dataloader, model_name="mine")
    (call,) = calls
    assert call["dataloader"] is dataloader
    assert call["model"] is model
    assert model.training  # as the caller had it
    assert (call["model_name"], call["input_names"], call["output_names"]) == (
        "mine",
        ("input_ids",),
        ("logits",),
    )
    assert "dynamic_axes" not in call


def test_what_the_caller_says_wins(calls: list[dict[str, Any]]) -> None:
    told: Any = {"dynamic_axes": {}, "output_names": ("scores",)}
    huggingface.export(bert_config(), "fill-mask", sequence_lengths=(4,), **told)
    (call,) = calls
    assert call["dynamic_axes"] == {}
    assert call["output_names"] == ("scores",)
    assert [batch["input_ids"].shape[1] for batch in call["dataloader"]] == [4]


def test_a_folder_holds_its_own_model(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    model = hugging.BertForSequenceClassification(bert_config(num_labels=5)).eval()
    model.save_pretrained(tmp_path)
    huggingface.export(tmp_path, "text-classification")
    batch = calls[0]["dataloader"][0]
    with torch.inference_mode():
        assert torch.equal(calls[0]["model"](**batch).logits, model(**batch).logits)
    with pytest.raises(
        InvalidArguments, match="BertForSequenceClassification does not do fill-mask; BertForMaskedLM does"
    ):
        huggingface.export(str(tmp_path), "fill-mask")
    with pytest.raises(InvalidModel, match="no save_pretrained folder"):
        huggingface.export(tmp_path / "absent", "text-classification")


@pytest.mark.parametrize(
    ("arguments", "field", "message"),
    [
        ((bert_config(), "translation"), "task", "there are feature-extraction, fill-mask"),
        ((bert_config(),), "task", "a configuration needs a task"),
        ((gpt_config(), "fill-mask"), "task", "no model for fill-mask with a GPT2Config"),
        ((vit_config(), "text-classification"), "task", "no model for text-classification with a ViTConfig"),
        ((torch.nn.Linear(2, 2), "fill-mask"), "model", "a Linear is neither a model"),
    ],
)
def test_a_task_or_a_model_that_does_not_fit_is_refused(
    calls: list[dict[str, Any]], arguments: Any, field: str, message: str
) -> None:
    with pytest.raises(InvalidArguments, match=message) as caught:
        huggingface.export(*arguments)
    assert caught.value.field == field
    assert not calls


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({"sequence_lengths": (8, 33)}, "sequence_lengths", "from 1 to 32"),
        ({"sequence_lengths": ()}, "sequence_lengths", "from 1 to 32"),
        ({"batch_size": 0}, "batch_size", "at least 1"),
        ({"dataset": ["the cat"]}, "tokenizer", "a dataset needs a tokenizer"),
        ({"dataset": ["the cat"], "dataloader": [{}]}, "dataset", "not both"),
        ({"dataloader": []}, "dataloader", "mappings of input names"),
        ({"dataloader": [torch.zeros(2, 3)]}, "dataloader", "not Tensor"),
        ({"dataloader": [{"words": torch.zeros(2, 3)}]}, "dataloader", "cannot execute words"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(
    calls: list[dict[str, Any]], options: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(InvalidArguments, match=message) as caught:
        huggingface.export(bert_config(), "text-classification", **options)
    assert caught.value.field == field
    assert not calls


def test_a_bad_row_of_a_dataset_is_told(tokenizer: Any) -> None:
    with pytest.raises(InvalidArguments, match="rows 0 to 1 cannot be tokenised"):
        huggingface.export(bert_config(), "fill-mask", dataset=["the cat", 7], tokenizer=tokenizer)
    with pytest.raises(InvalidArguments, match="has no rows"):
        huggingface.export(bert_config(), "fill-mask", dataset=[], tokenizer=tokenizer)


def test_a_model_that_needs_other_inputs_asks_for_a_dataloader() -> None:
    config = hugging.T5Config(vocab_size=WORDS, d_model=16, d_kv=8, num_layers=1, num_heads=2, d_ff=32)
    with pytest.raises(InvalidArguments, match=r"T5Model cannot execute input_ids.*give a dataloader"):
        huggingface.export(config, "feature-extraction")


def test_the_providers_are_known_by_name() -> None:
    assert contrib.huggingface is huggingface
    assert "huggingface" in dir(contrib)
    with pytest.raises(AttributeError, match="no attribute 'keras'"):
        contrib.keras  # noqa: B018
    assert issubclass(InvalidArguments, FrameworkError)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("task", "kind", "config"),
    [
        ("text-classification", hugging.BertForSequenceClassification, bert_config()),
        ("text-generation", hugging.GPT2LMHeadModel, gpt_config()),
        ("image-classification", hugging.ViTForImageClassification, vit_config()),
    ],
)
def test_an_exported_task_answers_as_its_source(task: str, kind: Any, config: Any, tmp_path: Path) -> None:
    model = tiny.build(kind, config)
    descriptor = huggingface.export(
        model,
        task,
        target_formats=("onnx", "torchscript"),
        jit_options=("trace",),
        workdir=tmp_path,
        run_profiling=False,
        disable_git_info=True,
    )
    status = descriptor.get_formats_status()
    assert {form.value: made for form, made in status.items()} == {"onnx": True, "torchscript": True}
    (batch,) = random(model, None if task.startswith("image") else (11,), None, 5)[:1]
    with torch.inference_mode():
        expected = model(**batch).logits
    for form in ("onnx", "torchscript"):
        with descriptor.get_runner(format=form) as runner:
            found = runner.infer({name: tensor.numpy() for name, tensor in batch.items()})
        assert list(found) == ["logits"]
        np.testing.assert_allclose(found["logits"], expected, atol=1e-5)
