"""Tensors: on the wire, between processes, in shared memory. Empty: importing a part imports only that."""
