"""Performance-critical operations, one per file: a plain torch reference and a compiled version for the CPU."""
