"""What a stock client asks of a server and what it gets, as JSON on stdout.

Runs in the environment of foreign clients: ``python stock_calls.py HOST:PORT PART``. Arrays are written as
datatype, shape and the hexadecimal digits of their bytes.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import queue
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc as stock  # type: ignore[import-not-found]
import tritonclient.grpc.aio as stock_aio  # type: ignore[import-not-found]
from tritonclient.utils import (  # type: ignore[import-not-found]
    InferenceServerException,
    np_to_triton_dtype,
)

WAIT_S = 30
ROWS = np.random.default_rng(7).normal(size=(5, 4)).astype(np.float32)


def tensor(name: str, array: Any, datatype: str = "") -> Any:
    """An input of the stock client."""
    made = stock.InferInput(name, list(array.shape), datatype or np_to_triton_dtype(array.dtype))
    return made.set_data_from_numpy(array)


def shown(array: Any) -> list[Any]:
    """An array in a form that JSON has."""
    if array.dtype == object:
        return ["BYTES", list(array.shape), [bytes(item).hex() for item in array.ravel()]]
    return [array.dtype.name, list(array.shape), array.tobytes().hex()]


def results(result: Any) -> dict[str, Any]:
    """All outputs of a result."""
    return {output.name: shown(result.as_numpy(output.name)) for output in result.get_response().outputs}


def failure(call: Any, *arguments: Any, **options: Any) -> list[str]:
    """Status and message of a call that must fail."""
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        return [str(error.status()), str(error.message())]
    raise AssertionError("the call succeeded")


def predict(client: Any, rows: Any = ROWS, **options: Any) -> Any:
    """Call the first method of the model."""
    return client.infer("scaled", [tensor("x", rows)], parameters={"method": "predict"}, **options)


def inspection(client: Any) -> dict[str, Any]:
    """Everything but inference."""
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "models": [client.is_model_ready(name) for name in ("scaled", "echo", "nobody")],
        "server": client.get_server_metadata(as_json=True),
        "metadata": client.get_model_metadata("scaled", as_json=True),
        "config": client.get_model_config("scaled", as_json=True),
        "index": client.get_model_repository_index(as_json=True),
    }


def datatypes(client: Any) -> dict[str, Any]:
    """Every datatype there and back, with and without a batch axis, empty and of rank 0."""
    from tests.support.dtypes import edge_array

    found: dict[str, Any] = {}
    for name in sys.argv[3:]:
        array = edge_array(name)
        for model in ("plain", "echo"):
            answer = client.infer(model, [tensor("x", array, name)])
            found[f"{name} {model}"] = shown(answer.as_numpy("x"))
            assert answer.get_output("x").datatype == name
    for shape in ([], [0], [0, 3], [2, 0, 3], [1, 1, 1, 1, 1, 1]):
        answer = client.infer("plain", [tensor("x", np.full(shape, 1.5, np.float32))])
        assert list(answer.get_output("x").shape) == shape, answer.get_output("x")
        found[str(shape)] = answer.get_response().raw_output_contents[0].hex()
    several = [tensor("a", np.arange(3)), tensor("b", np.array([b"x", b""], object)), tensor("c", np.eye(2))]
    found["several"] = results(client.infer("plain", several))
    return found


def options(client: Any) -> dict[str, Any]:
    """Request ids, chosen outputs, methods, versions, compression, time-outs."""
    named = predict(client, request_id="a request")
    version = named.get_response().model_version
    total = {"method": "total"}
    chosen = client.infer(
        "scaled", [tensor("x", ROWS)], parameters=total, outputs=[stock.InferRequestedOutput("sum")]
    )
    turned = [stock.InferRequestedOutput("sum"), stock.InferRequestedOutput("label")]
    both = client.infer("scaled", [tensor("x", ROWS)], parameters=total, outputs=turned)
    large = np.zeros((64, 4), np.float32)
    return {
        "id": named.get_response().id,
        "by version": results(predict(client, model_version=version)),
        "total": results(client.infer("scaled", [tensor("x", ROWS)], parameters=total)),
        "chosen": results(chosen),
        "order": [output.name for output in both.get_response().outputs],
        "compressed": [
            results(predict(client, large, compression_algorithm=name)) for name in ("gzip", "deflate")
        ],
        "in time": results(predict(client, client_timeout=WAIT_S)),
        "late": failure(client.infer, "gated", [tensor("tags", np.zeros(1, np.int64))], client_timeout=0.2),
    }


def errors(client: Any) -> dict[str, Any]:
    """What is refused, and how."""
    narrow = tensor("x", np.zeros((1, 3), np.float32))
    return {
        "model": failure(client.infer, "nobody", [tensor("x", ROWS)]),
        "version": failure(client.infer, "scaled", [tensor("x", ROWS)], model_version="9"),
        "shape": failure(client.infer, "scaled", [narrow], parameters={"method": "predict"}),
        "datatype": failure(predict, client, ROWS.astype(np.float64)),
        "name": failure(client.infer, "scaled", [tensor("y", ROWS)], parameters={"method": "predict"}),
        "output": failure(predict, client, outputs=[stock.InferRequestedOutput("nothing")]),
        "raises": failure(client.infer, "mortal", [tensor("tags", np.array([-2]))]),
        "metadata": failure(client.get_model_metadata, "nobody"),
        "load": failure(client.load_model, "scaled"),
        "after": results(predict(client)),
    }


def concurrent_calls(client: Any) -> dict[str, Any]:
    """Threads, callbacks and streams; each must get its own."""
    tags = [np.full(n % 7 + 1, n) for n in range(300)]

    def tagged(n: int) -> bool:
        return bool(np.array_equal(client.infer("tags", [tensor("tags", tags[n])]).as_numpy("tags"), tags[n]))

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        threads = list(pool.map(tagged, range(300)))
    answers: queue.Queue[Any] = queue.Queue()
    for n in range(200):
        client.async_infer(
            "tags",
            [tensor("tags", tags[n])],
            request_id=str(n),
            callback=lambda result, error: answers.put((result, error)),
        )
    callbacks = [right(tags, *answers.get(timeout=WAIT_S)) for _ in range(200)]
    return {"threads": all(threads), "callbacks": all(callbacks), "stream": stream(client, tags)}


def right(tags: Any, result: Any, error: Any) -> bool:
    """Whether a result holds the tags that belong to its id."""
    assert error is None, error
    return bool(np.array_equal(result.as_numpy("tags"), tags[int(result.get_response().id)]))


def stream(client: Any, tags: Any) -> dict[str, Any]:
    """200 requests on one stream, one of them wrong."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for n in range(200):
        model = "nobody" if n == 100 else "tags"
        client.async_stream_infer(model, [tensor("tags", tags[n])], request_id=str(n))
    got = [answers.get(timeout=WAIT_S) for _ in range(200)]
    client.stop_stream()
    good = [(result, error) for result, error in got if error is None]
    return {
        "right": all(right(tags, *one) for one in good),
        "order": [int(result.get_response().id) for result, _ in good],
        "errors": [str(error) for _, error in got if error is not None],
    }


def awaited(client: Any) -> dict[str, Any]:
    """The same with the asyncio client."""
    del client
    return asyncio.run(_awaited())


async def _awaited() -> dict[str, Any]:
    tags = [np.full(n % 7 + 1, n) for n in range(500)]
    async with stock_aio.InferenceServerClient(sys.argv[1]) as client:
        gathered = await asyncio.gather(
            *(client.infer("tags", [tensor("tags", tags[n])], request_id=str(n)) for n in range(500))
        )

        async def requests() -> AsyncIterator[dict[str, Any]]:
            for n in range(100):
                yield {"model_name": "tags", "inputs": [tensor("tags", tags[n])], "request_id": str(n)}

        streamed = [pair async for pair in client.stream_infer(requests())]
        try:
            await client.infer("nobody", [tensor("x", ROWS)])
        except InferenceServerException as error:
            status = str(error.status())
        return {
            "live": await client.is_server_live(),
            "metadata": (await client.get_model_metadata("scaled")).name,
            "gathered": all(right(tags, result, None) for result in gathered),
            "streamed": [right(tags, *pair) for pair in streamed] == [True] * 100,
            "status": status,
        }


PARTS = {
    "inspection": inspection,
    "datatypes": datatypes,
    "options": options,
    "errors": errors,
    "concurrent": concurrent_calls,
    "awaited": awaited,
}

if __name__ == "__main__":
    with stock.InferenceServerClient(sys.argv[1]) as the_client:
        sys.stdout.write(json.dumps(PARTS[sys.argv[2]](the_client)))
