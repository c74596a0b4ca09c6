"""How a system says "instance": outputs, targets, encode, loss, decode. None knows a network or a dataset."""
