"""The hot loops, one file per operation: a plain torch reference beside its compiled twin for the CPU."""
