"""Echo servers to compare with: ``python -m benchmarks.echo completion_queue|aio PORT``.

Both answer every ModelInfer request with the request's own bytes, with no decoding at all: what is left is
the price of gRPC in Python. Prints ``ready`` once it listens.
"""

from __future__ import annotations

import sys
import threading

from runtime.transport.environment import prepare_environment

METHOD = "/inference.GRPCInferenceService/ModelInfer"


def completion_queue(port: int) -> None:
    """The runtime's own transport and nothing behind it."""
    prepare_environment()
    from runtime.transport.completion_queue import Server
    from runtime.transport.options import TransportOptions

    server = Server(TransportOptions())
    server.add_unary(METHOD, lambda call: call.respond(call.request))
    server.add_port(f"127.0.0.1:{port}")
    server.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    threading.Event().wait()


async def aio(port: int) -> None:
    """What a Python service on grpc.aio pays at least."""
    import grpc
    import grpc.aio

    async def echo(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
        return request

    server = grpc.aio.server(
        options=(("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    )
    service, method = METHOD[1:].split("/")
    handler = grpc.method_handlers_generic_handler(
        service, {method: grpc.unary_unary_rpc_method_handler(echo)}
    )
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "aio":
        import uvloop

        uvloop.run(aio(port))
    else:
        completion_queue(port)
