from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hugging

from frameworks import InvalidModel, InvalidOutput, LoadOptions, registry
from frameworks import transformers as adapter
from frameworks.errors import WrongModule
from frameworks.hf.folder import FOLDER
from store import ModelStore, TensorSpec
from tests.support import hugging as tiny
from tests.support.hugging import WORDS, pipeline

REPOSITORY = Path(__file__).resolve().parents[3]
BATCHABLE = {"__call__": {"batchable": True}}
OPEN = {
    "__call__": {
        "batchable": True,
        "inputs": [
            {"name": name, "datatype": "INT64", "shape": [-1, -1]} for name in ("input_ids", "attention_mask")
        ],
    }
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.tokenizer()


@pytest.fixture(scope="module")
def classifier() -> Any:
    return tiny.build(hugging.BertForSequenceClassification, tiny.bert_config())


@pytest.fixture(scope="module")
def gpt() -> Any:
    return tiny.build(hugging.GPT2LMHeadModel, tiny.gpt_config())


def ids(rows: int, length: int) -> dict[str, Any]:
    tokens = np.random.default_rng(length).integers(5, WORDS, (rows, length))
    mask = np.ones((rows, length), np.int64)
    mask[-1, length // 2 :] = 0
    return {"input_ids": tokens, "attention_mask": mask}


def direct(model: Any, inputs: dict[str, Any]) -> Any:
    with torch.inference_mode():
        return model(**{name: torch.from_numpy(array) for name, array in inputs.items()})


def call(model: Any, inputs: dict[str, Any], **settings: Any) -> Any:
    opened = adapter.open_methods(model, LoadOptions(settings=settings))["__call__"]
    return opened({name: array.copy() for name, array in inputs.items()})


def test_the_registry_knows_the_adapter() -> None:
    assert registry.adapter("transformers") is adapter


def test_a_model_answers_by_the_names_of_its_output(models: ModelStore, classifier: Any) -> None:
    model = adapter.save_model("bert", classifier, signatures=OPEN, sample=ids(3, 6), store=models)
    assert not model.info.pickled
    assert set(model.info.context.framework_versions) == {"transformers", "torch", "safetensors"}
    assert model.info.signatures["__call__"].outputs == (TensorSpec("logits", "FP32", (-1, 3)),)
    checks: Any = model.info.checks
    assert checks["batch_invariance"]["__call__"]["invariant"]
    for rows, length in ((1, 6), (4, 9)):
        inputs = ids(rows, length)
        result = call(model, inputs)
        assert list(result) == ["logits"]
        np.testing.assert_allclose(result["logits"], direct(classifier, inputs).logits, atol=1e-6)


def test_the_artifact_is_safetensors_without_pickle_or_code(models: ModelStore, classifier: Any) -> None:
    model = adapter.save_model("bert", classifier, store=models)
    names = {path.name for path in (model.path / FOLDER).iterdir()}
    assert names == {"config.json", "model.safetensors"}


def test_outputs_that_the_signature_does_not_name_are_left_out(models: ModelStore) -> None:
    base = tiny.build(hugging.BertModel, tiny.bert_config())
    whole = adapter.save_model("base", base, store=models)
    assert list(call(whole, ids(2, 5))) == ["last_hidden_state", "pooler_output"]
    pooled = {
        **OPEN["__call__"],
        "outputs": [{"name": "pooler_output", "datatype": "FP32", "shape": [-1, 16]}],
    }
    model = adapter.save_model("base", base, signatures={"__call__": pooled}, store=models)
    assert list(call(model, ids(2, 5))) == ["pooler_output"]
    missing = {"outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 16]}]}
    model = adapter.save_model("base", base, signatures={"__call__": missing}, store=models)
    with pytest.raises(InvalidOutput, match="last_hidden_state, pooler_output; its signature names scores"):
        call(model, ids(2, 5))


def test_a_language_model_returns_logits_without_a_cache(models: ModelStore, gpt: Any) -> None:
    model = adapter.save_model(
        "gpt", gpt, signatures=BATCHABLE, sample=(ids(3, 4)["input_ids"],), store=models
    )
    assert [spec.name for spec in model.info.signatures["__call__"].inputs or ()] == ["input_ids"]
    inputs = ids(2, 4)
    result = call(model, inputs)
    assert list(result) == ["logits"]
    np.testing.assert_allclose(result["logits"], direct(gpt, inputs).logits, atol=1e-5)
    assert gpt.config.use_cache  # the caller's own object is left as it is


def test_generate_continues_tokens_as_the_model_does(models: ModelStore, gpt: Any) -> None:
    load = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    model = adapter.save_model("gpt", gpt, signatures={"generate": {}}, options={"load": load}, store=models)
    inputs = {"input_ids": ids(1, 4)["input_ids"], "attention_mask": np.ones((1, 4), np.int64)}
    method = adapter.open_methods(model, LoadOptions())["generate"]
    result: Any = method({name: array.copy() for name, array in inputs.items()})
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    np.testing.assert_array_equal(result["sequences"], gpt.generate(**tensors, **load))


def test_images_go_in_as_pixel_values(models: ModelStore) -> None:
    vit = tiny.build(hugging.ViTForImageClassification, tiny.vit_config())
    pixels = np.random.default_rng(0).random((3, 3, 16, 16), dtype=np.float32)
    model = adapter.save_model("vit", vit, signatures=BATCHABLE, sample=pixels, store=models)
    assert model.info.signatures["__call__"].inputs == (TensorSpec("pixel_values", "FP32", (-1, 3, 16, 16)),)
    result = call(model, {"pixel_values": pixels})
    np.testing.assert_allclose(result["logits"], direct(vit, {"pixel_values": pixels}).logits, atol=1e-6)
    halved = call(model, {"pixel_values": pixels}, dtype="bfloat16")
    assert halved["logits"].dtype == np.float32
    np.testing.assert_allclose(halved["logits"], result["logits"], atol=0.05)
    assert not np.array_equal(halved["logits"], result["logits"])


def test_load_model_returns_the_model_and_a_folder_is_a_model(
    models: ModelStore, classifier: Any, tmp_path: Path
) -> None:
    classifier.save_pretrained(tmp_path / "own")
    adapter.save_model("own", tmp_path / "own", store=models)
    loaded = adapter.load_model("own", store=models)
    assert isinstance(loaded, hugging.BertForSequenceClassification)
    assert not loaded.training
    np.testing.assert_array_equal(direct(loaded, ids(2, 5)).logits, direct(classifier, ids(2, 5)).logits)
    assert adapter.get("own", store=models).info.module == "transformers"


def test_what_cannot_be_served_is_refused(models: ModelStore, classifier: Any, tokenizer: Any) -> None:
    class Own(hugging.BertForSequenceClassification):  # type: ignore[misc]
        pass

    with pytest.raises(InvalidModel, match="neither a PreTrainedModel"):
        adapter.save_model("net", torch.nn.Linear(2, 2), store=models)  # type: ignore[arg-type]
    with pytest.raises(InvalidModel, match="pytorch adapter"):
        adapter.save_model("own", Own(classifier.config), store=models)
    with pytest.raises(InvalidModel, match="no method 'embed'"):
        adapter.save_model("bert", classifier, signatures={"embed": {}}, store=models)


def test_a_bad_folder_is_refused_with_its_reason(models: ModelStore, classifier: Any, tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    with pytest.raises(InvalidModel, match=r"no config\.json\. Names of a model hub are not downloaded"):
        adapter.save_model("bert", "bert-base-uncased", store=models)
    classifier.save_pretrained(folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InvalidModel, match="cannot be loaded as BertForSequenceClassification"):
        adapter.save_model("bert", folder, store=models)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InvalidModel, match=r"has no \*\.safetensors"):
        adapter.save_model("bert", folder, store=models)
    config = json.loads((folder / "config.json").read_text())
    for architectures in (["Own"], ["pipeline"], None, "BertModel"):
        (folder / "config.json").write_text(json.dumps({**config, "architectures": architectures}))
        with pytest.raises(InvalidModel, match="Code in the folder is never run"):
            adapter.save_model("bert", folder, store=models)
    (folder / "config.json").write_text("{")
    with pytest.raises(InvalidModel, match="unreadable"):
        adapter.save_model("bert", folder, store=models)


def test_weights_that_would_be_random_are_refused(models: ModelStore, tmp_path: Path) -> None:
    hugging.BertModel(tiny.bert_config()).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidModel, match=r"no weights for 2 parameters.*'classifier\.bias'"):
        adapter.save_model("bert", tmp_path, store=models)


def test_another_adapters_model_is_not_opened(models: ModelStore) -> None:
    from frameworks import pytorch

    model = pytorch.save_model("net", torch.nn.Linear(2, 2), store=models)
    with pytest.raises(WrongModule, match="saved by 'pytorch'"):
        adapter.open_methods(model, LoadOptions())
    with pytest.raises(WrongModule):
        adapter.load_model("net", store=models)


LOAD = textwrap.dedent(
    """
    import sys

    def refuse(event, arguments):
        if event in ("socket.connect", "socket.getaddrinfo", "pickle.find_class"):
            raise RuntimeError(f"{event} {arguments}")

    import numpy as np
    from frameworks import LoadOptions
    from frameworks import transformers as adapter
    from store import ModelStore

    sys.addaudithook(refuse)
    store = ModelStore(sys.argv[1])
    inputs = dict(np.load(sys.argv[2]))
    method = adapter.open_methods(store.get("bert"), LoadOptions())["__call__"]
    found = method(inputs)["logits"]
    method = adapter.open_methods(store.get("texts"), LoadOptions())["__call__"]
    scores = method({"text": np.array([b"the cat", b"a dog sat"], dtype=object)})["score"]
    np.savez(sys.argv[3], logits=found, scores=scores)
    """
)


def test_a_fresh_process_answers_the_same_without_network_or_pickle(
    models: ModelStore, classifier: Any, tokenizer: Any, tmp_path: Path
) -> None:
    adapter.save_model("bert", classifier, store=models)
    pipe = pipeline("text-classification", classifier, tokenizer)
    adapter.save_model("texts", pipe, store=models)
    inputs = ids(3, 7)
    given, found = tmp_path / "inputs.npz", tmp_path / "outputs.npz"
    np.savez(given, **inputs)
    command = [sys.executable, "-W", "error", "-c", LOAD, str(tmp_path / "models"), str(given), str(found)]
    done = subprocess.run(command, cwd=REPOSITORY, check=False, timeout=100, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    with np.load(found) as outputs:
        np.testing.assert_allclose(outputs["logits"], direct(classifier, inputs).logits, atol=1e-6)
        expected = [pipe(text)[0]["score"] for text in ("the cat", "a dog sat")]
        np.testing.assert_allclose(outputs["scores"], expected, atol=1e-6)
