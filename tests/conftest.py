"""Settings for all tests."""

import os
import signal

import torch

# One thread, in the commands that tests start, too: the tests run on tiny tensors, and threads that wait for each other
# cost more than they bring.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Also where a shell has started the tests in the background, and with them all trainings, with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
