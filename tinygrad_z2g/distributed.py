"""Data parallelism, where torch has it: see `parallel/processes.py`."""

# isort: off
from .absent import answers
from .parallel.processes import (
    all_reduce, average_gradients, barrier, broadcast, broadcast_parameters, destroy_process_group,
    get_node_local_rank, get_rank, get_world_size, init_process_group, is_initialized, separate_dropout,
)  # fmt: skip

__all__ = [
    "all_reduce", "average_gradients", "barrier", "broadcast", "broadcast_parameters", "destroy_process_group",
    "get_node_local_rank", "get_rank", "get_world_size", "init_process_group", "is_initialized", "separate_dropout",
]  # fmt: skip
__getattr__ = answers(__name__)
