"""Tiny models of transformers, made from configurations, and a tokenizer for them; nothing is downloaded."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hugging
from tokenizers import Tokenizer, pre_tokenizers, trainers
from tokenizers.models import WordPiece

WORDS = 60
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}

_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def tokenizer() -> Any:
    """A WordPiece tokenizer trained on two sentences."""
    words = Tokenizer(WordPiece(unk_token=_SPECIAL["unk"]))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordPieceTrainer(
        vocab_size=WORDS, special_tokens=list(_SPECIAL.values()), show_progress=False
    )
    words.train_from_iterator(["the cat sat on the mat", "a dog ran in the park"], trainer)
    return hugging.PreTrainedTokenizerFast(
        tokenizer_object=words, **{f"{kind}_token": token for kind, token in _SPECIAL.items()}
    )


def bert_config(**changes: Any) -> Any:
    known = {"vocab_size": WORDS, "max_position_embeddings": 32, "num_labels": 3, **SIZES}
    return hugging.BertConfig(**{**known, **changes})


def gpt_config() -> Any:
    return hugging.GPT2Config(
        vocab_size=WORDS, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=2, eos_token_id=3
    )


def vit_config(**changes: Any) -> Any:
    return hugging.ViTConfig(**{"image_size": 16, "patch_size": 8, "num_labels": 4, **SIZES, **changes})


def build(kind: Any, config: Any) -> Any:
    """Return a model with the same random weights each time, in evaluation mode."""
    torch.manual_seed(0)
    return kind(config).eval()


def pipeline(task: str, model: Any, words: Any, **arguments: Any) -> Any:
    return hugging.pipeline(task, model=model, tokenizer=words, device="cpu", **arguments)
