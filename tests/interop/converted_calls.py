"""One call of a stock client, as JSON on stdout: ``python converted_calls.py HOST:PORT REQUEST``.

Runs in the environment of foreign clients. A request is a JSON list of model, method, datatype of numpy,
shape and the hexadecimal digits of the rows; the answer has datatype, shape and digits by output.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.grpc as stock  # type: ignore[import-not-found]
from tritonclient.utils import np_to_triton_dtype  # type: ignore[import-not-found]

model, method, dtype, shape, digits = json.loads(sys.argv[2])
rows = np.frombuffer(bytes.fromhex(digits), dtype).reshape(shape)
with stock.InferenceServerClient(sys.argv[1]) as client:
    name = client.get_model_metadata(model).inputs[0].name
    given = stock.InferInput(name, shape, np_to_triton_dtype(rows.dtype)).set_data_from_numpy(rows)
    result = client.infer(model, [given], parameters={"method": method} if method else None)
answers = {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}
sys.stdout.write(
    json.dumps(
        {key: [array.dtype.name, list(array.shape), array.tobytes().hex()] for key, array in answers.items()}
    )
)
