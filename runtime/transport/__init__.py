"""gRPC transport: bytes in, bytes out, no policy.

Public modules: ``interface`` (the contract), ``selfcheck`` (which implementation to use),
``completion_queue`` and ``aio`` (the implementations), ``options``, ``credentials``, ``environment``,
``servicers``, ``health``, ``reflection``. Nothing is imported here, so that
``environment.prepare_environment`` can run before grpc is loaded.
"""
