"""Settings for all tests."""

import torch

# One thread: the tests run on tiny tensors, and threads that wait for each other cost more than they bring.
torch.set_num_threads(1)
