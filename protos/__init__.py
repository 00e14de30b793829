"""Wire messages of the Open Inference Protocol, generated from the ``.proto`` files beside this one.

The messages live in the proto package ``runtime.inference.v2``, so that they can be imported next to
any library that registers the package ``inference``. On the wire the two are the same bytes.
``service`` knows the paths of the RPCs; ``generate`` makes the ``*_pb2`` modules anew. Nothing is
imported here: a process pays only for the messages that it uses.
"""
