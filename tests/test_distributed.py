"""Several processes, one model: alone, with pretended partners on every device, and with real ones under mpiexec."""

import importlib.util
import inspect
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path

import numpy as np
import pytest
from numeric import host

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.arrays.random import default_generator
from tinygrad_z2g.models import GPT, GPTConfig
from tinygrad_z2g.parallel import processes as distributed

ROOT = Path(__file__).parent.parent
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
needs_mpi = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
    reason="needs mpi4py and mpiexec: pip install 'tinygrad_z2g[mpi]'",
)
ALONE = ["is_initialized", "get_rank", "get_world_size", "get_node_local_rank"]


# --- Alone --------------------------------------------------------------------------------------------------------


def test_alone_the_world_is_one_process_and_nothing_changes(device):
    assert [getattr(distributed, name)() for name in ALONE] == [False, 0, 1, 0]
    model, x = nn.Linear(3, 2), z2g.tensor([1.0, 2.0])
    model(z2g.ones(1, 3)).sum().backward()
    z2g.manual_seed(2**40 + 1)
    before, grads = default_generator.get_state(), [host(p.grad).copy() for p in model.parameters()]
    distributed.barrier()
    distributed.all_reduce(x)
    distributed.broadcast(x)
    distributed.broadcast_parameters(model)
    distributed.average_gradients(model)
    distributed.separate_dropout()
    assert x.tolist() == [1.0, 2.0] and default_generator.get_state() == before
    for p, grad in zip(model.parameters(), grads, strict=True):
        np.testing.assert_array_equal(host(p.grad), grad)


def test_errors():
    history = z2g.ones(2, requires_grad=True) * 2
    for call in (distributed.all_reduce, distributed.broadcast):
        with pytest.raises(RuntimeError, match="detach"):
            call(history)
    with pytest.raises(ValueError, match="src=1, expected a rank from 0 to 0"):
        distributed.broadcast(z2g.ones(2), 1)
    with pytest.raises(TypeError, match=r"bool.*\.int\(\)"):
        distributed.all_reduce(z2g.ones(2).bool())


@pytest.mark.parametrize("reason", [ModuleNotFoundError("No module named 'mpi4py'"), RuntimeError("cannot load MPI")])
def test_without_mpi_the_error_names_the_extra(reason, monkeypatch):
    class Broken:
        def __getattr__(self, name):
            raise reason

    monkeypatch.setitem(sys.modules, "mpi4py", Broken())
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    with pytest.raises(ImportError, match=r"tinygrad_z2g\[mpi\]"):
        distributed.init_process_group()
    assert not distributed.is_initialized()


# --- With pretended partners: this process is rank 1 of 3, and the others send what the test says -----------------


class World:
    """Stands for mpi4py.MPI and its communicator, and for the NCCL communicator of CuPy.

    `others` holds, in order, what the other processes send: of a sum the sum of theirs, of a broadcast the message.
    """

    IN_PLACE, COMM_TYPE_SHARED, ANY_SOURCE = "in place", "shared", -1

    def __init__(self, others):
        self.others, self.log, self.COMM_WORLD = list(others), [], self

    def Get_rank(self):
        return 1

    def Get_size(self):
        return 3

    def Test(self):
        return True  # a message among all has come to its end

    def Iprobe(self, source, tag, status):
        return False  # nobody has left

    def Status(self):
        return None

    def Iallreduce(self, how, buffer):
        assert how == "in place" and type(buffer) is np.ndarray and buffer.flags.c_contiguous
        self.log.append("mpi sum")
        buffer += self.others.pop(0)
        return self

    def Ibcast(self, buffer, src):
        assert type(buffer) is np.ndarray and buffer.flags.c_contiguous
        self.log.append(f"mpi from {src}")
        buffer[:] = np.asarray(self.others.pop(0)).reshape(-1).view(np.uint8)
        return self

    def all_reduce(self, array, out):
        assert array is out and type(array) is sys.modules["cupy"].ndarray and array.flags.c_contiguous
        self.log.append("nccl sum")
        array += sys.modules["cupy"].asarray(self.others.pop(0))

    def broadcast(self, array, src):
        assert type(array) is sys.modules["cupy"].ndarray and array.flags.c_contiguous
        self.log.append(f"nccl from {src}")
        message = np.asarray(self.others.pop(0)).reshape(-1).view(np.uint8)
        array[...] = sys.modules["cupy"].asarray(message)


@pytest.fixture
def join(device):
    """A function that makes this process rank 1 of 3, whose others send these messages."""
    with pytest.MonkeyPatch.context() as patch:

        def join(*others):
            world = World(others)
            cards = types.ModuleType("cupyx.distributed")
            cards.init_process_group = lambda n, rank, use_mpi: world if (n, rank, use_mpi) == (3, 1, True) else None
            package = types.ModuleType("cupyx")
            package.distributed = cards
            patch.setitem(sys.modules, "cupyx", package)
            patch.setitem(sys.modules, "cupyx.distributed", cards)
            patch.setattr(distributed, "_mpi", world)
            patch.setattr(distributed, "_post", world)
            patch.setattr(distributed, "_nccl", None)
            return world

        yield join


def way(device):
    return "mpi" if device == "cpu" else "nccl"


@pytest.mark.gpu
def test_nccl_is_there():
    """Two processes need two cards; that CuPy's part exists as it is used here can be seen without."""
    cupyx = pytest.importorskip("cupyx.distributed")
    assert "use_mpi" in inspect.signature(cupyx.init_process_group).parameters


VIEWS = {
    "whole": lambda x: x, "transposed": lambda x: x.T, "every second": lambda x: x.reshape(-1)[::2],
    "column": lambda x: x[:, 1], "0-d": lambda x: x[1, 2], "empty": lambda x: x[:0],
}  # fmt: skip


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_all_reduce_adds_in_place_also_through_views(join, device, view, dtype):
    x = z2g.arange(12).reshape(3, 4).to(dtype)
    expected, part = host(x).copy(), view(x)
    theirs = 100 * (1 + np.arange(part.numel())).astype(dtype)
    view(z2g.from_numpy(expected)).numpy()[...] += theirs.reshape(part.shape)
    world, version = join(theirs), x.memory.writes
    distributed.all_reduce(part)
    np.testing.assert_array_equal(host(x), expected)
    assert world.log == [f"{way(device)} sum"] and x.memory.writes > version


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool"])
def test_broadcast_replaces_in_place_also_through_views(join, device, view, dtype):
    x = z2g.zeros(3, 4).to(dtype)
    expected, part = host(x).copy(), view(x)
    message = np.ones(part.shape, dtype)
    view(z2g.from_numpy(expected)).numpy()[...] = message
    world = join(message)
    distributed.broadcast(part, 2)
    np.testing.assert_array_equal(host(x), expected)
    assert world.log == [f"{way(device)} from 2"]


def two_layers():
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2, bias=False))


def test_gradients_become_their_mean_in_one_message(join, device):
    model = two_layers()
    model(z2g.randn(5, 3)).pow(2).sum().backward()
    mine = np.concatenate([host(p.grad).reshape(-1) for p in model.parameters()])
    theirs = np.random.default_rng(0).standard_normal(12).astype(np.float32)
    objects = [p.grad for p in model.parameters()]
    world = join([2, 2, 2], theirs)
    distributed.average_gradients(model)
    assert world.log == ["mpi sum", f"{way(device)} sum"]  # who has a gradient at all, and then the gradients
    found = np.concatenate([host(p.grad).reshape(-1) for p in model.parameters()])
    np.testing.assert_allclose(found, (mine + theirs) / 3, rtol=1e-6)
    for p, grad in zip(model.parameters(), objects, strict=True):
        assert p.grad is grad and p.grad.shape == p.shape and p.grad.dtype == p.dtype


def test_gradients_live_on_as_torch_users_expect(join, device):
    """Kept ones are not overwritten by the next step; zeroing in place and accumulating work; clipping too."""
    model, x = two_layers(), z2g.randn(5, 3)
    theirs = np.ones(12, np.float32)
    join(*[[2, 2, 2], theirs] * 3)

    def step():
        model(x).pow(2).sum().backward()
        distributed.average_gradients(model)
        return [host(p.grad).copy() for p in model.parameters()]

    first, kept = step(), [p.grad for p in model.parameters()]
    model.zero_grad()
    step()
    for old, grad in zip(first, kept, strict=True):
        np.testing.assert_array_equal(host(grad), old)
    model.zero_grad(set_to_none=False)
    for old, grad in zip(first, step(), strict=True):
        np.testing.assert_allclose(grad, old, rtol=1e-6)
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    norm = sum((host(p.grad) ** 2).sum() for p in model.parameters()) ** 0.5
    assert norm == pytest.approx(0.5, rel=1e-4)


def test_a_parameter_without_gradient_here_or_anywhere(join, device):
    """Used by others: 0 here. Used by nobody: it stays None, so that optimizers leave it alone."""
    model = nn.ModuleList([nn.Linear(1, 1, bias=False) for _ in range(3)])
    model[0](z2g.tensor([[6.0]])).sum().backward()
    join([2, 1, 0], np.array([3.0, 9.0], np.float32))
    distributed.average_gradients(model)
    assert [p.grad if p.grad is None else p.grad.item() for p in model.parameters()] == [3.0, 3.0, None]


def test_each_dtype_travels_for_itself(join, device):
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False).double())
    for p in model.parameters():
        p.grad = z2g.ones_like(p)
    world = join([2, 2], [5.0], [8.0])
    distributed.average_gradients(model)
    assert [(p.grad.item(), p.grad.dtype) for p in model.parameters()] == [(2.0, z2g.float32), (3.0, z2g.float64)]
    assert len(world.log) == 3


def test_parameters_and_buffers_come_from_one_process(join, device):
    model = nn.Linear(2, 1)
    model.register_buffer("mask", z2g.ones(2).bool())
    world = join(np.float32([[5, 6]]), np.float32([7]), np.array([False, True]))
    distributed.broadcast_parameters(model)
    assert (model.weight.tolist(), model.bias.tolist(), model.mask.tolist()) == ([[5, 6]], [7], [False, True])
    assert world.log == [f"{way(device)} from 0"] * 3


def test_dropout_differs_between_processes_and_nothing_else(join, device):
    z2g.manual_seed(3)
    numbers, mask = z2g.rand(4).tolist(), nn.functional.dropout(z2g.ones(200), 0.5).tolist()
    again = default_generator.get_state()
    join()
    z2g.manual_seed(3)
    distributed.separate_dropout()
    assert z2g.rand(4).tolist() == numbers
    other = nn.functional.dropout(z2g.ones(200), 0.5).tolist()
    agree = np.mean(np.array(mask) == np.array(other))
    assert 0.3 < agree < 0.7
    default_generator.set_state({**again, "calls": 0})  # as from a checkpoint: rank 0 wrote it
    distributed.separate_dropout()
    distributed.separate_dropout()  # twice is once
    assert nn.functional.dropout(z2g.ones(200), 0.5).tolist() == other


def test_no_synchronisation_in_a_step(join, device):
    """Who has a gradient is known on the host, and NCCL works in the stream's order."""
    import fakecupy

    model = GPT(GPTConfig(vocab_size=7, context=4, layers=1, heads=2, width=8))
    optimizer = optim.AdamW(model.parameters())
    ids = z2g.randint(0, 7, (2, 5))
    join([2] * len(list(model.parameters())), np.zeros(sum(p.numel() for p in model.parameters()), np.float32))
    fakecupy.synchronisations.reset()
    _, loss = model(ids[:, :-1], ids[:, 1:])
    loss.backward()
    distributed.average_gradients(model)
    optimizer.step()
    assert fakecupy.synchronisations.count == 0


# --- With real ones -----------------------------------------------------------------------------------------------


def launch(tmp_path, code, n=2):
    """Start `code` in n processes; standard output and error together."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code), encoding="utf-8")
    return start([str(script)], n)


def start(arguments, n=2):
    path = os.pathsep.join([str(ROOT), str(ROOT / "examples")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    command = [MPIEXEC, "-n", str(n), sys.executable, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finish(process, timeout=60):
    try:
        return process.communicate(timeout=timeout)[0]
    finally:
        process.kill()


@needs_mpi
def test_two_processes_equal_one_with_both_batches(tmp_path):
    """Weights after 5 steps, and the messages themselves."""
    process = launch(tmp_path, """
        import numpy as np
        import tinygrad_z2g as z2g
        from tinygrad_z2g import distributed as dist, nn, optim
        dist.init_process_group()
        rank, world = dist.get_rank(), dist.get_world_size()
        assert (world, dist.is_initialized(), dist.get_node_local_rank()) == (2, True, rank)
        x = z2g.tensor([1.0, 10.0]) * (rank + 1)
        dist.all_reduce(x)
        assert x.tolist() == [3.0, 30.0]
        x = z2g.tensor([True, False]) if rank else z2g.tensor([False, True])
        dist.broadcast(x, 1)
        assert x.tolist() == [True, False]

        def train(parts, rank):
            model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
            if parts == 2:
                dist.broadcast_parameters(model)
            optimizer, data = optim.AdamW(model.parameters(), lr=0.1), z2g.Generator(7)
            for _ in range(5):
                batch = z2g.randn(6, 4, generator=data, dtype=z2g.float64).chunk(parts)[rank]
                nn.functional.mse_loss(model(batch), batch[:, :1].sin()).backward()
                if parts == 2:
                    dist.average_gradients(model)
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                optimizer.step()
                optimizer.zero_grad()
            return model

        z2g.manual_seed(rank)  # other weights in each, until process 0 sends its own
        shared = train(2, rank)
        z2g.manual_seed(0)
        alone = train(1, 0)
        for p, q in zip(shared.parameters(), alone.parameters()):
            np.testing.assert_allclose(p.data.numpy(), q.data.numpy(), rtol=1e-9, atol=1e-12)
        dist.barrier()
        dist.destroy_process_group()
        open(__file__ + str(rank), "x").close()
    """)  # fmt: skip
    out = finish(process)
    assert process.returncode == 0, out
    assert [(tmp_path / f"script.py{rank}").exists() for rank in (0, 1)] == [True, True], out


FORGOT = "rank 1 ended without destroy_process_group(): ending all processes"
LEFT = "rank 0 waits in WAIT for rank 1, which left by destroy_process_group(): ending all processes"
LEAVE = "distributed.destroy_process_group()"
ENDS = {  # how rank 1 ends, and the line that tells
    "exception": ("raise ValueError('no luck')", FORGOT), "exit": ("sys.exit(3)", FORGOT),
    "clean exit": ("sys.exit(0)", FORGOT), "Ctrl-C": ("raise KeyboardInterrupt", FORGOT),
    "SIGINT": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(30)", FORGOT), "forgets to leave": ("pass", FORGOT),
    "leaves": (LEAVE, LEFT), "leaves and goes on": (f"{LEAVE}; time.sleep(30)", LEFT),
    "leaves and fails": (f"{LEAVE}; 1 / 0", LEFT), "leaves and joins anew": (f"{LEAVE}; again()", LEFT),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)", "(signal 15)"),  # these lines are mpiexec's
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", "(signal 9)"),
    "SIGSEGV": ("signal.signal(11, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGSEGV)", "(signal 11)"),
}  # fmt: skip
WAITS = {
    "all_reduce": "distributed.all_reduce(x)", "broadcast": "distributed.broadcast(x, 1)",
    "barrier": "distributed.barrier()", "average_gradients": "distributed.average_gradients(model)",
}  # fmt: skip


@needs_mpi
@pytest.mark.parametrize(
    "end, wait", [(end, "all_reduce") for end in ENDS] + [("leaves", w) for w in [*WAITS][1:]], ids=str
)
def test_however_one_process_ends_the_others_end_within_seconds(tmp_path, end, wait):
    """After messages in which both took part, and while rank 0 waits for the next one. One line says why."""
    code, line = ENDS[end]
    process = launch(tmp_path, f"""
        import os, signal, sys, time
        import tinygrad_z2g as z2g
        from tinygrad_z2g import distributed, nn
        def again():
            distributed.init_process_group()
            time.sleep(30)
        distributed.init_process_group()
        x, model = z2g.ones(2), nn.Linear(2, 2)
        distributed.all_reduce(x)
        distributed.barrier()
        if distributed.get_rank() == 1:
            {code}
        else:
            {WAITS[wait]}
            print("never reached")
    """)  # fmt: skip
    began = time.monotonic()
    out = finish(process, timeout=25)
    assert time.monotonic() - began < 15  # most of it to start Python twice
    assert process.returncode != 0
    assert out.count(line.replace("WAIT", wait)) == 1 and "never reached" not in out, out
    assert "no luck" in out or "no luck" not in code


@needs_mpi
def test_who_leaves_after_the_last_message_disturbs_nobody(tmp_path):
    """Three processes leave at different times, and join anew. MPI's own end finds no message that nobody has read.

    Such a one made MPI_Finalize fail in each of them, in silence, since it comes after Python's end; then mpiexec
    killed those that were not quite through when the first had ended. So they call it here, where it can speak.
    """
    process = launch(tmp_path, """
        import atexit
        import time
        import tinygrad_z2g as z2g
        from mpi4py import MPI
        from tinygrad_z2g import distributed
        atexit.register(MPI.Finalize)  # the first to be registered is the last to run
        for turn in range(3):
            distributed.init_process_group()
            for _ in range(20):
                x = z2g.ones(1)
                distributed.all_reduce(x)
                assert x.item() == 3
                time.sleep(0.002 * distributed.get_rank())
            distributed.destroy_process_group()
    """, n=3)  # fmt: skip
    out = finish(process)
    assert process.returncode == 0 and not out, out


GPT_FLAGS = (
    "--quick", "--no-plot", "--steps", "10", "--tokens", "20", "--context", "16", "--width", "32", "--heads", "2",
)  # fmt: skip


def start_gpt(out, batch, *flags, n=2):
    """18_gpt.py in n processes, on a short text."""
    poems = out.parent / "poems.txt"
    poems.write_text((ROOT / "examples" / "data" / "cats.txt").read_text(encoding="utf-8")[:9000], encoding="utf-8")
    arguments = [*GPT_FLAGS, "--text", poems, "--batch", batch, "--out", out, *flags]
    if n > 1:
        arguments.append("--distributed")
    return start([str(ROOT / "examples" / "18_gpt.py"), *map(str, arguments)], n)


def train_gpt(out, *args, **kwargs):
    """The same to the end: the checkpoint and the output."""
    process = start_gpt(out, *args, **kwargs)
    text = finish(process)
    assert process.returncode == 0, text
    return z2g.load(out / "checkpoint.safetensors"), text


@needs_mpi
def test_the_gpt_learns_the_same_in_two_processes(tmp_path):
    """The losses of one process with the doubled batch, to 1e-5."""
    one, _ = train_gpt(tmp_path / "one", 8, "--dropout", 0, n=1)
    two, text = train_gpt(tmp_path / "two", 4, "--dropout", 0)
    for key in ("train", "val"):
        np.testing.assert_allclose(two["history"][key], one["history"][key], atol=1e-5)
    for line in ("characters to learn from", "on 2 x cpu", "step    10", "result: "):  # only rank 0 speaks
        assert text.count(line) == 1, text


@needs_mpi
def test_only_rank_0_writes_and_each_rank_drops_activations_of_its_own(tmp_path):
    """Each with a folder of its own, and telling at the end its seed of dropout masks and whether it drew no bar."""
    probe = tmp_path / "probe.py"
    probe.write_text(textwrap.dedent("""
        import atexit, os, pathlib, runpy, sys
        from tinygrad_z2g.arrays.random import default_generator
        told = pathlib.Path(sys.argv[-1]).with_suffix(".told")  # a file: lines of two processes can mix in one pipe
        atexit.register(lambda: told.write_text(f"{default_generator.initial_seed()} {os.environ.get('TQDM_DISABLE')}"))
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")
    """), encoding="utf-8")  # fmt: skip
    script = [str(ROOT / "examples" / "18_gpt.py"), *GPT_FLAGS, "--distributed", "--seed", "5", "--out"]
    both = [str(probe), *script, str(tmp_path / "a"), ":", "-n", "1", sys.executable, str(probe), *script]
    process = start([*both, str(tmp_path / "b")], 1)
    text = finish(process)
    assert process.returncode == 0, text
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"gpt.safetensors", "checkpoint.safetensors", "gpt.html"}
    assert not list((tmp_path / "b").iterdir())
    assert (tmp_path / "a.told").read_text(encoding="utf-8") == "5 None"
    assert (tmp_path / "b.told").read_text(encoding="utf-8") == f"{5 + 2**32} 1"


@needs_mpi
def test_ctrl_c_stops_both_after_the_same_step_and_resume_goes_on(tmp_path):
    """With dropout: cut and resumed, the weights are those of an uninterrupted run, bit for bit."""
    flags, cut = ("--dropout", 0.2, "--steps", 60), tmp_path / "cut"
    whole, _ = train_gpt(tmp_path / "whole", 4, *flags)
    process = start_gpt(cut, 4, *flags)
    while not (cut / "checkpoint.safetensors").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    text = finish(process)
    assert "go on with --resume" in text and "Traceback" not in text, text
    assert z2g.load(cut / "checkpoint.safetensors")["step"] < 60
    again, _ = train_gpt(cut, 4, *flags, "--resume")
    for name, tensor in whole["model"].items():
        assert z2g.equal(tensor, again["model"][name]), name


def test_the_example_without_mpi_says_what_to_install(tmp_path):
    code = "import sys, runpy; sys.modules['mpi4py'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], "
    code += "run_name='__main__')"
    script = ROOT / "examples" / "18_gpt.py"
    command = [sys.executable, "-c", code, str(script), "--quick", "--distributed", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(script.parent)])}
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert "--distributed" in process.stderr and "tinygrad_z2g[mpi]" in process.stderr
