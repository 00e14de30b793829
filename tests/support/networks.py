"""Networks of torch; this imports nothing else, as every process that opens a pickled one does it too."""

from __future__ import annotations

import torch


class Perceptron(torch.nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(30, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(features)
        return result


class Convolutions(torch.nn.Module):
    """Two convolutions with batch normalisation, one of them beside a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.BatchNorm2d(8))
        self.second = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.BatchNorm2d(8))
        self.head = torch.nn.Sequential(
            torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(32, 10)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        seen = torch.relu(self.first(image))
        result: torch.Tensor = self.head(torch.relu(self.second(seen) + seen))
        return result


class Mean(torch.nn.Module):
    """Divides by a length that tracing takes for a constant."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(1) / int(x.shape[1])
