"""Every method of some models asked by a stock client: ``HOST:PORT QUESTIONS ANSWERS MODEL… -- METHOD…``.

Runs in the environment of foreign clients. All questions to a method are asked at once. Answers are written
by ``model|method|question``.
"""

from __future__ import annotations

import concurrent.futures
import sys

import numpy as np
import tritonclient.grpc as stock  # type: ignore[import-not-found]
from tritonclient.utils import np_to_triton_dtype  # type: ignore[import-not-found]

target, questions, answers, *names = sys.argv[1:]
models, methods = names[: names.index("--")], names[names.index("--") + 1 :]
asked: dict[str, list[stock.InferInput]] = {}
for key, array in np.load(questions).items():
    index, name = key.split("|")
    tensor = stock.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    asked.setdefault(index, []).append(tensor.set_data_from_numpy(array))
found = {}
with stock.InferenceServerClient(target) as client, concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
    for model in models:
        for method in methods:
            calls = {
                index: pool.submit(client.infer, model, inputs, parameters={"method": method})
                for index, inputs in asked.items()
            }
            for index, call in calls.items():
                result = call.result()
                (output,) = result.get_response().outputs
                found[f"{model}|{method}|{index}"] = result.as_numpy(output.name)
np.savez(answers, **found)
