"""The order in which to read the source, and where the questions that readers ask are answered.

Lines are counted and places are found when they are asked for, so nothing here goes stale in silence: the tests see to
it that every file has its step, that what a file uses was read or at least explained before, and that every place
exists. It knows nothing of what is in the files, beyond the sentences below.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import NamedTuple

from .source import PACKAGE, path_of, title

READ, SKIM, OPEN = 30, 120, 600  # lines a minute, assumed: every line; names, docstrings; the first paragraph


class Step(NamedTuple):
    """One file. `later` explains, in a sentence, each module it uses that is read only afterwards."""

    module: str
    pace: int
    look: str
    later: dict[str, str] = {}  # noqa: RUF012 - never changed

    @property
    def lines(self) -> int:
        """How many lines the file has now."""
        return len(path_of(self.module).read_text(encoding="utf-8").splitlines())

    @property
    def minutes(self) -> float:
        """How long that takes at the pace of this step."""
        return self.lines / self.pace


PATH = {
    "The idea": [
        Step("engine", READ, "The whole idea. The three words of the opening paragraph, then `record` (what an "
             "operation leaves behind), `walk` (youngest node first) and `arrive` (where two paths meet: the sum). "
             "`match` undoes broadcasting. What lies below 'Walks that are recorded' can wait.", {
                 "backend": "`of(array)` is NumPy or CuPy, whichever the array belongs to",
                 "kernels": "functions on plain arrays; here only `total`, a sum over some axes. Where an operation "
                     "uses another one, `learn NAME` shows it beside the rule",
                 "modes": "`grad_mode.enabled` is False under no_grad()",
                 "replay": "`active` is 0, unless a training step is compiled for a GPU",
                 "trace": "`observers` is an empty list, unless somebody asked to look on",
                 "views": "`Spot`, the place of a view in another array; used after in-place writes alone"}),
    ],
    "The ground it stands on": [
        Step("modes", OPEN, "One flag a thread; `no_grad` is a context and a decorator."),
        Step("backend", SKIM, "`of` and `device_of`; the rest is about finding a GPU."),
        Step("console", OPEN, "Text for a terminal that lacks some characters."),
        Step("size", OPEN, "A shape is a tuple that prints as torch's."),
        Step("absent", OPEN, "What there is not, and what to do instead."),
        Step("backends", OPEN, "Switches that change nothing.", {
            f"backends.{name}": "one of them" for name in ("cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp")}),
        *(Step(f"backends.{name}", OPEN, "Answers for torch code.")
          for name in ("cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp")),
        Step("dtypes", SKIM, "`promote`: what float32 and int64 make together."),
        Step("precision", OPEN, "What `autocast` sets; `ops.casting` acts on it."),
    ],
    "Operations: the result, and beside it the rule": [
        Step("ops", OPEN, "One family a file."),
        Step("ops.common", OPEN, "`operands` and `record_view`; the rest checks arguments and words errors."),
        Step("ops.casting", OPEN, "`lowered` and `raised`: the casts of mixed precision, nothing outside of it."),
        Step("ops.counting", OPEN, "Places and counts: no gradient."),
        Step("ops.unary", SKIM, "Three or four functions of your choice: derive, compare, run the example."),
        Step("ops.elementwise", SKIM, "`mul`: the result in one line, then a rule for each input, and what it reads. "
             "`where`: why the rule chooses and does not multiply."),
        Step("ops.linalg", SKIM, "`matmul`: two lines of derivation, and the shapes beside each product. Then "
             "`linear`."),
        Step("ops.shape", SKIM, "Rules that move gradients back: `reshape`, `permute`, `expand`, `cat`. They keep a "
             "shape, never an array."),
        Step("views", OPEN, "`Spot`: a first element, and a stride for each dimension."),
        Step("ops.inplace", SKIM, "`update`: how a write is counted, so that backward can notice it, and recorded."),
        Step("ops.indexing", OPEN, "`getitem`: the rule of reading is adding. `setitem`: the rule of replacing."),
        Step("ops.reduction", SKIM, "`sum` (its rule is a broadcast), `var`, and `prod`, which divides by nothing."),
        Step("ops.softmax", READ, "The derivation of `softmax`, then its kernel: `python -m tinygrad_z2g.learn "
             "softmax`."),
        Step("ops.sorting", OPEN, "No rule of its own: an order, and `gather`."),
        Step("ops.elementary", OPEN, "More functions of numbers, up to `lgamma`."),
        Step("ops.grids", OPEN, "`meshgrid` is a reshape and an expand."),
        Step("ops.products", OPEN, "`cdist`: what is done at the distance 0."),
        Step("ops.statistics", OPEN, "The middle, and other places in order."),
        Step("ops.writing", OPEN, "`index_add`: scattering whole slices."),
        Step("ops.decompositions", OPEN, "`solve`: a rule from what the result satisfies."),
        Step("ops.words", OPEN, "The same words for tensors, so that a rule can be walked through again."),
    ],
    "The tensor": [
        Step("random", SKIM, "One seed; and why dropout needs no stored mask."),
        Step("asking", OPEN, "`seed_gradient`: what a backward pass starts with."),
        Step("methods", OPEN, "More of that table."),
        Step("notebook", OPEN, "A tensor as a coloured table."),
        Step("tensor", SKIM, "The table in the middle, where each operation becomes a method. `backward` is one line. "
             "Then `_version`, `detach`, `retain_grad`.", {
                 "explain": "tells the backward pass step by step, when asked to",
                 "showing": "prints a tensor"}),
        Step("creation", OPEN, "`tensor` copies, `as_tensor` shares."),
        Step("old", OPEN, "How torch code was written once."),
        Step("questions", OPEN, "`finfo` and other answers."),
        Step("linalg", OPEN, "torch.linalg: names, and norms."),
        Step("gradcheck", READ, "How to doubt all of this: a slope measured with forward passes alone, and random "
             "weights."),
        Step("gradcheck.twice", OPEN, "The same of a gradient: second derivatives."),
        Step("trace", OPEN, "`Observer`, and `here`: the line of the program that called an operation."),
        Step("anomaly", OPEN, "Who made the first NaN: an observer."),
        Step("folding", OPEN, "`runs`: what repeats itself in a list."),
        Step("formula", OPEN, "A rule leads to the docstring of its operation."),
        Step("explain", OPEN, "`story`: a copy of the graph, walked by the real `walk` with a listener at each rule. "
             "Or call `loss.explain()`."),
        Step("func", OPEN, "`Level`: stand-ins for the inputs, and who still wants a history. `jvp`: forward, by two "
             "walks back."),
        Step("autograd.functional", OPEN, "The same questions asked at a point."),
        Step("autograd", SKIM, "`grad`, and `Function`: an operation of your own in two methods."),
    ],
    "Functions of networks": [
        Step("kernels.normal", OPEN, "`erf`: two series, one for small numbers."),
        Step("kernels.reference", SKIM, "`softmax_backward`, `cross_entropy`, `layer_norm_backward`, "
             "`attention_backward`, `adam`: each against the formula in its docstring."),
        Step("kernels.recurrent", OPEN, "RNN, GRU, LSTM over all steps, and back through time."),
        Step("kernels.channels", OPEN, "Sums over a batch, for each channel."),
        Step("kernels.pooling", OPEN, "Where the largest stands."),
        Step("kernels", OPEN, "NumPy's arrays go to the reference, or to loops; CuPy's to `cuda`.", {
                 "kernels.quantized": "products with weights of four or eight bits",
                 "kernels.cuda": "the same routines for a GPU",
                 "kernels.loops": "whether Numba is there; with it come the same routines as compiled loops"}),
        Step("kernels.pictures", OPEN, "`conv_input`: a gradient that is a convolution itself."),
        Step("replay", OPEN, "For a GPU: which numbers differ from step to step."),
        Step("nn.window", OPEN, "One picture, the windows; `_convolve` is then three products."),
        Step("nn.losses", SKIM, "`cross_entropy`: p - onehot."),
        Step("nn.distances", OPEN, "Lengths and angles."),
        Step("nn.margins", OPEN, "Losses that are content with a lead."),
        Step("nn.likelihoods", OPEN, "-ln p of other distributions; `ctc_loss`, a sum over all ways to read a text."),
        Step("nn.nonlinear", OPEN, "A formula a function."),
        Step("nn.dropping", OPEN, "One number for a whole channel."),
        Step("nn.batch_norm", OPEN, "Which numbers share a mean: the table at the top."),
        Step("nn.resize", OPEN, "`interpolate`: a few neighbours, weighted."),
        Step("nn.rotary", OPEN, "`rotary_embedding`: why a product of two turned vectors knows their distance alone."),
        Step("nn.dot_product", OPEN, "Attention as a function; `plain` is its text in nine lines."),
        Step("nn.functional", SKIM, "`layer_norm`: what the two means remove. Attention. The others are composed and "
             "need no rule."),
    ],
    "Layers": [
        Step("nn.module", SKIM, "How a module finds its parameters without registering them."),
        Step("nn.container", OPEN, "Modules in order, in a list, under names."),
        Step("nn.init", OPEN, "Why 1 / fan_in."),
        Step("nn.linear", READ, "The smallest layer that learns: two parameters and one call."),
        Step("nn.activation", OPEN, "Settings, and a call each."),
        Step("nn.dropout", READ, "The one layer that asks whether it is training."),
        Step("nn.norm", OPEN, "Scale and shift are learned, the rest is not."),
        Step("nn.embedding", OPEN, "A table; reading a row is the forward pass."),
        Step("nn.conv", OPEN, "Sizes, and a call each."),
        Step("nn.loss", OPEN, "The losses of `functional` for those who like objects."),
        Step("nn.lazy", OPEN, "Layers that learn their width from the first input."),
        Step("nn.pairs", OPEN, "What takes two vectors."),
        Step("nn.picture", OPEN, "Settings, and a call each."),
        Step("nn.utils.rnn", OPEN, "Sequences of different lengths, packed without padding."),
        Step("nn.recurrent", OPEN, "`lstm_step` says what an LSTM is; `lstm_scan` the same as one operation. Then "
             "`_run`: layers and directions."),
        Step("nn.attention", OPEN, "`split_heads` and the masks."),
        Step("nn.cache", OPEN, "`extend`: nothing is copied for a new token."),
        Step("nn.transformer", READ, "Attention, then a small network, each added to what came in."),
        Step("nn.encoder_decoder", OPEN, "The same for two sequences: one is read, the other written."),
        Step("kernels.quantized", OPEN, "How sixteen bytes are 32 weights; why sums are scaled and not weights."),
        Step("nn.quantized", OPEN, "Layers of four bits."),
        Step("nn.lora", OPEN, "A small correction learns in place of a large weight."),
        Step("nn.parameter", OPEN, "Where torch keeps Parameter."),
        Step("nn.reparametrized", OPEN, "A weight that is computed before each forward."),
        Step("nn.parallel", OPEN, "A name that programs expect."),
        Step("nn.utils.gradients", SKIM, "One norm over all gradients."),
        Step("nn.utils", OPEN, "What the package offers."),
        Step("nn", OPEN, "What the package offers."),
    ],
    "Optimizers: what changes the weights": [
        Step("optim.optimizer", SKIM, "`step`: who is updated, and that a write is counted."),
        Step("optim.sgd", READ, "The rule that everything else refines."),
        Step("optim.adam", READ, "Two averages for each weight; the arithmetic is in `kernels.adam`."),
        Step("optim.muon", OPEN, "For matrices: a step that is equally long in every direction."),
        Step("optim.adaptive", OPEN, "RMSprop and its relatives, a rule each."),
        Step("optim.lbfgs", OPEN, "`_direction`: a matrix that nobody stores."),
        Step("optim.lr_scheduler", OPEN, "A schedule sets one number."),
        Step("optim.swa_utils", OPEN, "Averages of weights."),
        Step("optim", OPEN, "What the package offers."),
    ],
    "The GPT": [
        Step("text.characters", SKIM, "Characters as numbers, and the same text one character later as target."),
        Step("text.pieces", OPEN, "Where words end: patterns."),
        Step("text.bpe", OPEN, "`train`: the commonest pair becomes a token, again and again. `encode` repeats it."),
        Step("text.fast", OPEN, "The same tokens, sooner."),
        Step("text.wordpiece", OPEN, "Another way to cut words: BERT's."),
        Step("text", OPEN, "What the package offers."),
        Step("utils.data.dataset", OPEN, "Samples by number."),
        Step("utils.data.collate", OPEN, "Many samples, one batch."),
        Step("utils.data.sampler", OPEN, "The order."),
        Step("utils.data.dataloader", OPEN, "All three together."),
        Step("utils.data", OPEN, "Batches of any dataset."),
        Step("utils", OPEN, "Nothing but the name."),
        Step("models.generation", OPEN, "Draw a token, feed it back."),
        Step("models.gpt", READ, "All of it put together: embeddings, blocks, and sampling one token at a time."),
        Step("models.files", OPEN, "GGUF and safetensors: a header, then bytes."),
        Step("models.vocabulary", OPEN, "Tokenizers in files."),
        Step("models.llama", OPEN, "Beside `gpt.py`: what changed from GPT-2 to the models of today."),
        Step("models.bert", OPEN, "The same parts, read from both sides."),
        Step("models", OPEN, "What the package offers."),
    ],
    "When you need them": [
        Step("serialization", OPEN, "Safe files, readable by torch code too."),
        Step("distributions.distribution", OPEN, "Shapes and checks."),
        Step("distributions.normal", OPEN, "`rsample`: a sample that gradients pass through."),
        Step("distributions.uniform", OPEN, "Formulas of one uniform number."),
        Step("distributions.bernoulli", OPEN, "Coins, and counts."),
        Step("distributions.categorical", OPEN, "One of K."),
        Step("distributions.gamma", OPEN, "Beta and Dirichlet are made of it."),
        Step("distributions.independent", OPEN, "Sums over what is independent."),
        Step("distributions.multivariate_normal", OPEN, "A normal sample times a triangle."),
        Step("distributions.kl", OPEN, "A formula for each pair."),
        Step("distributions", OPEN, "What is offered."),
        Step("page.document", OPEN, "One file that loads nothing: how a page is put together."),
        Step("page.run", OPEN, "What `watch` saw, as a page."),
        Step("watch", OPEN, "`_ill`: what makes a layer look ill, with the numbers that decide."),
        Step("showing", OPEN, "A tensor as text."),
        Step("draw.tracing", OPEN, "Which module made which operation: hooks, and the numbers of nodes."),
        Step("draw.layout", OPEN, "Layers by longest path, order by barycentres: pictures of graphs in general."),
        Step("draw.writing", OPEN, "SVG is text."),
        Step("draw.graph", OPEN, "What is worth drawing."),
        Step("draw", OPEN, "The one function."),
        Step("page.model", OPEN, "Weights in two bytes each."),
        Step("page.film", OPEN, "What `explain` heard and where `draw` puts it, side by side."),
        Step("page", OPEN, "Two functions."),
        Step("amp", OPEN, "`GradScaler`: why a factor in front of the loss, and who finds it."),
        Step("distributed", OPEN, "Why the mean of gradients is the gradient of the mean."),
        Step("kernels.loops", OPEN, "Whether compiled loops are used, and if not, why."),
        Step("kernels.compiled.compiling", OPEN, "What a loop may do, and what not."),
        Step("kernels.compiled.sharing", OPEN, "A board with a job on it, and one atomic instruction to take a part."),
        Step("kernels.compiled.jit", OPEN, "`Job`: how threads share work without waiting for each other."),
        Step("kernels.compiled.layout", OPEN, "What a loop takes."),
        Step("kernels.compiled.mathematics", OPEN, "`exp`: a whole power of two, and a polynomial for the rest."),
        Step("kernels.compiled.rows", OPEN, "`softmax_row`: the formula, once more, as a loop."),
        Step("kernels.compiled.norms", OPEN, "Two sums, then the row."),
        Step("kernels.compiled.activations", OPEN, "A formula a loop."),
        Step("kernels.compiled.columns", OPEN, "Sums in the same order for any number of threads."),
        Step("kernels.compiled.channels", OPEN, "Two passes over a channel."),
        Step("kernels.compiled.pooling", OPEN, "A window at a time."),
        Step("kernels.compiled.dropping", OPEN, "A mask is a hash."),
        Step("kernels.compiled.updates", OPEN, "AdamW in four lines."),
        Step("kernels.compiled.tiles", OPEN, "Sixteen registers of sums, and what is read to fill them."),
        Step("kernels.compiled.convolution", OPEN, "What a window sees, in the order in which a product reads it."),
        Step("kernels.compiled.products", OPEN, "Which side of a product is cut."),
        Step("kernels.compiled.blocks", OPEN, "Integers become weights in registers."),
        Step("kernels.compiled.rotary", OPEN, "Pairs, each read once."),
        Step("kernels.compiled.windows", OPEN, "Five loops, one in the other."),
        Step("kernels.compiled.attending", OPEN, "The reference's attention, an example at a time."),
        Step("kernels.compiled.gates", OPEN, "The reference's RNN, GRU and LSTM, a part of the batch at a time."),
        Step("kernels.compiled", OPEN, "The list."),
        Step("kernels.cuda.launch", OPEN, "How a kernel is compiled and started."),
        Step("kernels.cuda.products", OPEN, "How cuBLAS is told where matrices lie."),
        Step("kernels.cuda", OPEN, "A function a kernel; the kernels themselves are the .cu files beside it."),
        Step("cuda", OPEN, "`CompiledStep`: a training step as one launch."),
        Step("gradcheck.layers", OPEN, "What is checked of layers."),
        Step("gradcheck.further", OPEN, "More of them."),
        Step("gradcheck.cases", OPEN, "What is checked, a line each."),
        Step("gradcheck.complex_step", OPEN, "A derivative without a difference, right to the last digits."),
        Step("gradcheck.__main__", OPEN, "`python -m tinygrad_z2g.gradcheck`: do not believe us."),
        Step("", OPEN, "Every public name, and from where."),
        Step("info", OPEN, "`python -m tinygrad_z2g.info`: what is installed here."),
        Step("learn.source", OPEN, "How an operation's rule is found in the source."),
        Step("learn.reading", OPEN, "This list."),
        Step("learn", OPEN, "What you are using."),
        Step("learn.__main__", OPEN, "How it is printed."),
    ],
}  # fmt: skip


def steps() -> list[Step]:
    """All steps in order."""
    return [step for part in PATH.values() for step in part]


PROGRAM = """
import sys
from pathlib import Path
import numpy
lines = {}
def local(frame, event, arg):
    if event == "line":
        lines.setdefault(frame.f_code.co_filename, set()).add(frame.f_lineno)
    return local
def look(frame, event, arg):
    inside = frame.f_code.co_filename.startswith(sys.argv[1]) and frame.f_code.co_name != "<module>"
    return local if inside else None
import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.models import GPT, GPTConfig
sys.settrace(look)
model = GPT(GPTConfig(vocab_size=7, context=8, layers=2, heads=2, width=8, dropout=0.1))
optimizer = optim.AdamW(model.parameters(), lr=1e-2)
for step in range(3):
    ids = z2g.randint(0, 7, (2, 9))
    loss = model(ids[:, :-1], ids[:, 1:])[1]
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
model.eval().generate(z2g.tensor([[1]]), 5)
sys.settrace(None)
for file, numbers in lines.items():
    print(file, *sorted(numbers), sep="\\t")
"""


def lines_of_a_gpt() -> dict[str, set[int]]:
    """Which lines of functions run when a small GPT trains, is clipped, and generates: by file, in its own process.

    Plain NumPy: without the compiled loops, whose insides no trace sees.
    """
    environment = {**os.environ, "TINYGRAD_Z2G_COMPILED": "0", "TINYGRAD_Z2G_DEVICE": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", PROGRAM, str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, encoding="utf-8", check=False)
    if done.returncode:
        raise RuntimeError(f"learn path --gpt: the traced program failed: {done.stderr.strip().splitlines()[-1]}")
    rows = (line.split("\t") for line in done.stdout.splitlines())
    return {file: set(map(int, numbers)) for file, *numbers in rows}


class Question(NamedTuple):
    """What readers ask, the answer in short, and where it stands: (module, what a line there must match)."""

    question: str
    answer: str
    places: tuple[tuple[str, str], ...]


QUESTIONS = [
    Question("Where is the rule of softmax?",
             "In the last line of `softmax`, beside the result. The rule calls one kernel. `python -m "
             "tinygrad_z2g.learn softmax` shows both, with the derivation.",
             (("ops.softmax", r"^def softmax\("), ("kernels.reference", r"^def softmax_backward\("))),
    Question("Why is there a `+=`?",
             "A value used twice moves the loss along two paths, and its derivative is the sum over the paths. On the "
             "way, `arrive` adds what reaches a tensor or node. At the end `_deposit` adds to `.grad`, so two calls of "
             "backward() add up too: that is why a training loop sets gradients to None.",
             (("engine", r"^3\. \*Add\.\*"), ("engine", r"def arrive\("), ("engine", r"^def _deposit\("))),
    Question("What frees the graph?",
             "Dropping the loss: nodes point back to their inputs, never forward, so nothing else holds them and there "
             "is no cycle. And backward() itself takes each node apart as it passes, unless told to retain the graph.",
             (("engine", r"^class Node"), ("engine", r"node\.edges = node\.reads = node\.twin = None"))),
    Question("In which order does backward() visit?",
             "Youngest first. A node is numbered when made, and inputs are made before outputs, so every consumer "
             "comes before what it consumed.",
             (("engine", r"^_numbers ="), ("engine", r"^def walk\("))),
    Question("x is (3, 1), y is (4,): who sums the gradient back to (3, 1)?",
             "The engine, in one place for all operations; a rule may return the broadcast shape.",
             (("engine", r"^def match\("),)),
    Question("How does backward() notice that a tensor was changed in place?",
             "Each write counts up a version that all views of the memory share. A rule's node has noted the count of "
             "every array it will read, and compares.",
             (("ops.inplace", r"^    x\.version\[0\] \+= 1"), ("engine", r"if version\[0\] != count:"))),
    Question("What does no_grad() switch off?",
             "One flag, per thread. `record` looks at it, and leaves no node behind.",
             (("modes", r"^class no_grad\("), ("engine", r"^def record\("))),
    Question("Where do x + y and x.softmax(0) come from?",
             "From a table in the class: each operation is a function, given its method's or operator's name there.",
             (("tensor", r"add = __add__ = "), ("tensor", r"    softmax = "))),
    Question("How does an optimizer change a weight that requires grad?",
             "Under no_grad(), in place, counted as a write. SGD's rule is one line, Adam's a kernel.",
             (("optim.optimizer", r"    def step\("), ("kernels.reference", r"^def sgd\("),
              ("kernels.reference", r"^def adam\("))),
]  # fmt: skip


def locate(module: str, pattern: str) -> str:
    """Where the one line of a module that matches stands. LookupError unless there is exactly one."""
    path = path_of(module)
    lines = path.read_text(encoding="utf-8").splitlines()
    hits = [i for i, line in enumerate(lines, 1) if re.search(pattern, line)]
    if len(hits) != 1:
        raise LookupError(f"learn: {len(hits)} lines of {path.name} match {pattern!r}, expected one")
    return title(path, hits[0])
