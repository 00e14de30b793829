"""A small torch model of two inputs and two outputs, with an axis that differs from item to item."""

from __future__ import annotations

import torch


class TwoHeads(torch.nn.Module):
    """Tokens and their mask in, one vector per text and one per token out."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(11, 6)
        self.head = torch.nn.Linear(6, 3)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights = mask.unsqueeze(-1).to(torch.float32)
        tokens = self.dropout(self.head(self.table(ids) * weights))
        return tokens.sum(1), tokens


def texts() -> list[dict[str, torch.Tensor]]:
    random = torch.Generator().manual_seed(0)
    return [
        {
            "ids": torch.randint(0, 11, (2, length), generator=random),
            "mask": torch.ones((2, length), dtype=torch.int64),
        }
        for length in (4, 7, 5)
    ]
