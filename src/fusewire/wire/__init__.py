"""The FUSE protocol as data: opcodes, flags, errno, layouts and the one table of operations.

Both halves stand on it: it encodes and decodes both directions. No I/O, no threads, no imports of ours.
"""
