"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grpc

from protos import open_inference_pb2 as pb
from runtime.client import channel as shared
from runtime.client import codec
from runtime.client.codec import Inference, Parameter
from runtime.client.errors import Metadata, RpcFailed

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import ArrayLike

    from runtime.client.results import InferResult, ModelMetadata, ServerMetadata


class Client:
    """A connection to one server; keep it for many calls.

    Every method that calls the server raises ``RpcFailed`` when the call fails; the ``is_*`` questions
    take an unreachable server for a no.

    Args:
        target: ``host:port`` or ``unix:path``.
        timeout: seconds that a call may take unless it says otherwise; None means 60, ``math.inf`` no limit.
        credentials: for TLS, as from ``grpc.ssl_channel_credentials``; None means plain text.
        max_message_bytes: limit of one message either way; -1 means none.
        metadata: sent with every call.
        keepalive_s: seconds of silence during a call after which the server is pinged; None means never.
            A server that does not answer the ping within 10 s fails the call with UNAVAILABLE.

    Concurrency: any number of threads may use one client.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        max_message_bytes: int = -1,
        metadata: Metadata = (),
        keepalive_s: float | None = shared.DEFAULT_KEEPALIVE_S,
    ) -> None:
        self._target = target
        self._timeout = shared.DEFAULT_TIMEOUT_S if timeout is None else timeout
        self._metadata = tuple(metadata)
        options = shared.options(max_message_bytes, keepalive_s)
        if credentials is None:
            self._channel = grpc.insecure_channel(target, options)
        else:
            self._channel = grpc.secure_channel(target, credentials, options)
        self._methods = {name: self._channel.unary_unary(path) for name, path in shared.UNARY_PATHS.items()}

    def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        version: str = "",
        method: str | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
        parameters: Mapping[str, Parameter] | None = None,
        request_id: str = "",
    ) -> InferResult:
        """Run a model on arrays; datatypes are sent as they are, strings as BYTES.

        Args:
            model: its name.
            inputs: arrays, or what numpy makes arrays of, by name.
            version: empty for the latest.
            method: which of the model's methods; None for its default.
            outputs: names of the outputs wanted; None for all.
            timeout: seconds, sent as the call's deadline; None for the client's.
            parameters: further request parameters, such as ``priority``.
            request_id: comes back as the result's ``id``.

        Raises:
            RpcFailed: the server refused or failed the call, or could not be reached.
            InvalidInput: an input cannot be sent.
        """
        request = codec.infer_request(
            Inference(
                model=model,
                inputs=inputs,
                version=version,
                method=method,
                outputs=outputs,
                parameters=parameters,
                request_id=request_id,
            )
        )
        return codec.infer_result(*self._call("ModelInfer", request, timeout))

    def is_live(self, *, timeout: float | None = None) -> bool:
        """Whether the server answers."""
        try:
            response, _ = self._call("ServerLive", pb.ServerLiveRequest().SerializeToString(), timeout)
        except RpcFailed as error:
            if shared.means_not_ready(error):
                return False
            raise
        return codec.parse(pb.ServerLiveResponse, response).live

    def is_ready(self, *, timeout: float | None = None) -> bool:
        """Whether the server takes requests."""
        return not self._why_not_ready(None, "", timeout)

    def is_model_ready(self, model: str, version: str = "", *, timeout: float | None = None) -> bool:
        """Whether the model takes requests."""
        return not self._why_not_ready(model, version, timeout)

    def wait_ready(self, model: str | None = None, timeout: float | None = None) -> None:
        """Block until the server, or the latest version of a model, is ready.

        Raises:
            TimeoutError: it was not within ``timeout`` seconds (None: the client's); says why.
        """
        patience = self._timeout if timeout is None else timeout
        end = time.monotonic() + patience
        while reason := self._why_not_ready(model, "", max(end - time.monotonic(), shared.POLL_S)):
            if time.monotonic() >= end:
                raise shared.not_ready(self._target, model, patience, reason)
            time.sleep(shared.POLL_S)

    def server_metadata(self, *, timeout: float | None = None) -> ServerMetadata:
        """Ask who the server is."""
        request = pb.ServerMetadataRequest().SerializeToString()
        return codec.server_metadata(self._call("ServerMetadata", request, timeout)[0])

    def model_metadata(self, model: str, version: str = "", *, timeout: float | None = None) -> ModelMetadata:
        """Ask what a model takes and gives."""
        request = pb.ModelMetadataRequest(name=model, version=version).SerializeToString()
        return codec.model_metadata(self._call("ModelMetadata", request, timeout)[0])

    def model_config(self, model: str, version: str = "", *, timeout: float | None = None) -> dict[str, Any]:
        """Ask how a model is served; only the fields that are set are in the result."""
        request = pb.ModelConfigRequest(name=model, version=version).SerializeToString()
        return codec.model_config(self._call("ModelConfig", request, timeout)[0])

    def close(self) -> None:
        """Close the connection; calls that are still running fail with CANCELLED."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _why_not_ready(self, model: str | None, version: str, timeout: float | None) -> str:
        """Return an empty string when ready, else the answer that says it is not."""
        rpc, request = shared.readiness_question(model, version)
        try:
            response, _ = self._call(rpc, request, timeout)
        except RpcFailed as error:
            if shared.means_not_ready(error):
                return str(error)
            raise
        return "" if shared.is_ready(rpc, response) else "not ready"

    def _call(self, rpc: str, request: bytes, timeout: float | None) -> tuple[bytes, Metadata]:
        deadline = shared.rpc_timeout(timeout, self._timeout)
        try:
            response, call = self._methods[rpc].with_call(request, timeout=deadline, metadata=self._metadata)
        except grpc.RpcError as error:
            raise RpcFailed.of(error) from error
        return response, call.trailing_metadata()
