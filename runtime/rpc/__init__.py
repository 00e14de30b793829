"""The Open Inference Protocol on the transport: decode, validate, admit; and everything else it asks for."""
