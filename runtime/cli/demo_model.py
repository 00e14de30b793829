"""The demo's model: a random forest that reads handwritten digits, saved like anybody's model.

The data come with scikit-learn: 1797 real images of 8 by 8 pixels. A forest spends its time on the call, not
on the rows, so that executing many rows together pays even on one core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from store import Model, ModelStore

NAME: Final = "digits"
INPUT: Final = "X"
SEED: Final = 7

_HELD_OUT: Final = 0.3
_TREES: Final = 100


class Prepared(NamedTuple):
    """The saved model and what it has not seen.

    Shapes: images: [rows, 64] float32, labels: [rows] int64.
    """

    model: Model
    images: NDArray[Any]
    labels: NDArray[Any]
    trained_on: int


def prepare(store: ModelStore) -> Prepared:
    """Train on some of the images, save the model, and keep the others for calls.

    Raises:
        MissingFramework: scikit-learn is not installed; the message names the extra.
    """
    from frameworks import registry

    adapter = registry.adapter("sklearn")  # says which extra to install before anything else can fail
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import train_test_split

    pixels, digits = load_digits(return_X_y=True)
    images, unseen, labels, truth = train_test_split(
        pixels.astype(np.float32),
        digits.astype(np.int64),
        test_size=_HELD_OUT,
        random_state=SEED,
        stratify=digits,
    )
    forest = RandomForestClassifier(n_estimators=_TREES, random_state=SEED).fit(images, labels)
    model = adapter.save_model(
        NAME,
        forest,
        signatures={"predict": {"batchable": True, "batch_dim": 0}},
        labels={"stage": "demo"},
        metadata={"data": "handwritten digits of scikit-learn", "trained_on": len(images)},
        sample={INPUT: images[:5]},
        store=store,
    )
    return Prepared(model, unseen, truth, len(images))
