"""Settings of the whole suite, made before anything imports torch."""

import os

# Pictures here are so small that threads cost more than they bring, most of all where several processes have some. And
# a few tests compare sums bit for bit, whose order depends on the number of threads.
os.environ["OMP_NUM_THREADS"] = "1"
